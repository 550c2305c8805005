"""Any finite group, given by its table of products.

What is kept of the table are the rows of a few elements that generate the group; the others follow.

Letters: G group elements, N generators.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gc_core.groups.finite import Irrep, Subgroup
from gc_core.groups.lattice import subgroups_of
from gc_core.groups.representations import RealIrrep, complex_irreps, real_irreps

MOST_TABLE_ELEMENTS = 256
"""Largest order of a group that is given by its table: a number is then one byte, and irreducible representations,
which are found numerically, take seconds."""
MOST_LABEL_CHARACTERS = 4096
"""All labels together, so that a group's text stays a line that a config can hold."""
NAME = r"[A-Za-z][A-Za-z0-9.+-]{0,39}"


@dataclass(frozen=True, kw_only=True)
class TableGroup:
    """A finite group that is known by its table; `from_table` makes it."""

    kind: Literal["table"] = "table"
    name: str
    """Short, for people."""
    labels: tuple[str, ...]
    """(G,) a short name of every element."""
    rows: str
    """Rows of the table of a few elements of which all others are products, (N, G) bytes in base64."""
    sha256: str
    """Of the whole table, (G, G) bytes."""

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name):
            found = f"name {self.name[:40]!r} found"
            raise ValueError(f"group: {found}, expected a letter, then at most 39 letters, digits and . + -")
        if not 1 <= self.order <= MOST_TABLE_ELEMENTS:
            raise ValueError(f"group: {self.order} elements found, expected 1 to {MOST_TABLE_ELEMENTS}")
        _check_labels(self.labels)
        if (found := _digest(self._bytes_GG)) != self.sha256:
            raise ValueError(f"group {self.name}: table with SHA-256 {found[:12]}... found, expected {self.sha256:.12}")
        _check_table(self.cayley)

    @property
    def order(self) -> int:
        """Number of elements |G|."""
        return len(self.labels)

    @cached_property
    def cayley(self) -> NDArray[np.int64]:
        """(G, G) `cayley[g, h]` is the index of g h: h first, then g."""
        return self._bytes_GG.astype(np.int64)

    @cached_property
    def inverse(self) -> NDArray[np.int64]:
        """(G,) `inverse[g]` is the index of the element that undoes g."""
        return (self.cayley == 0).argmax(1)

    @property
    def text(self) -> str:
        """JSON in one line."""
        return json.dumps(self.as_record(), sort_keys=True, separators=(",", ":"))

    def as_record(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self) | {"labels": list(self.labels)}

    def subgroups(self) -> tuple[Subgroup, ...]:
        """All subgroups, the smallest first, the whole group last; conjugate ones have one name.

        Raises:
            ValueError: there are too many.
        """
        return self._subgroups

    def irreps(self) -> tuple[Irrep, ...]:
        """All irreducible representations over the complex numbers, the trivial one first; those of real type have real
        matrices."""
        return self._irreps

    @cached_property
    def real_irreps(self) -> tuple[RealIrrep, ...]:
        """All irreducible representations over the real numbers, the trivial one first."""
        return real_irreps(self.cayley)

    @cached_property
    def _irreps(self) -> tuple[Irrep, ...]:
        return complex_irreps(self.real_irreps)

    @cached_property
    def _subgroups(self) -> tuple[Subgroup, ...]:
        return subgroups_of(self.cayley, self.inverse)

    @cached_property
    def _bytes_GG(self) -> NDArray[np.uint8]:
        """The whole table: the row of s g is that of g, followed by the product with s."""
        rows_NG = _decoded(self.rows, self.order)
        table_GG, known, new = np.zeros((self.order, self.order), np.uint8), {0}, [0]
        table_GG[0] = np.arange(self.order)
        while new:
            g = new.pop()
            for row_G in rows_NG:
                if (product_ := int(row_G[g])) not in known:
                    table_GG[product_] = row_G[table_GG[g]]
                    known.add(product_)
                    new.append(product_)
        return table_GG


