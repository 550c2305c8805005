"""How a feature behaves under the group: similarity to its transformed self, and which of it is more than chance."""

from gc_core.symmetry.classes import SubgroupClass, classes
from gc_core.symmetry.evidence import Evidence, alignment_of, evidence_of, features_at_once
from gc_core.symmetry.similarity import (
    block_steps,
    changing_part,
    in_words,
    invariant_energy_share,
    self_similarity,
    spectrum,
    transform_block_curve,
    translate,
    translation_products,
)
from gc_core.symmetry.verdict import UNDECIDED, Verdict, decide, verdicts

__all__ = [
    "UNDECIDED",
    "Evidence",
    "SubgroupClass",
    "Verdict",
    "alignment_of",
    "block_steps",
    "changing_part",
    "classes",
    "decide",
    "evidence_of",
    "features_at_once",
    "in_words",
    "invariant_energy_share",
    "self_similarity",
    "spectrum",
    "transform_block_curve",
    "translate",
    "translation_products",
    "verdicts",
]
