"""Finite groups: elements as integers, tables, subgroups, irreducible representations.

Those of the plane (`plane`), which are known by name, and any other that is given by its table of products (`table`).
Both have `name` (short, for people), `text` and `as_record()` (from which `from_text` and `from_record` make it again),
`order`, `labels`, `cayley`, `inverse`, `subgroups()` and `irreps()`; those of the plane also say what they do in
it (`matrices`, `turns`, `mirrored`, `axes_deg`).
"""

from gc_core.groups.finite import Irrep, Subgroup
from gc_core.groups.names import FiniteGroup, direct_product, embed, from_record, from_text, of_the_plane, parse
from gc_core.groups.plane import MOST_ELEMENTS, Group, Kind, cyclic, dihedral, quarter_turns, trivial
from gc_core.groups.table import MOST_TABLE_ELEMENTS, TableGroup, from_table

__all__ = [
    "MOST_ELEMENTS",
    "MOST_TABLE_ELEMENTS",
    "FiniteGroup",
    "Group",
    "Irrep",
    "Kind",
    "Subgroup",
    "TableGroup",
    "cyclic",
    "dihedral",
    "direct_product",
    "embed",
    "from_record",
    "from_table",
    "from_text",
    "of_the_plane",
    "parse",
    "quarter_turns",
    "trivial",
]
