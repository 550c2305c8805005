"""One-to-one matching of two sets of features: of all pairs, or of large sets among those that are most alike.

Letters: F features, J features of the other set, M matched pairs, E candidate pairs, K nearest.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

MOST_AT_ONCE = 4096
"""Features of the larger set whose pairs are all looked at: that takes the cube of their number in time."""
NEAREST = 32
_ABOVE_ALL = 2.0
"""A cosine and this is positive: a sparse matrix forgets zeros."""

Rows = Callable[[], Iterable[NDArray[np.float32]]]
"""Makes the (F, J) cosines anew, some rows at a time."""


def matched_cosines(rows: Rows, num_features: int, num_others: int) -> NDArray[np.float32]:
    """(M,) cosines of the one-to-one pairs, M = min(F, J), whose sum is the largest possible.

    Of large sets only pairs count of which one is among the 32 nearest of the other (twice as many until all can be
    matched): the sum may then be a little smaller than the largest, never larger.
    """
    if max(num_features, num_others) <= MOST_AT_ONCE:
        cosine_FJ = np.concatenate(list(rows()))
        return cosine_FJ[linear_sum_assignment(cosine_FJ, maximize=True)]
    return matched_among_nearest(rows, num_features, num_others)


def matched_among_nearest(rows: Rows, num_features: int, num_others: int) -> NDArray[np.float32]:
    """The same, with nearest pairs alone, whatever the size."""
    nearest = NEAREST
    while True:
        graph = _nearest_pairs(rows(), num_features, num_others, nearest).tocsr()
        try:
            mine_M, theirs_M = min_weight_full_bipartite_matching(graph, maximize=True)
        except ValueError:  # some have no partner left
            assert nearest < max(num_features, num_others), "of all pairs a matching is always found"
            nearest *= 2
        else:
            return (np.asarray(graph[mine_M, theirs_M]).ravel() - _ABOVE_ALL).astype(np.float32)


def _nearest_pairs(rows: Iterable[NDArray[np.float32]], num_features: int, num_others: int, nearest: int) -> coo_matrix:
    """(F, J) cosines above all of the pairs of which one is among the nearest of the other."""
    best_KJ, best_row_KJ = np.empty((0, num_others), np.float32), np.empty((0, num_others), np.int64)
    row_E, column_E, cosine_E, first = [], [], [], 0
    for cosine_BJ in rows:
        column_BK = np.argpartition(-cosine_BJ, min(nearest, num_others) - 1, axis=1)[:, :nearest]
        row_E.append(np.repeat(np.arange(first, first + len(cosine_BJ)), column_BK.shape[1]))
        column_E.append(column_BK.ravel())
        cosine_E.append(np.take_along_axis(cosine_BJ, column_BK, 1).ravel())
        number_BJ = np.broadcast_to(np.arange(first, first + len(cosine_BJ))[:, None], cosine_BJ.shape)
        best_KJ, best_row_KJ = np.concatenate([best_KJ, cosine_BJ]), np.concatenate([best_row_KJ, number_BJ])
        kept = np.argpartition(-best_KJ, min(nearest, len(best_KJ)) - 1, axis=0)[:nearest]
        best_KJ, best_row_KJ = (np.take_along_axis(each, kept, 0) for each in (best_KJ, best_row_KJ))
        first += len(cosine_BJ)
    row, column = (
        np.concatenate([*row_E, best_row_KJ.ravel()]),
        np.concatenate([*column_E, np.broadcast_to(np.arange(num_others), best_KJ.shape).ravel()]),
    )
    pair_E, place_E = np.unique(row * num_others + column, return_index=True)
    value_E = np.concatenate([*cosine_E, best_KJ.ravel()])[place_E].astype(np.float64) + _ABOVE_ALL
    return coo_matrix((value_E, (pair_E // num_others, pair_E % num_others)), (num_features, num_others))
