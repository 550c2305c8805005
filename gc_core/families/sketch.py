"""An upper bound of the similarity of features over all poses, from few numbers a feature.

A pose acts on the columns of a feature's transform (`gc_core.crosscoder.correlations`) and leaves rows and channels
together, d C numbers a column, alone. Projecting these onto any orthonormal vectors V_j, one set a representation j,
splits a feature into what is kept and a rest, and every turned copy of it in the same way. Hence, by Cauchy and Schwarz
in each representation,

    <L, rho(h) R>  <=  <V L, rho(h) V R>  +  sum over j of |rest_j L| |rest_j R|        for every h

whatever the vectors are: no pair is lost. They are principal axes of a sample, so that the rests are small: of 256
prototypes of photographs a sixtieth of the numbers keeps 85% of the energy.

Letters: F features, J features compared with, G group elements, C channels, R representations but the trivial one,
d dimension of a representation, I how many have it, m vectors of one, K numbers of a relative pose in all of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gc_core.families.likeness import (
    Levels,
    changing_representations,
    changing_transform,
    largest_products,
    pose_table,
    similarity_of,
    split,
)
from gc_core.groups import FiniteGroup

NUMBERS = 512
"""Kept of a feature, besides its mean block. Twice as many cost twice the products; half as many let more pairs through
that are no neighbours."""
ENOUGH = 0.98
"""Share of the energy of changing parts that need not be exceeded."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Orthonormal columns (d C, m) of every representation but the trivial one; m may be zero."""

    vectors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketches:
    """Few numbers of each of some features, from which similarities are bounded."""

    levels: Levels
    kept: tuple[Tensor, ...]
    """(d, F, m) of every representation that has vectors."""
    rest_FR: Tensor
    """Norm of what the vectors leave out of the changing part of norm one."""

    def __getitem__(self, of: slice | Tensor) -> Self:
        """Sketches of some of the features."""
        kept = tuple(each[:, of] for each in self.kept)
        return type(self)(levels=self.levels[of], kept=kept, rest_FR=self.rest_FR[of])

    @staticmethod
    def joined(parts: Sequence["Sketches"]) -> "Sketches":
        """Sketches of the features of all parts, in order."""
        levels = Levels(
            mean_FC=torch.cat([each.levels.mean_FC for each in parts]),
            change_F=torch.cat([each.levels.change_F for each in parts]),
            steady_F=torch.cat([each.levels.steady_F for each in parts]),
        )
        kept = tuple(torch.cat(of_all, dim=1) for of_all in zip(*(each.kept for each in parts), strict=True))
        return Sketches(levels=levels, kept=kept, rest_FR=torch.cat([each.rest_FR for each in parts]))


def principal_basis(samples: Iterable[Tensor], group: FiniteGroup, *, numbers: int = NUMBERS) -> Basis:
    """The vectors that keep most of the changing parts of some features, decoders (n, G, C) a few at a time; at most so
    many numbers of each feature."""
    dims = [each.matrices.shape[1] for each in changing_representations(group)]
    second_moments: list[Tensor] = []
    for decoder_FGC in samples:
        parts = changing_transform(split(decoder_FGC, invariant_share=1)[1], group)
        products = [part.flatten(0, 1).T @ part.flatten(0, 1) for part in parts]
        for moment, product in zip(second_moments, products, strict=bool(second_moments)):
            moment += product
        second_moments = second_moments or products
    decomposed = [torch.linalg.eigh(each) for each in second_moments]
    counts = _counts([values.flip(0).clamp_min(0) for values, _ in decomposed], dims, numbers)
    return Basis(
        tuple(axes.flip(1)[:, :count].contiguous() for (_, axes), count in zip(decomposed, counts, strict=True))
    )


def sketch(decoder_FGC: Tensor, basis: Basis, group: FiniteGroup, *, invariant_share: float) -> Sketches:
    """Sketch some features."""
    levels, changing_FGC = split(decoder_FGC, invariant_share=invariant_share)
    kept, rests = [], []
    for part, vectors in zip(changing_transform(changing_FGC, group), basis.vectors, strict=True):
        inside = part @ vectors  # (d, F, m)
        rest = part - inside @ vectors.T  # not a difference of energies: that would round small rests to nothing
        rests.append(rest.square().sum((0, 2)).sqrt())
        if vectors.shape[1]:
            kept.append(inside)
    return Sketches(levels=levels, kept=tuple(kept), rest_FR=torch.stack(rests, dim=1))


def upper_bound(left: Sketches, right: Sketches, basis: Basis, group: FiniteGroup) -> Tensor:
    """An upper bound, but for rounding, of the `family_similarity` of every pair; (F, J)."""
    return similarity_of(_changing_bound(left, right, basis, group), left.levels, right.levels)


def _changing_bound(left: Sketches, right: Sketches, basis: Basis, group: FiniteGroup) -> Tensor:
    """An upper bound of the cosines of changing parts."""
    bound_FJ = left.rest_FR @ right.rest_FR.T
    if left.kept:
        bound_FJ += largest_products(left.kept, right.kept, _table(basis, group).to(bound_FJ))
    return bound_FJ


def _table(basis: Basis, group: FiniteGroup) -> Tensor:
    """Pose table of the representations that have vectors."""
    return pose_table(group, [vectors.shape[1] > 0 for vectors in basis.vectors])


def _counts(energies: Sequence[Tensor], dims: Sequence[int], numbers: int) -> list[int]:
    """How many vectors of each representation: in the order of energy a number, until `numbers` or `ENOUGH`."""
    of_vector = torch.cat([torch.full((len(each),), number) for number, each in enumerate(energies)])
    cost = torch.tensor(dims)[of_vector]
    energy = torch.cat(list(energies)).double().cpu()
    order = (energy / cost).argsort(descending=True, stable=True)
    before = energy[order].cumsum(0) - energy[order]
    taken = (cost[order].cumsum(0) <= numbers) & (before < ENOUGH * energy.sum())
    return torch.bincount(of_vector[order[taken]], minlength=len(energies)).tolist()
