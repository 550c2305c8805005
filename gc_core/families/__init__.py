"""Features that are transformed copies of one another: similarity over all poses, and families made of it."""

from gc_core.families.communities import communities, placed
from gc_core.families.families import Cluster, Families, by_size, coverage, numbered, shown_poses
from gc_core.families.gaps import Gap, family_gaps, gaps
from gc_core.families.linkage import clusters_of, group_families
from gc_core.families.neighbours import Dictionary, Neighbours, Source, mutual, nearest
from gc_core.families.posed import family_of
from gc_core.families.search import MOST_NEIGHBOURS, blocks, find_families, sketched, within
from gc_core.families.similarity import best_poses, family_similarity, unit

__all__ = [
    "MOST_NEIGHBOURS",
    "Cluster",
    "Dictionary",
    "Families",
    "Gap",
    "Neighbours",
    "Source",
    "best_poses",
    "blocks",
    "by_size",
    "clusters_of",
    "communities",
    "coverage",
    "family_gaps",
    "family_of",
    "family_similarity",
    "find_families",
    "gaps",
    "group_families",
    "mutual",
    "nearest",
    "numbered",
    "placed",
    "shown_poses",
    "sketched",
    "unit",
    "within",
]
