"""Groups of rotations and mirrors of the plane.

Convention (stated here once; tests/unit/test_groups.py holds it as laws). In D_n index k in [0, n) is r^k, the rotation
by 2 pi k / n anticlockwise as seen on the displayed image; index n + k is r^k m: mirror left-right first, then rotate.
C_n is the first half. 2x2 matrices act on (right, up) coordinates.

Letters: G group elements, d dimension of a representation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import gcd
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gc_core.groups.finite import Irrep, Subgroup

MOST_ELEMENTS = 2048
"""Largest group order: turns by a third of a degree, mirrored too. A sample of 480 channels is then 2 MB, and a group's
tables of products and representations take 0.2 GB; those of twice as many elements take four times as much."""

Kind = Literal["trivial", "cyclic", "dihedral"]


@dataclass(frozen=True)
class Group:
    """A cyclic or dihedral group of the plane; elements are integers in [0, order)."""

    kind: Kind
    n: int
    """Number of rotations."""

    def __post_init__(self) -> None:
        if self.n < 1 or (self.kind == "trivial" and self.n != 1):
            raise ValueError(f"group {self.kind}: n is {self.n}, expected a positive number (1 for the trivial group)")
        if self.order > MOST_ELEMENTS:
            raise ValueError(f"group: {self.name:.20} has too many elements, expected at most {MOST_ELEMENTS:,}")

    @property
    def name(self) -> str:
        """`D_32`, `C_8` or `trivial`; what `parse` reads."""
        return "trivial" if self.kind == "trivial" else f"{'C' if self.kind == 'cyclic' else 'D'}_{self.n}"

    @property
    def has_mirrors(self) -> bool:
        """Whether half of the elements are mirrored."""
        return self.kind == "dihedral"

    @property
    def order(self) -> int:
        """Number of elements |G|."""
        return 2 * self.n if self.has_mirrors else self.n

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """`r3` for a rotation by three steps, `r3m` mirrored first; `e` for the identity."""
        words = (
            f"{f'r{turn}' if turn else ''}{'m' if mirrored else ''}"
            for turn, mirrored in zip(self.turns, self.mirrored, strict=True)
        )
        return tuple(word or "e" for word in words)

    @property
    def text(self) -> str:
        """The name."""
        return self.name

    def as_record(self) -> dict[str, Any]:
        """`kind` and `n`."""
        return {"kind": self.kind, "n": self.n}

    @cached_property
    def turns(self) -> NDArray[np.int64]:
        """(G,) the k of r^k or r^k m."""
        return np.arange(self.order) % self.n

    @cached_property
    def mirrored(self) -> NDArray[np.bool_]:
        """(G,) whether an element mirrors."""
        return np.arange(self.order) >= self.n

    @cached_property
    def cayley(self) -> NDArray[np.int64]:
        """(G, G) `cayley[g, h]` is the index of g h: h first, then g."""
        sign = np.where(self.mirrored, -1, 1)[:, None]  # m r = r^-1 m
        turn = (self.turns[:, None] + sign * self.turns[None, :]) % self.n
        return turn + self.n * (self.mirrored[:, None] ^ self.mirrored[None, :])

    @cached_property
    def inverse(self) -> NDArray[np.int64]:
        """(G,) `inverse[g]` is the index of the element that undoes g; a mirrored element undoes itself."""
        return np.where(self.mirrored, np.arange(self.order), (-self.turns) % self.n)

    @cached_property
    def matrices(self) -> NDArray[np.float64]:
        """(G, 2, 2) action on (right, up) coordinates; exact zeros and ones at multiples of 90 degrees."""
        cos, sin = _cos_sin(self.turns, self.n)
        flip = np.where(self.mirrored, -1.0, 1.0)
        return np.stack([np.stack([cos * flip, -sin], -1), np.stack([sin * flip, cos], -1)], -2)

    @cached_property
    def axes_deg(self) -> NDArray[np.float64]:
        """(G,) mirror axis of each mirrored element, anticlockwise from the right, in [0, 180); NaN for rotations."""
        # r^k m fixes the direction 90 + k * 180 / n: m alone keeps the vertical.
        axes = (90.0 + 180.0 * self.turns / self.n) % 180.0
        return np.where(self.mirrored, axes, np.nan)

    def subgroups(self) -> tuple[Subgroup, ...]:
        """All subgroups, the smallest first, the whole group last."""
        return _subgroups(self)

    def irreps(self) -> tuple[Irrep, ...]:
        """All irreducible representations over the complex numbers, the trivial one first; squares of dims sum to
        |G|."""
        return _irreps(self)


def dihedral(n: int) -> Group:
    """D_n: n rotations and n mirrored rotations."""
    return Group("dihedral", n)


def cyclic(n: int) -> Group:
    """C_n: n rotations."""
    return Group("cyclic", n)


def trivial() -> Group:
    """The one-element group: a crosscoder over it is an ordinary sparse autoencoder."""
    return Group("trivial", 1)


def quarter_turns(n: int) -> int:
    """How many of the n rotations are multiples of 90 degrees, and so need no interpolation: 1, 2 or 4."""
    return gcd(n, 4)


def _cos_sin(turns: NDArray[np.int64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    angle = 2 * np.pi * turns / n
    cos, sin = np.cos(angle), np.sin(angle)
    exact = (4 * turns) % n == 0  # rounding must not turn an exact quarter turn into an interpolated one
    return np.where(exact, np.round(cos), cos), np.where(exact, np.round(sin), sin)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@lru_cache
def _subgroups(group: Group) -> tuple[Subgroup, ...]:
    """<r^step> for each divisor, and with mirrors <r^step, r^i m> for each i below the step."""
    subgroups = [_subgroup(group, range(0, group.n, step), ()) for step in _divisors(group.n)]
    if group.has_mirrors:
        for step in _divisors(group.n):
            rotations = range(0, group.n, step)
            subgroups += [
                _subgroup(group, rotations, [group.n + first + r for r in rotations]) for first in range(step)
            ]
    return tuple(sorted(subgroups, key=lambda h: (h.order, h.elements)))


def _subgroup(group: Group, rotations: Sequence[int], mirrors: Sequence[int]) -> Subgroup:
    axis_deg = float(min(group.axes_deg[list(mirrors)])) if mirrors else None
    name = f"{'D' if mirrors else 'C'}_{len(rotations)}"
    return Subgroup(name=name, elements=(*rotations, *mirrors), num_rotations=len(rotations), axis_deg=axis_deg)


@lru_cache
def _irreps(group: Group) -> tuple[Irrep, ...]:
    return _dihedral_irreps(group) if group.has_mirrors else _cyclic_irreps(group)


def _cyclic_irreps(group: Group) -> tuple[Irrep, ...]:
    """Characters exp(2 pi i j k / n), the frequencies ordered 0, 1, -1, 2, -2 ..."""
    frequencies = sorted(range(group.n), key=lambda j: (min(j, group.n - j), j))
    signed = [j if 2 * j <= group.n else j - group.n for j in frequencies]
    return tuple(_one_dimensional(f"A_{j}", np.exp(2j * np.pi * j * group.turns / group.n)) for j in signed)


def _dihedral_irreps(group: Group) -> tuple[Irrep, ...]:
    """A1, A2, for even n B1 and B2 (r to -1), and the planes E_j turning j times as fast."""
    sign = np.where(group.mirrored, -1.0, 1.0)
    alternate = np.where(group.turns % 2 == 0, 1.0, -1.0)
    irreps = [_one_dimensional("A1", np.ones(group.order)), _one_dimensional("A2", sign)]
    if group.n % 2 == 0:
        irreps += [_one_dimensional("B1", alternate), _one_dimensional("B2", alternate * sign)]
    for j in range(1, (group.n + 1) // 2):
        cos, sin = _cos_sin((j * group.turns) % group.n, group.n)
        plane = np.stack([np.stack([cos, -sin * sign], -1), np.stack([sin, cos * sign], -1)], -2)
        irreps.append(Irrep(label=f"E{j}", dim=2, matrices=plane.astype(np.complex128)))
    return tuple(irreps)


def _one_dimensional(label: str, character: NDArray[np.float64] | NDArray[np.complex128]) -> Irrep:
    return Irrep(label=label, dim=1, matrices=character.astype(np.complex128)[:, None, None])