def from_table(
    cayley: Sequence[Sequence[int]] | NDArray[np.int64], *, name: str, labels: Sequence[str] = ()
) -> TableGroup:
    """The group with this table of products, `cayley[g][h]` the index of g h (h first, then g), the identity first.

    `labels` are short names of the elements, for people; without them they are e, g1, g2, ...

    Raises:
        ValueError: it is no table of a group, or a name or a label is refused.
    """
    table_GG = np.asarray(cayley)
    if table_GG.ndim != 2 or table_GG.shape[0] != table_GG.shape[1] or table_GG.dtype.kind not in "iu":
        found = f"{table_GG.dtype} of shape {table_GG.shape} found"
        raise ValueError(f"group {name}: {found}, expected a square table of whole numbers")
    if not 1 <= len(table_GG) <= MOST_TABLE_ELEMENTS:
        raise ValueError(f"group {name}: {len(table_GG)} elements found, expected 1 to {MOST_TABLE_ELEMENTS}")
    if table_GG.min() < 0 or table_GG.max() >= len(table_GG):
        found = f"product {table_GG.max() if table_GG.min() >= 0 else table_GG.min()} found"
        raise ValueError(f"group {name}: {found}, expected elements 0 to {len(table_GG) - 1}")
    _check_table(table_GG)
    return TableGroup(
        name=name,
        labels=tuple(labels) or ("e", *(f"g{g}" for g in range(1, len(table_GG)))),
        rows=base64.b64encode(table_GG[_generators(table_GG)].astype(np.uint8).tobytes()).decode(),
        sha256=_digest(table_GG),
    )


def _check_labels(labels: Sequence[str]) -> None:
    if len(set(labels)) != len(labels):
        raise ValueError("group: a label found twice, expected one for every element")
    if odd := next((label for label in labels if not label.isprintable() or not label or " " in label), None):
        raise ValueError(f"group: label {odd[:20]!r} found, expected printable characters without blanks")
    if (count := sum(map(len, labels))) > MOST_LABEL_CHARACTERS:
        raise ValueError(f"group: labels of {count:,} characters found, expected at most {MOST_LABEL_CHARACTERS:,}")


def _check_table(table_GG: NDArray[Any]) -> None:
    """ValueError unless it is a group's, with the identity first."""
    everything = np.arange(len(table_GG))
    if (table_GG[0] != everything).any() or (table_GG[:, 0] != everything).any():
        raise ValueError("group: element 0 changes others, expected the identity first")
    if (np.sort(table_GG, 1) != everything).any() or (np.sort(table_GG, 0) != everything[:, None]).any():
        raise ValueError("group: an element twice in a row or column, expected a table in which each has an inverse")
    for g in everything:
        wrong = np.argwhere(table_GG[table_GG[g]] != table_GG[g][table_GG])
        if len(wrong):
            h, k = wrong[0]
            raise ValueError(f"group: ({g} {h}) {k} is not {g} ({h} {k}), expected a table that is associative")


def _generators(table_GG: NDArray[Any]) -> list[int]:
    """Each the smallest element that those before do not make."""
    made, chosen = {0}, list[int]()
    while len(made) < len(table_GG):
        chosen.append(min(set(range(len(table_GG))) - made))
        new = [0]
        made = {0}
        while new:
            g = new.pop()
            products = {int(table_GG[s, g]) for s in chosen} - made
            made |= products
            new += products
    return chosen


def _decoded(rows: str, order: int) -> NDArray[np.uint8]:
    try:
        content = base64.b64decode(rows, validate=True)
    except ValueError:
        raise ValueError("group: rows that are not base64 found, expected those of the generators") from None
    if len(content) % order:
        raise ValueError(f"group: rows of {len(content)} bytes found, expected some of {order} each")
    rows_NG = np.frombuffer(content, np.uint8).reshape(-1, order)
    if rows_NG.size and rows_NG.max() >= order:
        raise ValueError(f"group: element {rows_NG.max()} found, expected 0 to {order - 1}")
    return rows_NG


def _digest(table_GG: NDArray[Any]) -> str:
    return hashlib.sha256(table_GG.astype(np.uint8).tobytes()).hexdigest()
