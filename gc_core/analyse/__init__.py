"""Stage 3: from a trained crosscoder to a table of its features: symmetry, families, density, top examples."""

from gc_core.analyse.artefacts import faults_of_artefacts, not_protected
from gc_core.analyse.features import (
    AssembledSimilarities,
    FeatureSymmetry,
    Judged,
    band_of_pairs,
    band_of_similarities,
    bands,
    describe_features,
    evidence_of_features,
    families_within,
    judge,
    summed_alignment,
    symmetry_of_all,
)
from gc_core.analyse.firing import Firing, merge_firing, watch_shards
from gc_core.analyse.table import fault_of_features, load_features, write_features

__all__ = [
    "AssembledSimilarities",
    "FeatureSymmetry",
    "Firing",
    "Judged",
    "band_of_pairs",
    "band_of_similarities",
    "bands",
    "describe_features",
    "evidence_of_features",
    "families_within",
    "fault_of_features",
    "faults_of_artefacts",
    "judge",
    "load_features",
    "merge_firing",
    "not_protected",
    "summed_alignment",
    "symmetry_of_all",
    "watch_shards",
    "write_features",
]
