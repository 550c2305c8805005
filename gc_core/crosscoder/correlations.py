"""Correlations over a group: inner products of samples with every turned copy of others.

    <L, rho(h) R> = sum over g of L[g] . R[g h]          for every h in G

By the group's Fourier transform, orthonormal and here over the real numbers:

    Rhat = sqrt(w) sum over g of R[g] rho_j(g)           <L, rho(h) R> = sum over j of tr(Rhat_j^T Lhat_j rho_j(h))

with w = d / |G| for a representation rho_j of dimension d. So all h of a pair cost the sum of d^3 products a channel
instead of |G|^2: under D_32 124 instead of 4,096.

Letters: N samples, M others, G group elements, C channels, d dimension of a representation, I how many have it,
K numbers of all representations together (the sum of d^2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.groups import FiniteGroup, Group, TableGroup


@dataclass(frozen=True, slots=True)
class Representation:
    """A representation by orthogonal matrices that has no smaller real part."""

    matrices: NDArray[np.float64]
    """(G, d, d)"""
    weight: float
    """w above."""


@lru_cache
def real_representations(group: FiniteGroup) -> tuple[Representation, ...]:
    """All of them, those of one dimension first; each function on the group is a sum of their entries.

    The dihedral groups' are their irreducible ones. Of a cyclic group two conjugate characters make one plane, whose
    four entries hold every number twice: its weight is half of d / |G|. So it is with all of complex type; of
    quaternionic type every number is there four times.
    """
    if isinstance(group, TableGroup):
        weighted = [(each.matrices, each.matrices.shape[1] / (each.kind * group.order)) for each in group.real_irreps]
    elif isinstance(group, Group) and not group.has_mirrors and group.order > 2:
        weighted = _of_cyclic(group)
    else:  # of one and two elements all characters are real
        weighted = [(irrep.matrices.real, irrep.dim / group.order) for irrep in group.irreps()]
    return tuple(
        Representation(np.ascontiguousarray(m), w) for m, w in sorted(weighted, key=lambda each: each[0].shape[1])
    )


def transform(x_NGC: Tensor, group: FiniteGroup) -> list[Tensor]:
    """Fourier transform over the group: for every dimension d of representations a tensor (I, N, d, d C), whose entry
    [j, n, b, a C + c] is that of row a and column b of the transform of channel c."""
    table_KG = _tables(group, x_NGC.dtype, x_NGC.device)[0]
    return _split(table_KG @ x_NGC, group)


def correlations(left: Sequence[Tensor], right: Sequence[Tensor], group: FiniteGroup) -> Tensor:
    """<L_n, rho(h) R_m> of what `transform` made, (N, M, G)."""
    entries = []
    for lhs, rhs in zip(left, right, strict=True):
        count, num_left, dim, _ = lhs.shape
        product = torch.bmm(lhs.flatten(1, 2), rhs.flatten(1, 2).transpose(1, 2))
        by_pair = product.view(count, num_left, dim, rhs.shape[1], dim).permute(1, 3, 0, 2, 4)
        entries.append(by_pair.flatten(2))
    return torch.cat(entries, dim=2) @ _tables(group, entries[0].dtype, entries[0].device)[1]


def _of_cyclic(group: Group) -> list[tuple[NDArray[np.float64], float]]:
    """The trivial one, for even n the one that alternates, and the planes that turn j times as fast."""
    planes = [group.matrices[(j * group.turns) % group.n] for j in range(1, (group.n + 1) // 2)]
    ones = [np.ones(group.order)]
    if group.n % 2 == 0:
        ones.append(np.where(group.turns % 2 == 0, 1.0, -1.0))
    return [(one[:, None, None], 1 / group.n) for one in ones] + [(plane, 1 / group.n) for plane in planes]


@lru_cache(maxsize=16)
def _tables(group: FiniteGroup, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """(K, G) from functions on the group to transforms, column by column of each matrix, and (K, G) back."""
    representations = real_representations(group)
    there = np.concatenate(
        [np.sqrt(r.weight) * r.matrices.transpose(0, 2, 1).reshape(group.order, -1) for r in representations], 1
    )
    back = np.concatenate([r.matrices.reshape(group.order, -1) for r in representations], 1)
    forward, backward = (torch.from_numpy(np.ascontiguousarray(table.T)).to(device, dtype) for table in (there, back))
    return forward, backward


def _split(x_NKC: Tensor, group: FiniteGroup) -> list[Tensor]:
    parts, first = [], 0
    dims = [r.matrices.shape[1] for r in real_representations(group)]
    for dim in sorted(set(dims)):
        count = dims.count(dim)
        part = x_NKC[:, first : first + count * dim * dim]
        parts.append(part.unflatten(1, (count, dim, dim)).flatten(3).transpose(0, 1).contiguous())
        first += count * dim * dim
    return parts
