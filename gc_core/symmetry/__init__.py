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
from gc_core.symmetry.tuning import (
    Agreement,
    Tuning,
    agreement,
    dealt_similarity,
    merged,
    selectivity,
    shown_group,
    similarity_over,
    steady_share,
    tuned_similarity,
    tuned_subgroup,
    tuning_of,
)
from gc_core.symmetry.verdict import UNDECIDED, Verdict, decide, verdicts

__all__ = [
    "UNDECIDED",
    "Agreement",
    "Evidence",
    "SubgroupClass",
    "Tuning",
    "Verdict",
    "agreement",
    "alignment_of",
    "block_steps",
    "changing_part",
    "classes",
    "dealt_similarity",
    "decide",
    "evidence_of",
    "features_at_once",
    "in_words",
    "invariant_energy_share",
    "merged",
    "selectivity",
    "self_similarity",
    "shown_group",
    "similarity_over",
    "spectrum",
    "steady_share",
    "transform_block_curve",
    "translate",
    "translation_products",
    "tuned_similarity",
    "tuned_subgroup",
    "tuning_of",
    "verdicts",
]
