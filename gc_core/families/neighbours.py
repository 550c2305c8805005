"""Which features are most similar to each: exact, at a cost that follows the neighbours and not the pairs.

An upper bound of every pair's similarity (`sketch`) leaves candidates; only these are compared, and only their decoders
are read. One call compares a block of features with all, in memory that does not grow with a dictionary's decoder.

Letters: F features, G group elements, C channels, P pairs, E pairs that are neighbours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gc_core.arrays import joined, rows_of
from gc_core.families.likeness import (
    CLOSE,
    Levels,
    best_products,
    best_products_of_pairs,
    changing_transform,
    pose_table,
    similarity_of,
    similarity_of_pairs,
    split,
)
from gc_core.families.sketch import Basis, Sketches, upper_bound
from gc_core.groups import FiniteGroup

Read = Callable[[NDArray[np.int64]], Tensor]
"""Decoders (n, G, C) of some features, floating point, by their numbers."""

COLUMNS = 512
"""Features that one block is compared with at once."""
_PAIRS = 256
_DENSE = 0.05
"""Share of candidates among the pairs of some features from which on all are compared, as matrix products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Pairs: `first` has `second` among its nearest, and turning second's stimulus by `pose` gives first's."""

    first_E: NDArray[np.int64]
    second_E: NDArray[np.int64]
    similarity_E: NDArray[np.float32]
    pose_E: NDArray[np.int64]

    def __getitem__(self, of: NDArray[Any]) -> "Neighbours":
        """Some of them."""
        return rows_of(self, of)

    @staticmethod
    def joined(parts: Sequence["Neighbours"]) -> "Neighbours":
        """All of several, or of none."""
        return joined([NO_NEIGHBOURS, *parts])


NO_NEIGHBOURS = Neighbours(
    first_E=np.zeros(0, np.int64),
    second_E=np.zeros(0, np.int64),
    similarity_E=np.zeros(0, np.float32),
    pose_E=np.zeros(0, np.int64),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Features to compare."""

    group: FiniteGroup
    read: Read
    features: NDArray[np.int64]
    """Numbers of those to compare, ascending; elsewhere a feature is its place among these."""
    invariant_share: float
    """Share of steady energy from which on a feature counts as invariant, as in `family_similarity`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary(Source):
    """Features, and what is known of them beforehand."""

    basis: Basis
    sketches: Sketches
    """Sketches of `features`, in their order."""


@dataclass(frozen=True, slots=True)
class _Turned:
    """Features ready to be compared exactly."""

    levels: Levels
    parts: list[Tensor]

    def __getitem__(self, of: Tensor) -> "_Turned":
        return _Turned(self.levels[of], [part[:, of] for part in self.parts])


@torch.no_grad()
def nearest(rows: range, among: Dictionary, *, least_similarity: float, most: int) -> Neighbours:
    """Find the `most` nearest, of those at least so similar, of each feature at these places of `among.features`.

    Numbers are places among `among.features`. The nearest come first; similarities are rounded to four digits.
    """
    mine = _turned(among, np.arange(rows.start, rows.stop))
    sketches, kept = among.sketches[rows.start : rows.stop], NO_NEIGHBOURS
    for start in range(0, len(among.features), COLUMNS):
        bound = upper_bound(sketches, among.sketches[start : start + COLUMNS], among.basis, among.group)
        row_P, column_P = torch.nonzero(bound >= least_similarity - CLOSE, as_tuple=True)
        other = row_P + rows.start != column_P + start
        more = _compared(mine, among, row_P[other], column_P[other], rows.start, start)
        kept = _best(Neighbours.joined([kept, more[more.similarity_E >= np.float32(least_similarity)]]), most)
    return kept


def mutual(neighbours: Neighbours, num_features: int) -> Neighbours:
    """Pairs of which each is among the nearest of the other, once each, the smaller number first; by number."""
    forward_E = np.flatnonzero(neighbours.first_E < neighbours.second_E)
    back_E = np.flatnonzero(neighbours.first_E > neighbours.second_E)
    key_E = neighbours.first_E[forward_E] * num_features + neighbours.second_E[forward_E]
    other_E = neighbours.second_E[back_E] * num_features + neighbours.first_E[back_E]
    _, place_E, _ = np.intersect1d(key_E, other_E, assume_unique=True, return_indices=True)
    return neighbours[forward_E[place_E]]


def _turned(among: Source, places: NDArray[np.int64]) -> _Turned:
    decoder_FGC = among.read(among.features[places])
    levels, changing_FGC = split(decoder_FGC, invariant_share=among.invariant_share)
    return _Turned(levels, changing_transform(changing_FGC, among.group))


def _compared(mine: _Turned, among: Source, row_P: Tensor, column_P: Tensor, first: int, start: int) -> Neighbours:
    """Candidates as they are: rows of `mine`, whose first is number `first`, with features from number `start` on."""
    if not len(row_P):
        return NO_NEIGHBOURS
    rows, row_P = row_P.unique(return_inverse=True)
    columns, column_P = column_P.unique(return_inverse=True)
    left, right = mine[rows], _turned(among, start + columns.cpu().numpy())
    table_GK = pose_table(among.group).to(left.levels.change_F)
    similarity_P, pose_P = torch.empty_like(row_P, dtype=table_GK.dtype), torch.empty_like(row_P)
    for part in _linked(row_P, column_P, len(rows), len(columns)):
        similarity_P[part], pose_P[part] = _exact(left, right, row_P[part], column_P[part], table_GK)
    return Neighbours(
        first_E=rows[row_P].cpu().numpy() + first,
        second_E=columns[column_P].cpu().numpy() + start,
        similarity_E=similarity_P.double().cpu().numpy().round(4).astype(np.float32),
        pose_E=pose_P.cpu().numpy(),
    )


def _linked(row_P: Tensor, column_P: Tensor, num_rows: int, num_columns: int) -> list[Tensor]:
    """Which pairs hang together by rows or columns: those of one family, if the bound is tight."""
    pairs = (row_P.cpu().numpy(), column_P.cpu().numpy() + num_rows)
    graph = coo_matrix((np.ones(len(row_P), np.int8), pairs), [num_rows + num_columns] * 2)
    label_P = connected_components(graph, directed=False)[1][pairs[0]]
    order = np.argsort(label_P, kind="stable")
    ends = np.flatnonzero(np.diff(label_P[order])) + 1
    return [torch.from_numpy(each).to(row_P.device) for each in np.split(order, ends)]


def _exact(left: _Turned, right: _Turned, row_P: Tensor, column_P: Tensor, table_GK: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity and pose of every pair."""
    rows, row_P = row_P.unique(return_inverse=True)
    columns, column_P = column_P.unique(return_inverse=True)
    if len(row_P) >= _DENSE * len(rows) * len(columns):
        every = _all_pairs(left[rows], right[columns], table_GK)
        return every[0][row_P, column_P], every[1][row_P, column_P]
    by_pairs = zip(rows[row_P].split(_PAIRS), columns[column_P].split(_PAIRS), strict=True)
    of_each = [_pairs(left[of], right[others], table_GK) for of, others in by_pairs]
    return torch.cat([each[0] for each in of_each]), torch.cat([each[1] for each in of_each])


