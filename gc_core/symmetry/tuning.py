"""What features do when stimuli are turned and mirrored before their eyes: tuning curves, and the symmetry in them.

A stimulus s is shown under every element l of a group that holds the crosscoder's own, with finer turns between:
`t[s, l]`, a feature's response to l.s. If the feature has the symmetry h, it cannot tell l.s from h.l.s, so
t[s, h l] = t[s, l]: the *tuned similarity* of h is the cosine of both, of what changes with l, over all stimuli.
A stimulus that is the same under h itself says nothing about h, and does not count there: every response to a line
repeats after half a turn.

Letters: F features, S stimuli, L elements under which stimuli are shown, G group elements, K kinds, N some features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core import groups
from gc_core.groups import Group, Subgroup

LEAST_ANGLES = 24
"""Steps of 15 degrees, or finer where the group's own are."""
LEAST_TOLD = 0.05
"""Share of a feature's changing response that must be to stimuli that can show a symmetry, or nothing is said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Responses to some stimuli, as sums that are merged; rows are features."""

    largest_F: NDArray[np.float32]
    """Largest response."""
    stimulus_F: NDArray[np.int64]
    """Number of the stimulus that gives it; -1 where nothing gives any."""
    curve_FL: NDArray[np.float32]
    """Response to that stimulus under each element."""
    product_FG: NDArray[np.float64]
    """Sum over stimuli that can show h, and elements l, of the changing parts of t[s, l] and t[s, h l]."""
    told_FG: NDArray[np.float64]
    """Sum of the squared changing parts of the same."""
    changing_F: NDArray[np.float64]
    """Sum of the squared changing parts, of all stimuli."""
    steady_F: NDArray[np.float64]
    """Sum of the squared means over elements, once for each element; of stimuli that are not the same under all."""
    activity_FK: NDArray[np.float64]
    """Sum over the stimuli of each kind of the mean response."""


