"""Small groups that are given by their tables, made from permutations and quaternions."""

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import numpy as np

from gc_core import groups
from gc_core.groups import FiniteGroup, TableGroup, direct_product, from_table

NAMES = ["S3", "Q8", "A4", "V4", "D4t", "C5t", "S4", "D4xC2", "Q8xC3"]


@cache
def table_group(name: str) -> TableGroup:
    made = {
        "S3": lambda: _of_permutations("S3", sorted(permutations(range(3)))),
        "S4": lambda: _of_permutations("S4", sorted(permutations(range(4)))),
        "A4": lambda: _of_permutations("A4", [p for p in sorted(permutations(range(4))) if _is_even(p)]),
        "Q8": _quaternions,
        "V4": lambda: direct_product(groups.cyclic(2), groups.cyclic(2), name="V4"),
        "D4t": lambda: from_table(groups.dihedral(4).cayley, name="D4t", labels=groups.dihedral(4).labels),
        "C5t": lambda: from_table(groups.cyclic(5).cayley, name="C5t"),
        "D4xC2": lambda: direct_product(groups.dihedral(4), groups.cyclic(2)),
        "Q8xC3": lambda: direct_product(_quaternions(), groups.cyclic(3)),
    }
    return made[name]()


def any_group(name: str) -> FiniteGroup:
    """One of these, or of the plane."""
    return table_group(name) if name in NAMES else groups.parse(name)


def _of_permutations(name: str, elements: Sequence[tuple[int, ...]]) -> TableGroup:
    place = {element: number for number, element in enumerate(elements)}
    table = [[place[tuple(g[i] for i in h)] for h in elements] for g in elements]
    return from_table(table, name=name, labels=["".join(map(str, element)) for element in elements])


def _is_even(permutation: tuple[int, ...]) -> bool:
    return np.linalg.det(np.eye(len(permutation))[list(permutation)]) > 0


def _quaternions() -> TableGroup:
    one, i, j = np.eye(2), np.diag([1j, -1j]), np.array([[0, 1], [-1, 0]])
    units = [one, i, j, i @ j]
    elements = [*units, *(-unit for unit in units)]
    table = [[next(n for n, e in enumerate(elements) if np.allclose(g @ h, e)) for h in elements] for g in elements]
    return from_table(table, name="Q8", labels=["1", "i", "j", "k", "-1", "-i", "-j", "-k"])
