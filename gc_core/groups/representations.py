"""Irreducible representations of a group that is given by its table, found numerically.

A real symmetric matrix that commutes with all left translations, drawn at random, has eigenspaces that left translation
keeps and that have no smaller part that it keeps: each is an irreducible representation over the real numbers (Dixon
1970), and all of them occur. Over the complex numbers one is irreducible itself (*real* type), or two conjugate ones
(*complex*), or one twice (*quaternionic*); an antisymmetric matrix that commutes with it takes the two apart.

Letters: G group elements, D d dimensions of a real and of a complex representation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core.groups.finite import Irrep

ROUNDING = 1e-6
"""Eigenvalues nearer than this are equal, as a share of the largest; characters are compared to this many digits."""
SEEDS = 20
"""Draws, of which nearly every one has eigenvalues far enough apart."""


@dataclass(frozen=True, slots=True)
class RealIrrep:
    """A representation by orthogonal matrices that has no smaller real part."""

    matrices: NDArray[np.float64]
    """(G, D, D)"""
    kind: int
    """Dimension of what commutes with it: 1 real, 2 complex, 4 quaternionic type. Each number of its transform occurs
    so many times."""


def real_irreps(cayley_GG: NDArray[np.int64]) -> tuple[RealIrrep, ...]:
    """One of each kind, the trivial one first, then by dimension and character."""
    for seed in range(SEEDS):
        found = _distinct(_eigenspaces(cayley_GG, np.random.default_rng(seed)), cayley_GG)
        if found is not None:
            return tuple(sorted(found, key=_order))
    raise AssertionError("some draw takes all representations apart")


def complex_irreps(real: tuple[RealIrrep, ...]) -> tuple[Irrep, ...]:
    """All over the complex numbers, conjugate ones side by side; named by dimension and number, as in 2.1."""
    matrices = [part for each in real for part in _parts(each)]
    numbers: dict[int, int] = {}
    irreps = []
    for each in matrices:
        dim = each.shape[1]
        numbers[dim] = numbers.get(dim, 0) + 1
        irreps.append(Irrep(label=f"{dim}.{numbers[dim]}", dim=dim, matrices=each))
    return tuple(irreps)


def _eigenspaces(cayley_GG: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Matrices (G, D, D) of left translation on each eigenspace of a random symmetric sum of right translations."""
    order, weight_G = len(cayley_GG), rng.standard_normal(len(cayley_GG))
    sums = np.zeros((order, order))
    for h in range(order):  # the right translation by h takes the function of g to that of g h
        sums[np.arange(order), cayley_GG[:, h]] += weight_G[h]
    value_G, vector_GG = np.linalg.eigh(sums + sums.T)
    apart = np.diff(value_G) > ROUNDING * np.abs(value_G).max()
    spaces = np.split(vector_GG, np.flatnonzero(apart) + 1, axis=1)
    # (L_g f)(x) = f(g^-1 x), so (L_g f)[g x] = f[x].
    return [np.einsum("gxi,xj->gij", space[cayley_GG], space) for space in spaces]


def _distinct(matrices: list[NDArray[np.float64]], cayley_GG: NDArray[np.int64]) -> list[RealIrrep] | None:
    """One of each class of representations; None where some are not irreducible."""
    by_character: dict[tuple[float, ...], RealIrrep] = {}
    for each in matrices:
        character_G = np.trace(each, axis1=1, axis2=2)
        norm = float((character_G**2).mean())
        kind = next((kind for kind in (1, 2, 4) if abs(norm - kind) < 1e-6), None)
        if kind is None:
            return None
        by_character.setdefault(_rounded(character_G), RealIrrep(_exact(each), kind))
    real_dims = sum(each.matrices.shape[1] ** 2 / each.kind for each in by_character.values())
    return list(by_character.values()) if real_dims == len(cayley_GG) else None


def _exact(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-dimensional real ones are signs, without rounding."""
    return np.round(matrices) if matrices.shape[1] == 1 else matrices


def _rounded(character_G: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple((np.round(character_G, 4) + 0.0).tolist())


def _order(irrep: RealIrrep) -> tuple[int, list[float]]:
    """By dimension; of equal ones the larger character first, which puts the trivial one before all."""
    character = _rounded(np.trace(irrep.matrices, axis1=1, axis2=2))
    return irrep.matrices.shape[1], [-value for value in character]


def _parts(irrep: RealIrrep) -> list[NDArray[np.complex128]]:
    """What it consists of over the complex numbers: itself, two conjugate ones, or one (of two that are alike)."""
    matrices = irrep.matrices.astype(np.complex128)
    if irrep.kind == 1:
        return [matrices]
    dim = matrices.shape[1]
    drawn = np.random.default_rng(0).standard_normal((dim, dim))
    commuting = np.einsum("gij,jk,glk->il", irrep.matrices, drawn - drawn.T, irrep.matrices) / len(matrices)
    _, vectors = np.linalg.eigh(1j * commuting)  # the eigenvalues are a and -a, each of half of the space
    half = vectors[:, : dim // 2]
    one = np.einsum("ai,gab,bj->gij", half.conj(), matrices, half)
    return [one, one.conj()] if irrep.kind == 2 else [one]
