"""All families of a dictionary of any size: sketches, neighbours, communities, poses, one after the other.

A job spreads the same functions over tasks.

Letters: F features, G group elements, C channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gc_core.families.communities import communities, placed
from gc_core.families.families import Families, numbered
from gc_core.families.neighbours import Dictionary, Neighbours, Source, mutual, nearest
from gc_core.families.posed import family_of
from gc_core.families.sketch import NUMBERS, Sketches, principal_basis, sketch

MOST_NEIGHBOURS = 256
"""Neighbours of a feature that are kept: four times the 64 poses of one feature under D_32."""
LEAST_BLOCK, BLOCK, BLOCKS = 128, 1024, 64
"""Features whose neighbours are looked for at once: so that there are enough blocks for many processors, but not so
many that all decoders are read again and again."""
SAMPLE = 4096
"""Features whose principal axes sketches use, at most."""
READ = 512
"""Features whose decoders are in memory together while sketches are made."""


@torch.no_grad()
def sketched(source: Source, *, numbers: int = NUMBERS) -> Dictionary:
    """Read all features once, some at a time, and keep a sketch of each."""
    features, group, share = source.features, source.group, source.invariant_share
    step = -(-len(features) // SAMPLE) or 1
    basis = principal_basis((source.read(some) for some in _spans(features[::step])), group, numbers=numbers)
    parts = [sketch(source.read(some), basis, group, invariant_share=share) for some in _spans(features)]
    return Dictionary(
        group=group,
        read=source.read,
        features=features,
        invariant_share=share,
        basis=basis,
        sketches=Sketches.joined(parts),
    )


def blocks(num_features: int, size: int | None = None) -> list[range]:
    """Places of the features that one task finds the neighbours of."""
    size = size or min(BLOCK, max(LEAST_BLOCK, -(-num_features // BLOCKS)))
    return [range(num_features)[first : first + size] for first in range(0, num_features, size)]


def find_families(among: Dictionary, *, least_similarity: float, block: int | None = None) -> Families:
    """Families of features that are numbered from 0 without gaps, found in this process."""
    count = len(among.features)
    parts = [
        nearest(rows, among, least_similarity=least_similarity, most=MOST_NEIGHBOURS) for rows in blocks(count, block)
    ]
    pairs = mutual(Neighbours.joined(parts), count)
    members = communities(pairs, count, resolution=least_similarity)
    clusters = [
        family_of(each, inner, among) for each, inner in zip(members, within(members, pairs, count), strict=True)
    ]
    return numbered(clusters, count, place_F2=placed(pairs, count))


def within(members: Sequence[NDArray[np.int64]], pairs: Neighbours, num_features: int) -> list[Neighbours]:
    """The pairs inside every community."""
    label_F = np.full(num_features, -1)
    for number, each in enumerate(members):
        label_F[each] = number
    label_E = np.where(label_F[pairs.first_E] == label_F[pairs.second_E], label_F[pairs.first_E], -1)
    order = np.argsort(label_E, kind="stable")
    ends = np.searchsorted(label_E[order], np.arange(len(members) + 1))
    return [pairs[order[ends[number] : ends[number + 1]]] for number in range(len(members))]


def _spans(features: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [features[first : first + READ] for first in range(0, len(features), READ)] or [features]