def _all_pairs(left: _Turned, right: _Turned, table_GK: Tensor) -> tuple[Tensor, Tensor]:
    changing, pose = best_products(left.parts, right.parts, table_GK)
    return similarity_of(changing, left.levels, right.levels), pose


def _pairs(left: _Turned, right: _Turned, table_GK: Tensor) -> tuple[Tensor, Tensor]:
    changing, pose = best_products_of_pairs(left.parts, right.parts, table_GK)
    return similarity_of_pairs(changing, left.levels, right.levels), pose


def _best(neighbours: Neighbours, most: int) -> Neighbours:
    """The `most` of each feature. Of equal ones both of a pair choose alike, at random: of many copies of a feature,
    chosen by number, some would be everybody's neighbours and the others nobody's."""
    draw_E = _draw(
        np.minimum(neighbours.first_E, neighbours.second_E), np.maximum(neighbours.first_E, neighbours.second_E)
    )
    order = np.lexsort((neighbours.second_E, draw_E, -neighbours.similarity_E, neighbours.first_E))
    first_E = neighbours.first_E[order]
    rank_E = np.arange(len(order)) - np.searchsorted(first_E, first_E)
    return neighbours[order[rank_E < most]]


def _draw(smaller_E: NDArray[np.int64], larger_E: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A number for every pair that looks random (the mixing of SplitMix64, Steele, Lea and Flood 2014)."""
    mixed = (smaller_E.astype(np.uint64) << np.uint64(32)) | larger_E.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
