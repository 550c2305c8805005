"""All families of a dictionary of any size: sketches, neighbours, communities, poses, one after the other.

A job spreads the same functions over tasks.

Letters: F features, G group elements, C channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gc_core.families.communities import communities, placed
from gc_core.families.found import Families, numbered
from gc_core.families.neighbours import Dictionary, Neighbours, Read, mutual, nearest
from gc_core.families.posed import family_of
from gc_core.families.sketch import NUMBERS, Sketches, principal_basis, sketch
from gc_core.groups import Group

MOST_NEIGHBOURS = 256
"""Of a feature, those that are kept: four times the 64 poses of one feature under D_32."""
BLOCK = 1024
"""Features whose neighbours are looked for at once."""
_SAMPLE = 4096
_READ = 512


@torch.no_grad()
def dictionary(
    read: Read, features: NDArray[np.int64], group: Group, *, invariant_share: float, numbers: int = NUMBERS
) -> Dictionary:
    """Read all features once, some at a time, and keep a sketch of each."""
    step = -(-len(features) // _SAMPLE) or 1
    basis = principal_basis(read(features[::step]), group, numbers=numbers)
    parts = [sketch(read(some), basis, group, invariant_share=invariant_share) for some in _spans(features)]
    return Dictionary(
        group=group,
        read=read,
        features=features,
        basis=basis,
        sketches=Sketches.joined(parts),
        invariant_share=invariant_share,
    )


def blocks(num_features: int, size: int = BLOCK) -> list[range]:
    """Places of the features that one task finds the neighbours of."""
    return [range(num_features)[first : first + size] for first in range(0, num_features, size)]


def find_families(among: Dictionary, *, least_similarity: float, block: int = BLOCK) -> Families:
    """Of features that are numbered from 0 without gaps, in this process."""
    count = len(among.features)
    found = [
        nearest(rows, among, least_similarity=least_similarity, most=MOST_NEIGHBOURS) for rows in blocks(count, block)
    ]
    pairs = mutual(Neighbours.joined(found), count)
    members = communities(pairs, count, resolution=least_similarity)
    clusters = [
        family_of(each, inner, among) for each, inner in zip(members, within(members, pairs, count), strict=True)
    ]
    return numbered(clusters, count, place_F2=placed(pairs, count))


def within(members: Sequence[NDArray[np.int64]], pairs: Neighbours, num_features: int) -> list[Neighbours]:
    """Of every community the pairs inside it."""
    label_F = np.full(num_features, -1)
    for number, each in enumerate(members):
        label_F[each] = number
    label_E = np.where(label_F[pairs.first_E] == label_F[pairs.second_E], label_F[pairs.first_E], -1)
    order = np.argsort(label_E, kind="stable")
    ends = np.searchsorted(label_E[order], np.arange(len(members) + 1))
    return [pairs[order[ends[number] : ends[number + 1]]] for number in range(len(members))]


def _spans(features: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [features[first : first + _READ] for first in range(0, len(features), _READ)] or [features]
