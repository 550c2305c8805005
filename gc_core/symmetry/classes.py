"""Subgroups up to their axis: one symmetry, about any axis.

For even n the mirrors of D_n are of two kinds that no element takes into one another; half a step of rotation would.
They are one class here, so that the choice among all axes is paid for.

Letters: Q classes.
"""

from dataclasses import dataclass
from functools import lru_cache

from gc_core.groups import Group, Subgroup


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupClass:
    """Subgroups of one name."""

    name: str
    """C_m or D_m."""
    numbers: tuple[int, ...]
    """Numbers of its subgroups in `group.subgroups()`."""
    num_rotations: int
    first_mirrors: tuple[int, ...]
    """s of the first mirror r^s m of each subgroup; empty without mirrors."""

    @property
    def has_mirrors(self) -> bool:
        """Whether half of the elements are mirrors."""
        return bool(self.first_mirrors)

    @property
    def order(self) -> int:
        """Order of each of the subgroups."""
        return self.num_rotations * (2 if self.has_mirrors else 1)


@lru_cache
def classes(group: Group) -> tuple[SubgroupClass, ...]:
    """All of them but the identity and the whole group, which no changing part can have; the smallest first."""
    by_name: dict[str, list[int]] = {}
    for number, subgroup in enumerate(group.subgroups()):
        if 1 < subgroup.order < group.order:
            by_name.setdefault(subgroup.name, []).append(number)
    return tuple(_class(numbers, group) for numbers in by_name.values())


def _class(numbers: list[int], group: Group) -> SubgroupClass:
    subgroups = [group.subgroups()[number] for number in numbers]
    firsts = (_first_mirror(subgroup, group) for subgroup in subgroups)
    return SubgroupClass(
        name=subgroups[0].name,
        numbers=tuple(numbers),
        num_rotations=subgroups[0].num_rotations,
        first_mirrors=tuple(first for first in firsts if first is not None),
    )


def _first_mirror(subgroup: Subgroup, group: Group) -> int | None:
    return min((element - group.n for element in subgroup.elements if element >= group.n), default=None)
