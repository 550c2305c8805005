"""Which features hang together at any similarity, in memory that follows their number and not that of their pairs.

Average linkage joins two sets only while their mean similarity is above a bound, so while some pair of theirs is: every
family lies within one component of the graph of pairs above the bound. Components at every bound are those of a maximum
spanning forest, at most one edge less than there are features, and forests of parts of the pairs make one of all.

Letters: F features, J features compared with, E edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

_ABOVE_ALL = 2.0
"""A cosine from this is positive: a sparse matrix forgets zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Pairs of features, without circles."""

    first_E: NDArray[np.int64]
    second_E: NDArray[np.int64]
    similarity_E: NDArray[np.float32]


EMPTY = Forest(first_E=np.zeros(0, np.int64), second_E=np.zeros(0, np.int64), similarity_E=np.zeros(0, np.float32))


def pairs_above(similarity_FJ: NDArray[np.float32], least_similarity: float, *, first: int, start: int) -> Forest:
    """Pairs of a block of similarities, of features from number `first` on with those from `start` on; each once, and
    no feature with itself. Not yet a forest: `joined` makes it one."""
    row_E, column_E = np.nonzero(similarity_FJ >= least_similarity)
    kept = row_E + first < column_E + start
    row_E, column_E = row_E[kept], column_E[kept]
    return Forest(first_E=row_E + first, second_E=column_E + start, similarity_E=similarity_FJ[row_E, column_E])


def joined(forests: Sequence[Forest], num_features: int) -> Forest:
    """A maximum spanning forest of all pairs in different parts of them."""
    first_E, second_E, similarity_E = (
        np.concatenate([getattr(forest, name) for forest in [EMPTY, *forests]])
        for name in ("first_E", "second_E", "similarity_E")
    )
    graph = coo_matrix((_ABOVE_ALL - similarity_E.astype(np.float64), (first_E, second_E)), [num_features] * 2)
    kept = minimum_spanning_tree(graph.tocsr()).tocoo()
    return Forest(
        first_E=kept.row.astype(np.int64),
        second_E=kept.col.astype(np.int64),
        similarity_E=(_ABOVE_ALL - kept.data).astype(np.float32),
    )


def pieces(forest: Forest, num_features: int, *, most: int) -> list[NDArray[np.int64]]:
    """Components of at least two features, each ascending, the one with the smallest feature first.

    One of more than `most` features falls apart where it hangs together least: of the pairs in descending order those
    that would make too large a piece are left out.
    """
    above_F = np.arange(num_features)
    members: dict[int, list[int]] = {}
    for edge in np.lexsort((forest.second_E, forest.first_E, -forest.similarity_E)):
        one, other = _root(above_F, int(forest.first_E[edge])), _root(above_F, int(forest.second_E[edge]))
        mine, theirs = members.get(one, [one]), members.get(other, [other])
        if len(mine) + len(theirs) > most:
            continue
        if len(mine) < len(theirs):
            one, other, mine, theirs = other, one, theirs, mine
        above_F[other] = one
        mine.extend(theirs)
        members[one] = mine
        members.pop(other, None)
    return sorted((np.sort(np.array(each, np.int64)) for each in members.values()), key=lambda piece: int(piece[0]))


def is_broken(forest: Forest, found: Sequence[NDArray[np.int64]]) -> bool:
    """Whether a component was too large for one piece."""
    return sum(len(piece) - 1 for piece in found) < len(forest.first_E)


def _root(above_F: NDArray[np.int64], feature: int) -> int:
    while above_F[feature] != feature:
        above_F[feature] = above_F[above_F[feature]]
        feature = int(above_F[feature])
    return feature
