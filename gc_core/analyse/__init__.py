"""Stage 3: from a trained crosscoder to a table of its features: symmetry, families, density, top examples."""

from gc_core.analyse.artefacts import faults_of_artefacts
from gc_core.analyse.features import FeatureSymmetry, describe_features, similarity_rows
from gc_core.analyse.firing import Firing, merge_firing, watch_shards
from gc_core.analyse.table import fault_of_features, load_features, write_features

__all__ = [
    "FeatureSymmetry",
    "Firing",
    "describe_features",
    "fault_of_features",
    "faults_of_artefacts",
    "load_features",
    "merge_firing",
    "similarity_rows",
    "watch_shards",
    "write_features",
]
