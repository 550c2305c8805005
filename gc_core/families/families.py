"""What families are: their members, and how each is turned.

Letters: F features, M members of a family.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core.groups import FiniteGroup, Subgroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Families:
    """Which family each feature belongs to, and how it is turned in it."""

    family_F: NDArray[np.int64]
    """Families by size, the largest 0; -1 for a feature alone."""
    pose_F: NDArray[np.int64]
    """Turning j's stimulus by its pose h gives the prototype's, which stands as the representative's; 0 when alone."""
    representative_F: NDArray[np.int64]
    """The member most similar to the others; the feature itself when alone."""
    similarity_F: NDArray[np.float32]
    """Similarity to the family's prototype, in this pose; NaN when alone."""
    consistency_F: NDArray[np.float32]
    """Consistency of the family, as in `Cluster`; NaN when alone."""
    place_F2: NDArray[np.float32]
    """Place on a map of all features; NaN for one without neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One family of at least two."""

    member_M: NDArray[np.int64]
    """Ascending."""
    pose_M: NDArray[np.int64]
    """Pose of each member, as in `Families`."""
    similarity_M: NDArray[np.float32]
    representative: int
    consistency: float = np.nan
    """Whether poses agree round every circle of three, prototype and two neighbours: 1 where all close, 0 where what is
    left over turns the prototype's changing part into something unrelated; NaN where nobody looked."""


def shown_poses(families: Families, stabilisers: Sequence[Subgroup], group: FiniteGroup) -> NDArray[np.int64]:
    """(F,) by how much each feature's stimulus is turned against its representative's.

    Turning a stimulus by p and by p s looks the same where s is in the representative's stabiliser, so of the coset
    the smallest element is taken.
    """
    turned_F = group.inverse[families.pose_F]
    pairs = zip(turned_F.tolist(), families.representative_F.tolist(), strict=True)
    smallest = [min(group.cayley[turned, list(stabilisers[of].elements)]) for turned, of in pairs]
    return np.array(smallest, np.int64)


def coverage(families: Families, stabilisers: Sequence[Subgroup], group: FiniteGroup) -> NDArray[np.float32]:
    """(F,) share of the group's elements that are a pose of some member of the feature's family, up to the
    representative's stabiliser: 1 where every turned copy is there; NaN when alone."""
    share_F = np.full(len(families.family_F), np.nan, np.float32)
    for representative in np.unique(families.representative_F[families.family_F >= 0]).tolist():
        member_M = np.flatnonzero(families.representative_F == representative)
        same = list(stabilisers[representative].elements)
        covered = np.unique(group.cayley[np.ix_(group.inverse[families.pose_F[member_M]], same)])
        share_F[member_M] = len(covered) / group.order
    return share_F


def numbered(clusters: Sequence[Cluster], num_features: int, place_F2: NDArray[np.float32] | None = None) -> Families:
    """All families of a dictionary, by size, and where on the map its features lie, if anybody knows."""
    family_F, pose_F = np.full(num_features, -1, np.int64), np.zeros(num_features, np.int64)
    representative_F = np.arange(num_features)
    similarity_F, consistency_F = np.full((2, num_features), np.nan, np.float32)
    for number, each in enumerate(by_size(clusters)):
        family_F[each.member_M], representative_F[each.member_M] = number, each.representative
        pose_F[each.member_M], similarity_F[each.member_M] = each.pose_M, each.similarity_M
        consistency_F[each.member_M] = each.consistency
    return Families(
        family_F=family_F,
        pose_F=pose_F,
        representative_F=representative_F,
        similarity_F=similarity_F,
        consistency_F=consistency_F,
        place_F2=np.full((num_features, 2), np.nan, np.float32) if place_F2 is None else place_F2,
    )


def by_size(clusters: Iterable[Cluster]) -> list[Cluster]:
    """The largest first; of equal ones that of the first feature."""
    return sorted(clusters, key=lambda one: (-len(one.member_M), one.member_M[0]))
