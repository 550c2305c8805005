"""Stage 3: from a trained crosscoder to a table of its features: symmetry, families, density, top examples."""

from gc_core.analyse.artefacts import faults_of_artefacts, not_protected
from gc_core.analyse.features import (
    FeatureSymmetry,
    Judged,
    describe_features,
    evidence_of_features,
    judge,
    summed_alignment,
)
from gc_core.analyse.firing import Firing, merge_firing, watch_shards
from gc_core.analyse.table import fault_of_features, load_features, write_features

__all__ = [
    "FeatureSymmetry",
    "Firing",
    "Judged",
    "describe_features",
    "evidence_of_features",
    "fault_of_features",
    "faults_of_artefacts",
    "judge",
    "load_features",
    "merge_firing",
    "not_protected",
    "summed_alignment",
    "watch_shards",
    "write_features",
]
