"""All subgroups of a group that is given by its table, and which of them are conjugate.

A set of elements is a whole number here, bit g for element g.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from gc_core.groups.finite import Subgroup

MOST_SUBGROUPS = 1000
"""Of more, as an elementary group of 64 elements has, no analysis could tell one from another."""


def subgroups_of(cayley_GG: NDArray[np.int64], inverse_G: NDArray[np.int64]) -> tuple[Subgroup, ...]:
    """All subgroups, the smallest first, of equal ones in the order of their elements; conjugate ones have one name.

    Raises:
        ValueError: there are more than `MOST_SUBGROUPS`.
    """
    found = sorted(map(_elements, _closed(cayley_GG)), key=lambda elements: (len(elements), elements))
    names = _names(found, cayley_GG, inverse_G)
    return tuple(Subgroup(name=names[elements], elements=elements) for elements in found)


def _closed(cayley_GG: NDArray[np.int64]) -> set[int]:
    """Every subgroup is joined of cyclic ones: each one found is joined with each of these, until nothing is new."""
    cyclic = {_set(_powers(g, cayley_GG)) for g in range(len(cayley_GG))}
    found, new = set(cyclic), list(cyclic)
    while new:
        one = new.pop()
        for other in cyclic:
            if other & ~one and (joined := _joined(one, other, cayley_GG)) not in found:
                found.add(joined)
                new.append(joined)
                if len(found) > MOST_SUBGROUPS:
                    raise ValueError(f"group: more than {MOST_SUBGROUPS:,} subgroups found, expected at most so many")
    return found


def _powers(g: int, cayley_GG: NDArray[np.int64]) -> Iterator[int]:
    power = 0
    while True:
        yield power
        if (power := int(cayley_GG[power, g])) == 0:
            return


def _joined(one: int, other: int, cayley_GG: NDArray[np.int64]) -> int:
    """The smallest subgroup with both."""
    inside = np.zeros(len(cayley_GG), np.bool_)
    inside[[*_elements(one), *_elements(other)]] = True
    count = 0
    while count != (count := int(inside.sum())):
        members = np.flatnonzero(inside)
        inside[cayley_GG[np.ix_(members, members)]] = True
    return _set(np.flatnonzero(inside).tolist())


def _names(
    found: list[tuple[int, ...]], cayley_GG: NDArray[np.int64], inverse_G: NDArray[np.int64]
) -> dict[tuple[int, ...], str]:
    names: dict[tuple[int, ...], str] = {}
    num_classes: dict[int, int] = defaultdict(int)
    for elements in found:
        if elements not in names:
            own = f"H_{len(elements)}{_letters(num_classes[len(elements)])}"
            num_classes[len(elements)] += 1
            names |= dict.fromkeys(_conjugates(elements, cayley_GG, inverse_G), own)
    return names


def _conjugates(
    elements: tuple[int, ...], cayley_GG: NDArray[np.int64], inverse_G: NDArray[np.int64]
) -> set[tuple[int, ...]]:
    moved_GH = cayley_GG[cayley_GG[:, list(elements)], inverse_G[:, None]]
    return {tuple(row) for row in np.sort(moved_GH, 1).tolist()}


def _letters(number: int) -> str:
    """a to z, then aa, ab, ..."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("a") + last)


def _set(elements: Iterable[int]) -> int:
    return sum(1 << element for element in elements)


def _elements(members: int) -> tuple[int, ...]:
    return tuple(g for g in range(members.bit_length()) if members >> g & 1)
