"""Subgroups and irreducible representations, as every finite group has them.

Letters: G group elements, d dimension of a representation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """A subgroup, up to nothing: two conjugate mirrors are two subgroups."""

    name: str
    """Of the plane: C_m for m rotations, D_m for m rotations and m mirrors. Of another group: H_ with the order and a
    letter, the same for conjugate subgroups."""
    elements: tuple[int, ...]
    """Indices in the parent group, ascending; the identity is the first."""
    num_rotations: int = 0
    """How many of the elements are rotations of the plane (the m of the name); 0 where the group is not of the
    plane."""
    axis_deg: float | None = None
    """Direction of the first mirror axis, anticlockwise from the right as displayed, in [0, 180); None without
    mirrors."""

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.elements)


@dataclass(frozen=True, slots=True, kw_only=True)
class Irrep:
    """An irreducible unitary representation."""

    label: str
    dim: int
    matrices: NDArray[np.complex128]
    """(G, d, d); real up to rounding for the dihedral groups."""

    @property
    def is_real(self) -> bool:
        """Whether the matrices are, up to rounding."""
        return bool(np.abs(self.matrices.imag).max() < 1e-9)
