"""Groups from and to text and plain values, and one group inside another."""

import json
import re
from collections.abc import Mapping
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gc_core.groups.plane import MOST_ELEMENTS, Group, cyclic, dihedral, trivial
from gc_core.groups.table import TableGroup, from_table
from gc_core.io.typed import record_of

FiniteGroup: TypeAlias = Group | TableGroup


def parse(text: str) -> Group:
    """Read `D32`, `D_32`, `C8` or `trivial`.

    Raises:
        ValueError: the text is none of these.
    """
    if text.strip().lower() == "trivial":
        return trivial()
    match = re.fullmatch(r"\s*([CD])_?([1-9][0-9]*)\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(
            f"group: found {text[:40]!r}, expected D followed by a number (D32), C and a number (C8), or `trivial`"
        )
    if len(match[2]) > len(str(MOST_ELEMENTS)):
        raise ValueError(f"group: {text.strip()[:20]} has too many elements, expected at most {MOST_ELEMENTS:,}")
    make = cyclic if match[1].upper() == "C" else dihedral
    return make(int(match[2]))


def from_text(text: str) -> FiniteGroup:
    """The group whose `text` this is, or that `parse` reads.

    Raises:
        ValueError: it is none.
    """
    return from_record(_object(text)) if text.startswith("{") else parse(text)


def from_record(record: Mapping[str, Any]) -> FiniteGroup:
    """The group whose `as_record` this is.

    Raises:
        ValueError: it is none, or of no group.
    """
    return record_of(TableGroup if record.get("kind") == "table" else Group, record, where="group")


def of_the_plane(group: FiniteGroup) -> Group:
    """The group, for what is known of rotations and mirrors alone.

    Raises:
        ValueError: it is another group.
    """
    if not isinstance(group, Group):
        raise ValueError(f"group: {group.name} found, expected rotations and mirrors (D32, C8, trivial)")
    return group


def embed(part: FiniteGroup, whole: FiniteGroup) -> NDArray[np.int64]:
    """Indices in `whole` of the elements of `part`, in the order of `part`; shape (part.order,). The group of one
    element is part of every group, and every group of itself.

    Raises:
        ValueError: `part` is no subgroup of `whole` in the same directions.
    """
    if part == whole or part.order == 1:
        return np.arange(part.order)
    if not isinstance(part, Group) or not isinstance(whole, Group):
        raise ValueError(f"group: {part.name} is not contained in {whole.name}; choose {whole.name} or trivial")
    fits = whole.n % part.n == 0 and (whole.has_mirrors or not part.has_mirrors)
    if not fits:
        raise ValueError(f"group: {part.name} is not contained in {whole.name}; choose a divisor of {whole.n}")
    return part.turns * (whole.n // part.n) + whole.n * part.mirrored


def direct_product(one: FiniteGroup, other: FiniteGroup, *, name: str | None = None) -> TableGroup:
    """Pairs of elements, (g, h) at g * other.order + h, multiplied each with its own; labels are joined by a comma."""
    place = np.arange(one.order * other.order).reshape(one.order, other.order)
    table = place[one.cayley[:, None, :, None], other.cayley[None, :, None, :]].reshape(place.size, place.size)
    labels = [f"{g},{h}" for g, h in product(one.labels, other.labels)]
    return from_table(table, name=name or f"{_plain(one.name)}x{_plain(other.name)}", labels=labels)


def _plain(name: str) -> str:
    return name.replace("_", "")


def _object(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)  # what begins with a brace and is JSON is an object
    except ValueError:
        raise ValueError(f"group: found {text[:40]!r}..., expected the text of a group, which is JSON") from None
