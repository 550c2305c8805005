"""How well what was planted was found: each score a function of arrays, which knows neither models nor trainings.

Planted features are matched one to one with learned ones (Hungarian method). Partners that have less than half of the
energy in common are none, or else tied poses, which are families whatever they learn, would score 1. A planted family
is then found in the learned family that most of its features are matched into.

Letters: F planted features, L learned features, P planted families, N occurrences of a family in samples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from gc_core.groups import Group, Subgroup
from gc_core.symmetry import UNDECIDED

UNMATCHED = -1
LEAST_COSINE = 0.5**0.5
"""Of a planted feature with its partner."""


def match(cosine_FL: NDArray[np.float32]) -> NDArray[np.int64]:
    """(F,) the learned feature of each planted one, each of at most one, so that the sum of cosines is largest;
    `UNMATCHED` where there are too few, or its cosine is below `LEAST_COSINE`."""
    partner_F = np.full(len(cosine_FL), UNMATCHED)
    planted, learned = linear_sum_assignment(cosine_FL, maximize=True)
    near = cosine_FL[planted, learned] >= LEAST_COSINE
    partner_F[planted[near]] = learned[near]
    return partner_F


def mean_max_cosine(cosine_FL: NDArray[np.float32]) -> float:
    """Mean over planted features of the largest cosine with any learned one: 1 where each is found exactly."""
    return float(cosine_FL.max(1, initial=0.0).mean())


def family_ari(family_F: NDArray[np.int64], label_L: NDArray[np.int64], partner_F: NDArray[np.int64]) -> float:
    """Adjusted Rand index of the planted families and those of their partners, over the planted features: 1 where both
    divide them alike, 0 as by chance. One without a partner is a family of its own."""
    return float(adjusted_rand_score(family_F, _labels(label_L, partner_F)))


def found_in(family_F: NDArray[np.int64], label_L: NDArray[np.int64], partner_F: NDArray[np.int64]) -> list[int | None]:
    """Of each planted family the learned one that most of its features are matched into, the smaller number of equal
    ones; None where no feature is matched."""
    learned: list[int | None] = []
    for family in range(int(family_F.max(initial=-1)) + 1):
        partners = partner_F[(family_F == family) & (partner_F != UNMATCHED)]
        labels, counts = np.unique(label_L[partners], return_counts=True)
        learned.append(int(labels[counts.argmax()]) if len(labels) else None)
    return learned


def nearest_family(cosine_FR: NDArray[np.float32], family_F: NDArray[np.int64]) -> NDArray[np.int64]:
    """(R,) the planted family that each learned feature is nearest to; `UNMATCHED` below `LEAST_COSINE` of all."""
    return np.where(cosine_FR.max(0, initial=0.0) >= LEAST_COSINE, family_F[cosine_FR.argmax(0)], UNMATCHED)


def learned_family_ari(nearest_R: NDArray[np.int64], label_R: NDArray[np.int64]) -> float:
    """Adjusted Rand index over the learned features: are those that are there grouped right, however many are missing?
    One that is near nothing planted should be alone."""
    alone_R = nearest_R.max(initial=-1) + 1 + np.arange(len(nearest_R))
    return float(adjusted_rand_score(np.where(nearest_R == UNMATCHED, alone_R, nearest_R), label_R))


def learned_stabiliser_accuracy(nearest_R: NDArray[np.int64], words_P: Sequence[str], words_R: Sequence[str]) -> float:
    """Share of learned features that have the words of the family that they are nearest to, `none` where there is no
    such; 0 of no features."""
    expected = ["none" if family == UNMATCHED else words_P[family] for family in nearest_R]
    right = [word == told for word, told in zip(expected, words_R, strict=True)]
    return float(np.mean(right)) if right else 0.0


def stabiliser_accuracy(
    family_F: NDArray[np.int64], words_P: Sequence[str], words_L: Sequence[str], partner_F: NDArray[np.int64]
) -> float:
    """Share of planted features whose partner is given the words of their family, each family counted alike: the mean
    over families of the mean over their features. A feature without a partner is wrong, and so is `undecided`."""
    right_F = np.array(
        [
            partner != UNMATCHED and words_L[partner] == words_P[family]
            for family, partner in zip(family_F, partner_F, strict=True)
        ]
    )
    return float(np.mean([right_F[family_F == family].mean() for family in np.unique(family_F)]))


def axis_accuracy(
    planted_F: Sequence[Subgroup],
    pose_F: NDArray[np.int64],
    told_F: Sequence[Subgroup],
    turn_F: NDArray[np.int64],
    group: Group,
) -> float | None:
    """Of planted features with some mirrors, not all, whose class was told right: the share whose axis is right too,
    None without any. The subgroups are of features that stand turned, the one by `pose_F`, the other by `turn_F`."""
    right = [
        conjugated(mine, pose, group) == conjugated(told, turn, group)
        for mine, pose, told, turn in zip(planted_F, pose_F, told_F, turn_F, strict=True)
        if mine.name == told.name and mine.axis_deg is not None and mine.order < group.order
    ]
    return float(np.mean(right)) if right else None


def conjugated(subgroup: Subgroup, pose: int, group: Group) -> frozenset[int]:
    """Elements of p H p^-1: what leaves a feature as it is that H did before it was turned by p."""
    return frozenset(group.cayley[group.cayley[pose, list(subgroup.elements)], group.inverse[pose]].tolist())


def false_positive_rate(words_L: Sequence[str]) -> float:
    """Share of features, where none has a symmetry, that are given one; nothing learned has none."""
    return float(np.mean([word not in ("none", UNDECIDED) for word in words_L])) if len(words_L) else 0.0


def steps_between(first: NDArray[np.int64], second: NDArray[np.int64], group: Group) -> NDArray[np.int64]:
    """Rotations by which pictures in these poses differ, 0 to n / 2; n / 2 also where one is mirrored and the other is
    not, whatever the angle."""
    apart = group.cayley[first, group.inverse[second]]
    turns = group.turns[apart]
    return np.where(group.mirrored[apart], group.n // 2, np.minimum(turns, group.n - turns))


def pose_errors(
    told_N: NDArray[np.int64], truth_N: NDArray[np.int64], stabiliser: Subgroup, group: Group
) -> NDArray[np.int64]:
    """(N,) steps by which each told pose of one family is off: 0 to n / 2, which is also that of -1, not found.

    Poses that the stabiliser takes into one another are the same. A learned family's first pose is its own choice, so
    all told poses may be turned by one element; it is the one that makes the mean error least.
    """
    found_N = told_N >= 0
    same_NS = group.cayley[truth_N[:, None], list(stabiliser.elements)]
    error_HN = np.stack(
        [steps_between(group.cayley[told_N, h][:, None], same_NS, group).min(1) for h in range(group.order)]
    )
    error_HN[:, ~found_N] = group.n // 2
    return error_HN[error_HN.mean(1).argmin()]


def _labels(label_L: NDArray[np.int64], partner_F: NDArray[np.int64]) -> NDArray[np.int64]:
    alone_F = label_L.max(initial=-1) + 1 + np.arange(len(partner_F))
    if not len(label_L):
        return alone_F
    return np.where(partner_F == UNMATCHED, alone_F, label_L[partner_F])
