"""Families by average linkage over all pairs: the plain way, for dictionaries whose pairs fit into memory.

Letters: F features, M members of a family.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from gc_core.families.families import Cluster, Families, numbered


def group_families(
    similarity_FF: NDArray[np.float32], pose_FF: NDArray[np.int64], *, least_similarity: float
) -> Families:
    """Average-linkage clusters of features whose mean similarity stays above a bound (Sokal and Michener 1958)."""
    return numbered(clusters_of(similarity_FF, pose_FF, least_similarity=least_similarity), len(similarity_FF))


def clusters_of(
    similarity_FF: NDArray[np.float32], pose_FF: NDArray[np.integer[Any]], *, least_similarity: float
) -> list[Cluster]:
    """Families by average linkage, as members of each. Takes 8 bytes a pair of features, twice the half matrix in
    float64, beside what it is given."""
    if len(similarity_FF) < 2:
        return []
    tree = linkage(_distances(similarity_FF), method="average")
    label_F = fcluster(tree, np.nextafter(1 - least_similarity, -1), criterion="distance")
    order = np.argsort(label_F, kind="stable")
    groups_of_members = np.split(order, np.flatnonzero(np.diff(label_F[order])) + 1)
    return [_cluster(members, similarity_FF, pose_FF) for members in groups_of_members if len(members) > 1]


def _distances(similarity_FF: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances of every pair, as scipy orders them: those of the first feature, then those of the second, ... A pair's
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
    pose_M[place], similarity_M = 0, among_MM[place].astype(np.float32)
    similarity_M[place] = 1
    return Cluster(member_M=member_M, pose_M=pose_M, similarity_M=similarity_M, representative=int(member_M[place]))
