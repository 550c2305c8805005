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
from gc_core.analyse.shown import why_not_shown
from gc_core.analyse.table import fault_of_features, load_features, write_features
from gc_core.analyse.tuning import Tuned, not_tuned, tuned

__all__ = [
    "FeatureSymmetry",
    "Firing",
    "Judged",
    "Tuned",
    "describe_features",
    "evidence_of_features",
    "fault_of_features",
    "faults_of_artefacts",
    "judge",
    "load_features",
    "merge_firing",
    "not_protected",
    "not_tuned",
    "summed_alignment",
    "tuned",
    "watch_shards",
    "why_not_shown",
    "write_features",
]
