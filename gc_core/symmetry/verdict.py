"""Which symmetry each feature is said to have: false discovery controlled over features, and words.

Letters: F features, G group elements, C channels, Q classes of subgroups, J frequencies, L those that are lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gc_core.groups import FiniteGroup, Group, Subgroup
from gc_core.symmetry.classes import SubgroupClass, classes
from gc_core.symmetry.evidence import SURROGATES, Evidence, evidence_of, shares_of_members
from gc_core.symmetry.harmonics import degrees_of_freedom, is_complex
from gc_core.symmetry.similarity import in_words

RATE = 0.05
STRUCTURED, LEAST_LOSS = 3.0, 1e-6
"""Fewer turns are a feature's own where they keep so many times more energy than noise, and at least this share of the
changing energy, that more turns lose."""
UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The symmetry of one feature."""

    subgroup: Subgroup
    """The whole group where `words` is `invariant`; else the changing part's stabiliser."""
    changing_subgroup: Subgroup
    """The stabiliser of the feature's changing part, whatever `words` says."""
    score: float
    """Mean self-similarity of the changing part over its stabiliser without the identity; 1 is exact symmetry, 0 where
    the stabiliser is the identity alone."""
    weakest: float
    """The least self-similarity among those elements."""
    low: float
    """Ends of the 95% interval of the score, of channels drawn again; 0 where the stabiliser is the identity alone."""
    high: float
    p: float
    """p-value of the stabiliser's strength by chance; where it is the identity alone, the least of all strong classes',
    1 without any."""
    words: str
    """`invariant`, `mirror`, `2-fold`, `2-fold with mirrors`, `chiral 4-fold`, `4-fold with mirrors`, ... or `none`;
    `undecided` where one is strong, but would not be told from chance if it were exact; also instead of `chiral`, where
    that is so of mirrors. Over a group that is not of the plane, `subgroup of order 3`."""


def verdicts(
    decoder_FGC: Tensor,
    group: FiniteGroup,
    *,
    threshold: float,
    invariant_share: float,
    rate: float = RATE,
    surrogates: int = SURROGATES,
    seed: int = 0,
) -> list[Verdict]:
    """`decide` on the evidence of these features alone."""
    evidence = evidence_of(decoder_FGC, group, surrogates=surrogates, seed=seed)
    return decide(evidence, group, threshold=threshold, invariant_share=invariant_share, rate=rate)


def decide(
    evidence: Evidence,
    group: FiniteGroup,
    *,
    threshold: float,
    invariant_share: float,
    rate: float = RATE,
    tested_F: NDArray[np.bool_] | None = None,
) -> list[Verdict]:
    """The largest subgroup that keeps each feature's changing part, both strong and significant; of equal ones the
    better.

    Most features carry a large part that no element changes (a unit active for a curve is active for the turned curve
    too), and that part is similar to itself under everything. So the *changing* part decides, however small; where less
    than 1 - `invariant_share` of the energy changes, the feature is called invariant. Strong is a subgroup *every*
    element of which is above the threshold, for in a mean exact elements would carry wrong ones: two mirrors of
    similarity 1 a weak half turn. Significant it is by Benjamini-Hochberg at `rate`, over all classes of all features
    (of `tested_F`, where only some are of interest); with a rate of 1 all are.
    """
    level = significance_level(evidence.p_FQ if tested_F is None else evidence.p_FQ[tested_F], rate)
    return [
        _verdict(evidence, feature, group, threshold, invariant_share, rate, level)
        for feature in range(len(evidence.p_FQ))
    ]


def significance_level(p_FQ: NDArray[np.float64], rate: float) -> float:
    """The largest p-value that is significant (Benjamini & Hochberg 1995): k of them are at most rate * k / number, and
    of those are, false ones are at most this rate in the mean. Negative where none is."""
    ordered = np.sort(p_FQ, axis=None)
    passed = ordered <= rate * np.arange(1, ordered.size + 1) / max(1, ordered.size)
    return float(ordered[passed].max(initial=-1.0))


def _verdict(
    evidence: Evidence,
    feature: int,
    group: FiniteGroup,
    threshold: float,
    invariant_share: float,
    rate: float,
    level: float,
) -> Verdict:
    strong_Q = evidence.strength_FQ[feature] >= threshold
    found_Q = strong_Q & (evidence.p_FQ[feature] <= level)
    if found_Q.any():
        chosen = _largest(evidence, feature, group, found_Q, rate)
        verdict = _of_class(evidence, feature, chosen, group)
        if _hides_mirrors(classes(group)[chosen], classes(group), strong_Q & (evidence.exact_p_FQ[feature] > rate)):
            verdict = replace(verdict, words=UNDECIDED)
    else:
        verdict = _without(evidence, feature, group, strong_Q, rate)
    if evidence.invariant_share_F[feature] >= invariant_share:
        whole = group.subgroups()[-1]
        return replace(verdict, subgroup=whole, words=in_words(whole, group))
    return verdict


