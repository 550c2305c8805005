"""Stage 3: from a trained crosscoder to a table of its features: symmetry, families, density, top examples."""

from gc_core.analyse.artefacts import faults_of_artefacts, not_protected
from gc_core.analyse.features import (
    AssembledSimilarities,
    FeatureSymmetry,
    band_of_pairs,
    band_of_similarities,
    bands,
    describe_features,
    families_within,
)
from gc_core.analyse.firing import Firing, merge_firing, watch_shards
from gc_core.analyse.table import fault_of_features, load_features, write_features

__all__ = [
    "AssembledSimilarities",
    "FeatureSymmetry",
    "Firing",
    "band_of_pairs",
    "band_of_similarities",
    "bands",
    "describe_features",
    "families_within",
    "fault_of_features",
    "faults_of_artefacts",
    "load_features",
    "merge_firing",
    "not_protected",
    "watch_shards",
    "write_features",
]
