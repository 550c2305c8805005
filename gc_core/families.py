"""Features that are transformed copies of one another: similarity over all poses, and families made of it.

s(i, j) = max over h of cos(D_i, rho(h) D_j); the h that attains it is the *pose* of j relative to i.

All poses cost little more than one dot product: <D_i, rho(h) D_j> is a correlation on the group (`gc_core.orbits`).

Letters: F features, J features compared with, M members of a family, G group elements, C channels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from gc_core.groups import Group, Subgroup
from gc_core.orbits import correlations, transform

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Families:
    """Which family each feature belongs to, and how it is turned in it."""

    family_F: NDArray[np.int64]
    """Families by size, the largest 0; -1 for a feature alone."""
    pose_F: NDArray[np.int64]
    """The h that attains s(representative, j): turning j's stimulus by h gives the representative's."""
    representative_F: NDArray[np.int64]
    """The member most similar to the others; the feature itself when alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One family of at least two."""

    member_M: NDArray[np.int64]
    """Ascending."""
    pose_M: NDArray[np.int64]
    """Of each, as in `Families`."""
    representative: int


def best_poses(decoder_FGC: Tensor, others_JGC: Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """Similarity s (F, J) and the pose h (F, J, int64) that attains it, for every pair."""
    left, right = transform(unit(decoder_FGC), group), transform(unit(others_JGC), group)
    similarity, pose = [], []
    for first in range(0, len(decoder_FGC), _ROWS_AT_ONCE):
        products_FJH = correlations([part[:, first : first + _ROWS_AT_ONCE] for part in left], right, group)
        best = products_FJH.max(dim=2)
        similarity.append(best.values)
        pose.append(best.indices)
    return torch.cat(similarity), torch.cat(pose)


def family_similarity(
    decoder_FGC: Tensor, others_JGC: Tensor, group: Group, *, invariant_share: float
) -> tuple[Tensor, Tensor]:
    """How far every pair are copies: the smaller of the cosines of the whole features and of their changing parts (the
    blocks minus their mean), at the pose that makes it largest; (F, J), and that pose (F, J, int64).

    Two features may share half of their energy, the part that no element changes, and have nothing else in common. That
    part adds the same to the product at every pose, so both cosines are largest at one pose, and one search finds it.
    Of two features with `invariant_share` or more of their energy unchanging the whole alone is compared.
    """
    whole_FJ, pose_FJ = best_poses(decoder_FGC, others_JGC, group)
    (mean_FC, norm_F, change_F), (mean_JC, norm_J, change_J) = (_parts(each) for each in (decoder_FGC, others_JGC))
    product_FJ = whole_FJ * norm_F[:, None] * norm_J - group.order * mean_FC @ mean_JC.T
    changing_FJ = (product_FJ / (change_F[:, None] * change_J)).clamp(-1, 1)
    steady_F, steady_J = (
        1 - (change / norm).square() >= invariant_share for change, norm in ((change_F, norm_F), (change_J, norm_J))
    )
    return torch.where(steady_F[:, None] & steady_J, whole_FJ, torch.minimum(whole_FJ, changing_FJ)), pose_FJ


def shown_poses(found: Families, stabilisers: Sequence[Subgroup], group: Group) -> NDArray[np.int64]:
    """(F,) by how much each feature's stimulus is turned against its representative's.

    Turning a stimulus by p and by p s looks the same where s is in the representative's stabiliser, so of the coset
    the smallest element is taken.
    """
    turned_F = group.inverse[found.pose_F]
    pairs = zip(turned_F.tolist(), found.representative_F.tolist(), strict=True)
    smallest = [min(group.cayley[turned, list(stabilisers[of].elements)]) for turned, of in pairs]
    return np.array(smallest, np.int64)


def group_families(
    similarity_FF: NDArray[np.float32], pose_FF: NDArray[np.int64], *, least_similarity: float
) -> Families:
    """Average-linkage clusters of features whose mean similarity stays above a bound (Sokal and Michener 1958)."""
    return numbered(clusters_of(similarity_FF, pose_FF, least_similarity=least_similarity), len(similarity_FF))


def clusters_of(
    similarity_FF: NDArray[np.float32], pose_FF: NDArray[np.integer[Any]], *, least_similarity: float
) -> list[Cluster]:
    """The same as members of each family. Takes 8 bytes a pair of features, twice the half matrix in float64, beside
    what it is given."""
    if len(similarity_FF) < 2:
        return []
    tree = linkage(_distances(similarity_FF), method="average")
    label_F = fcluster(tree, np.nextafter(1 - least_similarity, -1), criterion="distance")
    order = np.argsort(label_F, kind="stable")
    groups_of_members = np.split(order, np.flatnonzero(np.diff(label_F[order])) + 1)
    return [_cluster(members, similarity_FF, pose_FF) for members in groups_of_members if len(members) > 1]


def numbered(clusters: Sequence[Cluster], num_features: int) -> Families:
    """All families of a dictionary, by size."""
    family_F, pose_F = np.full(num_features, -1, np.int64), np.zeros(num_features, np.int64)
    representative_F = np.arange(num_features)
    for number, each in enumerate(by_size(clusters)):
        family_F[each.member_M], representative_F[each.member_M] = number, each.representative
        pose_F[each.member_M] = each.pose_M
    return Families(family_F=family_F, pose_F=pose_F, representative_F=representative_F)


def by_size(clusters: Iterable[Cluster]) -> list[Cluster]:
    """The largest first; of equal ones that of the first feature."""
    return sorted(clusters, key=lambda one: (-len(one.member_M), one.member_M[0]))


def unit(decoder_FGC: Tensor) -> Tensor:
    """Decoders of norm one; a zero feature stays zero."""
    return torch.nn.functional.normalize(decoder_FGC.flatten(1), dim=1).view_as(decoder_FGC)


def _distances(similarity_FF: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of every pair, as scipy orders them: those of the first feature, then those of the second, ... A pair's
    similarity is the larger of the two that stand for it."""
    count = len(similarity_FF)
    distances, begin = np.empty(count * (count - 1) // 2), 0
    for row in range(count - 1):
        either = np.maximum(similarity_FF[row, row + 1 :], similarity_FF[row + 1 :, row])
        distances[begin : begin + len(either)] = np.clip(1 - either, 0, None)
        begin += len(either)
    return distances


def _cluster(
    member_M: NDArray[np.int64], similarity_FF: NDArray[np.float32], pose_FF: NDArray[np.integer[Any]]
) -> Cluster:
    among_MM = similarity_FF[np.ix_(member_M, member_M)]
    among_MM = np.maximum(among_MM, among_MM.T)
    np.fill_diagonal(among_MM, 0)  # whose rounding would decide between the two of a pair
    place = int(among_MM.sum(1).argmax())
    pose_M = pose_FF[member_M[place], member_M].astype(np.int64)
    pose_M[place] = 0
    return Cluster(member_M=member_M, pose_M=pose_M, representative=int(member_M[place]))


def _parts(decoder_FGC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean block, the norm of the feature, and that of its changing part."""
    smallest = torch.finfo(decoder_FGC.dtype).tiny ** 0.5
    mean_FC, norm_F = decoder_FGC.mean(1), decoder_FGC.flatten(1).norm(dim=1).clamp_min(smallest)
    change_F = (decoder_FGC - mean_FC[:, None]).flatten(1).norm(dim=1)
    return mean_FC, norm_F, change_F.maximum(norm_F * torch.finfo(norm_F.dtype).eps)
