"""How a feature behaves under the group: similarity to its transformed self, and which of it is more than chance."""

from gc_core.symmetry.evidence import Evidence, evidence_of
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
from gc_core.symmetry.verdict import Verdict, decide, verdicts

__all__ = [
    "Evidence",
    "Verdict",
    "block_steps",
    "changing_part",
    "decide",
    "evidence_of",
    "in_words",
    "invariant_energy_share",
    "self_similarity",
    "spectrum",
    "transform_block_curve",
    "translate",
    "translation_products",
    "verdicts",
]
