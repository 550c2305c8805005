"""Subgroups up to their axis: one symmetry, about any axis; of groups that are not of the plane, up to conjugation.

For even n the mirrors of D_n are of two kinds that no element takes into one another; half a step of rotation would.
They are one class here, so that the choice among all axes is paid for.

Letters: Q classes.
"""

from dataclasses import dataclass
from functools import lru_cache

from gc_core.groups import FiniteGroup, Group, Subgroup


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupClass:
    """Subgroups of one name."""

    name: str
    """C_m or D_m, or that of conjugate subgroups."""
    numbers: tuple[int, ...]
    """Numbers of its subgroups in `group.subgroups()`."""
    order: int
    """Order of each of the subgroups."""
    num_rotations: int
    first_mirrors: tuple[int, ...]
    """s of the first mirror r^s m of each subgroup; empty without mirrors."""

    @property
    def has_mirrors(self) -> bool:
        """Whether half of the elements are mirrors."""
        return bool(self.first_mirrors)


@lru_cache
def classes(group: FiniteGroup) -> tuple[SubgroupClass, ...]:
    """All of them but the identity and the whole group, which no changing part can have; the smallest first."""
    by_name: dict[str, list[int]] = {}
    for number, subgroup in enumerate(group.subgroups()):
        if 1 < subgroup.order < group.order:
            by_name.setdefault(subgroup.name, []).append(number)
    return tuple(_class(numbers, group) for numbers in by_name.values())


def _class(numbers: list[int], group: FiniteGroup) -> SubgroupClass:
    subgroups = [group.subgroups()[number] for number in numbers]
    firsts = (_first_mirror(subgroup, group) for subgroup in subgroups)
    return SubgroupClass(
        name=subgroups[0].name,
        numbers=tuple(numbers),
        order=subgroups[0].order,
        num_rotations=subgroups[0].num_rotations,
        first_mirrors=tuple(first for first in firsts if first is not None),
    )


def _first_mirror(subgroup: Subgroup, group: FiniteGroup) -> int | None:
    if not isinstance(group, Group):
        return None
    return min((element - group.n for element in subgroup.elements if element >= group.n), default=None)