def shown_group(group: Group) -> Group:
    """The elements under which stimuli are shown: `group` itself or finer turns of it, mirrored too if it mirrors."""
    times = -(-LEAST_ANGLES // group.n)
    return groups.dihedral(group.n * times) if group.has_mirrors else groups.cyclic(group.n * times)


def tuning_of(
    response_FL: NDArray[np.float32],
    group: Group,
    *,
    stimulus: int,
    kind: int,
    num_kinds: int,
    same_L: NDArray[np.bool_],
) -> Tuning:
    """Responses to one stimulus under every element of `shown_group(group)`, of a kind numbered so; `same_L` tells
    under which of them it is the same picture."""
    shown = shown_group(group)
    own_G = groups.embed(group, shown)
    mean_F = response_FL.mean(1, dtype=np.float64)
    changing_FL = response_FL - mean_F[:, None]
    energy_F = np.square(changing_FL).sum(1)
    can_show_G = ~_same_whatever_comes_before(shown, own_G, same_L)
    product_FG = np.zeros((len(response_FL), group.order))
    for g in np.flatnonzero(can_show_G):
        product_FG[:, g] = np.einsum("fl,fl->f", changing_FL, changing_FL[:, shown.cayley[own_G[g]]])
    activity_FK = np.zeros((len(response_FL), num_kinds))
    activity_FK[:, kind] = mean_F
    largest_F = response_FL.max(1)
    return Tuning(
        largest_F=largest_F,
        stimulus_F=np.where(largest_F > 0, stimulus, -1),
        curve_FL=response_FL,
        product_FG=product_FG,
        told_FG=energy_F[:, None] * can_show_G,
        changing_F=energy_F,
        steady_F=shown.order * mean_F**2 * float(not same_L.all()),
        activity_FK=activity_FK,
    )


def merged(one: Tuning, other: Tuning) -> Tuning:
    """Responses to the stimuli of both; of equal responses the first is kept."""
    better_F = other.largest_F > one.largest_F
    return Tuning(
        largest_F=np.maximum(one.largest_F, other.largest_F),
        stimulus_F=np.where(better_F, other.stimulus_F, one.stimulus_F),
        curve_FL=np.where(better_F[:, None], other.curve_FL, one.curve_FL),
        product_FG=one.product_FG + other.product_FG,
        told_FG=one.told_FG + other.told_FG,
        changing_F=one.changing_F + other.changing_F,
        steady_F=one.steady_F + other.steady_F,
        activity_FK=one.activity_FK + other.activity_FK,
    )


def tuned_similarity(tuning: Tuning) -> NDArray[np.float64]:
    """(F, G) how alike responses to l.s and h.l.s are, -1 to 1; NaN where too little of what the feature responds to
    could show it."""
    told_FG = tuning.told_FG >= np.maximum(LEAST_TOLD * tuning.changing_F, np.finfo(np.float64).tiny)[:, None]
    ratio_FG = np.full(told_FG.shape, np.nan)
    np.divide(tuning.product_FG, tuning.told_FG, out=ratio_FG, where=told_FG)
    ratio_FG[tuning.changing_F > 0, 0] = 1.0  # the identity, which nothing needs to show
    return ratio_FG


def steady_share(tuning: Tuning) -> NDArray[np.float64]:
    """(F,) share of the squared response that no turn or mirror changes, 0 to 1, of stimuli that are not the same
    under all; NaN without a response to any."""
    total_F = tuning.steady_F + tuning.changing_F
    return np.divide(tuning.steady_F, total_F, out=np.full(len(total_F), np.nan), where=total_F > 0)


def selectivity(curve_FL: NDArray[np.float32]) -> NDArray[np.float64]:
    """(F,) 1 - mean / largest of a tuning curve: 0 where it is flat, near 1 where one orientation alone drives the
    feature; NaN without a response."""
    largest_F = curve_FL.max(1).astype(np.float64)
    ratio_F = np.full(len(curve_FL), np.nan)
    return 1 - np.divide(curve_FL.mean(1, dtype=np.float64), largest_F, out=ratio_F, where=largest_F > 0)


def tuned_subgroup(
    similarity_G: NDArray[np.float64], steady: float, group: Group, *, threshold: float, invariant_share: float
) -> Subgroup | None:
    """The largest subgroup every element of which has at least this tuned similarity, of equal ones that whose least is
    largest: period and mirrors of the responses; the whole group where they are as steady as that. None where an
    element's similarity is not known."""
    if steady >= invariant_share:
        return group.subgroups()[-1]
    if np.isnan(similarity_G).any():
        return None
    weakest = [float(similarity_G[list(each.elements[1:])].min(initial=np.inf)) for each in group.subgroups()]
    strong = [(each.order, least, each) for each, least in zip(group.subgroups(), weakest, strict=True)]
    return max((each for each in strong if each[1] >= threshold), key=lambda each: each[:2])[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How often two descriptions of the same features are the same, and how often by chance."""

    num_features: int
    same: float
    """Share of features."""
    dealt: float
    """The same with one description dealt out at random over the features, in the mean over all deals."""

    @property
    def beyond_chance(self) -> float | None:
        """Cohen's kappa: 1 where all are the same, 0 as by chance; None where chance alone makes all the same."""
        return None if self.dealt >= 1 else (self.same - self.dealt) / (1 - self.dealt)


def agreement(named: Sequence[Subgroup | None], tuned: Sequence[Subgroup | None]) -> Agreement | None:
    """Of period and mirrors, that is of a subgroup's name, where both are known; None where they never are."""
    pairs = [(one.name, other.name) for one, other in zip(named, tuned, strict=True) if one and other]
    if not pairs:
        return None
    names = sorted({name for pair in pairs for name in pair})
    one_N, other_N = (np.array([names.index(pair[side]) for pair in pairs]) for side in (0, 1))
    share_one, share_other = (np.bincount(each, minlength=len(names)) / len(pairs) for each in (one_N, other_N))
    return Agreement(
        num_features=len(pairs), same=float((one_N == other_N).mean()), dealt=float(share_one @ share_other)
    )


def similarity_over(similarity_FG: NDArray[np.float64], subgroups: Sequence[Subgroup | None]) -> NDArray[np.float64]:
    """(F,) mean similarity over each feature's subgroup without the identity; NaN without a subgroup, of the identity
    alone, and where an element's similarity is not known."""
    return np.array(
        [
            similarity_G[list(each.elements[1:])].mean() if each and each.order > 1 else np.nan
            for similarity_G, each in zip(similarity_FG, subgroups, strict=True)
        ]
    )


def dealt_similarity(similarity_FG: NDArray[np.float64], subgroups: Sequence[Subgroup | None]) -> float | None:
    """The mean of `similarity_over` with subgroups dealt out at random, over all deals; of features where it is a
    number, and None without any."""
    counted = np.flatnonzero(~np.isnan(similarity_over(similarity_FG, subgroups)) & ~np.isnan(similarity_FG).any(1))
    if not len(counted):
        return None
    share_G = np.zeros(similarity_FG.shape[1])
    for each in (subgroups[feature] for feature in counted.tolist()):
        assert each is not None, "it was counted"
        share_G[list(each.elements[1:])] += 1 / (each.order - 1) / len(counted)
    return float(similarity_FG[counted].mean(0) @ share_G)


def _same_whatever_comes_before(shown: Group, own_G: NDArray[np.int64], same_L: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(G,) elements h with h.l.s = l.s for every l: l^-1 h l leaves the stimulus s as it is."""
    every_L = np.arange(shown.order)
    conjugate_GL = shown.cayley[shown.inverse[every_L], shown.cayley[own_G[:, None], every_L]]
    return np.asarray(same_L[conjugate_GL].all(1))