def _hides_mirrors(chosen: SubgroupClass, among: Sequence[SubgroupClass], hidden_Q: NDArray[np.bool_]) -> bool:
    """Whether "chiral" would say more than is known: the mirrors are there, and could be by chance."""
    return (
        not chosen.has_mirrors
        and chosen.num_rotations > 2
        and any(
            hidden and one.has_mirrors and one.num_rotations == chosen.num_rotations
            for hidden, one in zip(hidden_Q, among, strict=True)
        )
    )


def _largest(evidence: Evidence, feature: int, group: FiniteGroup, found_Q: NDArray[np.bool_], rate: float) -> int:
    """The largest class of those found, unless what it loses has a symmetry of its own: then that one.

    Smoothness makes what repeats exactly every quarter turn repeat roughly every eighth, and yet it is no imperfect
    8-fold feature. What an imperfect symmetry leaves over is noise, and fewer turns keep no more of noise than their
    share. Over groups that are not of the plane nothing is smooth, and the largest is taken.
    """
    order = np.array([one.order for one in classes(group)])
    candidates = sorted(np.flatnonzero(found_Q), key=lambda q: (order[q], evidence.strength_FQ[feature, q]))
    chosen = int(candidates.pop())
    while rate < 1 and candidates:
        smaller = int(candidates.pop())
        if _keeps_what_is_lost(evidence, feature, group, smaller, chosen):
            chosen = smaller
    return chosen


def _keeps_what_is_lost(evidence: Evidence, feature: int, group: FiniteGroup, smaller: int, larger: int) -> bool:
    mine, theirs = (group.subgroups()[evidence.subgroup_FQ[feature, q]] for q in (smaller, larger))
    if not isinstance(group, Group):
        return False
    alike = classes(group)[smaller].has_mirrors == classes(group)[larger].has_mirrors
    if not alike or not {*mine.elements} < {*theirs.elements}:
        return False
    lost, noise = lost_energy(evidence.similarity_FG[feature], group, mine.num_rotations, theirs.num_rotations)
    return lost >= LEAST_LOSS and lost >= STRUCTURED * noise


def lost_energy(similarity_G: NDArray[np.float64], group: Group, fewer: int, more: int) -> tuple[float, float]:
    """Share of the changing energy that repeats `fewer` times in a turn but not `more` times, and how much of it noise
    has: as much a number as at the frequencies beside. None where `fewer` is 1, which has no frequencies beside it."""
    if fewer == 1:
        return 0.0, 0.0
    frequency_J = np.arange(group.n // 2 + 1)
    freedom_J = degrees_of_freedom(group)
    energy_J = np.maximum(np.fft.rfft(similarity_G[: group.n]).real, 0) * np.where(is_complex(group.n), 2, 1) / group.n
    lost_L = np.flatnonzero((frequency_J % fewer == 0) & (frequency_J % more != 0))
    beside_2L = np.stack([lost_L - 1, group.n // 2 - np.abs(group.n // 2 - lost_L - 1)])
    beside_L = energy_J[beside_2L].sum(0) / freedom_J[beside_2L].sum(0)
    return float(energy_J[lost_L].sum()), float((beside_L * freedom_J[lost_L]).sum())


def _of_class(evidence: Evidence, feature: int, q: int, group: FiniteGroup) -> Verdict:
    number = int(evidence.subgroup_FQ[feature, q])
    subgroup = group.subgroups()[number]
    return Verdict(
        subgroup=subgroup,
        changing_subgroup=subgroup,
        score=float(shares_of_members(group)[number] @ evidence.similarity_FG[feature]),
        weakest=float(evidence.strength_FQ[feature, q]),
        low=float(evidence.low_FQ[feature, q]),
        high=float(evidence.high_FQ[feature, q]),
        p=float(evidence.p_FQ[feature, q]),
        words=in_words(subgroup, group),
    )


def _without(evidence: Evidence, feature: int, group: FiniteGroup, strong_Q: NDArray[np.bool_], rate: float) -> Verdict:
    identity = group.subgroups()[0]
    hidden = bool((strong_Q & (evidence.exact_p_FQ[feature] > rate)).any())
    return Verdict(
        subgroup=identity,
        changing_subgroup=identity,
        score=0.0,
        weakest=0.0,
        low=0.0,
        high=0.0,
        p=float(evidence.p_FQ[feature][strong_Q].min(initial=1.0)),
        words=UNDECIDED if hidden else in_words(identity, group),
    )
