"""Families as communities of a sparse graph, and where its features lie on a map.

A community of the constant Potts model (Traag, Van Dooren and Nesterov 2011) at resolution r is one whose pairs have a
mean similarity above r, pairs that are no neighbours counting zero, and no two of them could be one: what average
linkage asks for at the same bound, without a matrix of all pairs. Found by the Leiden algorithm (Traag, Waltman and
Van Eck 2019), from one seed.

igraph and leidenalg are loaded where they are needed: of all that this package does, by two functions alone.

Letters: F features, E pairs.
"""

import random

import numpy as np
from numpy.typing import NDArray

from gc_core.families.neighbours import Neighbours

SEED = 0
MAP_NEIGHBOURS = 15
"""Nearest neighbours of each feature on the map; what UMAP's authors take."""
NONE = np.zeros(0, np.int64)


def communities(pairs: Neighbours, num_features: int, *, resolution: float) -> list[NDArray[np.int64]]:
    """Members of every community of at least two, each ascending; the one with the smallest member first."""
    if not len(pairs.first_E):
        return []
    import igraph
    import leidenalg

    partition = leidenalg.find_partition(
        igraph.Graph(num_features, np.stack([pairs.first_E, pairs.second_E], axis=1)),
        leidenalg.CPMVertexPartition,
        weights=pairs.similarity_E.astype(np.float64).tolist(),
        resolution_parameter=resolution,
        n_iterations=-1,
        seed=SEED,
    )
    every = [np.sort(np.array(members, np.int64)) for members in partition if len(members) > 1]
    return sorted(every, key=lambda members: int(members[0]))


def placed(pairs: Neighbours, num_features: int) -> NDArray[np.float32]:
    """(F, 2) places on a plane where neighbours lie close (UMAP, McInnes, Healy and Melville 2018, on these
    neighbours); NaN where a feature has none."""
    place_F2 = np.full((num_features, 2), np.nan, np.float32)
    near = _nearest(pairs)
    known, ends = np.unique(np.stack([near.first_E, near.second_E]), return_inverse=True)
    if not len(known):
        return place_F2
    import igraph

    graph = igraph.Graph(len(known), np.reshape(ends, (2, -1)).T.copy())
    distance_E = (1 - near.similarity_E.astype(np.float64)).clip(0)
    start = np.random.default_rng(SEED).uniform(-10, 10, (len(known), 2))
    igraph.set_random_number_generator(random.Random(SEED))
    try:
        layout = graph.layout_umap(dist=distance_E.tolist(), seed=start.tolist())
    finally:
        igraph.set_random_number_generator(random)
    place_F2[known] = np.array(layout.coords)
    return place_F2


def _nearest(pairs: Neighbours) -> Neighbours:
    """Pairs of every feature with its `MAP_NEIGHBOURS` nearest; each pair once."""
    end_E = np.concatenate([pairs.first_E, pairs.second_E]).astype(np.int32)
    pair_E = np.tile(np.arange(len(pairs.first_E), dtype=np.int32), 2)
    order = np.lexsort((pair_E, -pairs.similarity_E[pair_E], end_E))
    first_F = np.searchsorted(end_E[order], np.arange(end_E.max(initial=-1) + 2))
    spans = zip(first_F, np.minimum(first_F[:-1] + MAP_NEIGHBOURS, first_F[1:]), strict=False)
    return pairs[np.unique(pair_E[np.concatenate([NONE, *(order[start:stop] for start, stop in spans)])])]
