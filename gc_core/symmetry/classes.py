"""Subgroups up to conjugation: the same symmetry about another axis.

Letters: Q classes.
"""

from dataclasses import dataclass
from functools import lru_cache

from gc_core.groups import Group, Subgroup


@dataclass(frozen=True, slots=True, kw_only=True)
class ConjugacyClass:
    """Subgroups that the group turns into one another."""

    name: str
    """C_m or D_m, and for the second class of two where mirrors are of two kinds D_m'."""
    numbers: tuple[int, ...]
    """Of its subgroups, in `group.subgroups()`."""
    num_rotations: int
    has_mirrors: bool
    first_mirrors: tuple[int, ...]
    """s of the first mirror r^s m of each subgroup; empty without mirrors."""

    @property
    def order(self) -> int:
        """Of each of the subgroups."""
        return self.num_rotations * (2 if self.has_mirrors else 1)


@lru_cache
def classes(group: Group) -> tuple[ConjugacyClass, ...]:
    """All of them but the identity and the whole group, which no changing part can have; the smallest first."""
    found: dict[tuple[int, bool, int], list[int]] = {}
    for number, subgroup in enumerate(group.subgroups()):
        if 1 < subgroup.order < group.order:
            found.setdefault(_kind(subgroup, group), []).append(number)
    return tuple(_class(kind, numbers, group) for kind, numbers in found.items())


def _kind(subgroup: Subgroup, group: Group) -> tuple[int, bool, int]:
    """Turning by r takes the mirror r^s m to r^(s+2) m, and a D_m has every (n/m)-th mirror: two kinds if that is
    even."""
    first = _first_mirror(subgroup, group)
    if first is None:
        return subgroup.num_rotations, False, 0
    return subgroup.num_rotations, True, first % 2 if (group.n // subgroup.num_rotations) % 2 == 0 else 0


def _first_mirror(subgroup: Subgroup, group: Group) -> int | None:
    return min((element - group.n for element in subgroup.elements if element >= group.n), default=None)


def _class(kind: tuple[int, bool, int], numbers: list[int], group: Group) -> ConjugacyClass:
    num_rotations, has_mirrors, parity = kind
    subgroups = [group.subgroups()[number] for number in numbers]
    firsts = (_first_mirror(subgroup, group) for subgroup in subgroups)
    return ConjugacyClass(
        name=subgroups[0].name + "'" * parity,
        numbers=tuple(numbers),
        num_rotations=num_rotations,
        has_mirrors=has_mirrors,
        first_mirrors=tuple(first for first in firsts if first is not None),
    )
