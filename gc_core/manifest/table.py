"""The manifest: one row an image, with what it is, whether it can be used, and which split it belongs to.

Letters: I images.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gc_core.images import ImageRef
from gc_core.images.moved import Move, relocate
from gc_core.images.ref import LISTING
from gc_core.io import objects, parquet
from gc_core.io.artefacts import DamagedError, check, digest
from gc_core.io.json_objects import parse_json
from gc_core.io.location import Location

HELD_OUT_SHARE = 0.02

SCHEMA = pa.schema(
    [
        ("image", pa.int64()),
        ("url", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("key", pa.int64()),
        ("split", pa.string()),
    ]
)
RECORDS = pa.schema([field for field in SCHEMA if field.name not in ("image", "split")])
"""What is known of an image by itself; its row and its split depend on the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """What looking at one image found."""

    ref: ImageRef
    status: str
    """`ok`, `small` (no centre has its whole rotated field inside) or `bad` (cannot be read or decoded)."""
    error: str = ""
    """The reason, `KIND (details)`, for a status other than `ok`."""
    height: int = 0
    """Pixels, at working scale."""
    width: int = 0
    key: int = 0
    """Content key; equal copies have equal keys."""


def records_table(records: Sequence[ImageRecord]) -> pa.Table:
    """Records as columns (`RECORDS`)."""
    columns = {
        **{name: [getattr(r.ref, name) for r in records] for name in ("url", "member", "offset", "size")},
        **{name: [getattr(r, name) for r in records] for name in ("status", "error", "height", "width", "key")},
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in RECORDS}, schema=RECORDS)


def records_in(table: pa.Table) -> list[ImageRecord]:
    """The records of `records_table`, or of a manifest."""
    own = [name for name in RECORDS.names if name not in LISTING.names or name == "error"]
    rows = zip(refs_of(table), table.select(own).to_pylist(), strict=True)
    return [ImageRecord(ref=ref, **row) for ref, row in rows]


def build(records: Sequence[ImageRecord], source: dict[str, Any]) -> pa.Table:
    """The manifest's table, rows in the order given; `source` says which images these are and how they were seen."""
    return complete(records_table(records), source)


def complete(records: pa.Table, source: dict[str, Any]) -> pa.Table:
    """The manifest of a table of records: numbered, and split."""
    ok_I = usable(records)
    columns = {name: records[name] for name in RECORDS.names}
    columns["image"] = pa.array(np.arange(len(records)), pa.int64())
    columns["split"] = _splits(records["key"].to_numpy(), ok_I)
    table = pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    return table.replace_schema_metadata({"source": json.dumps(source, sort_keys=True)})


def write(location: Location, table: pa.Table) -> bool:
    """Write the manifest as Parquet, once; False if one stands there, which is left alone."""
    return objects.write_once(*location.split(), parquet.to_bytes(table))


def load_table(location: Location, *, sha256: str | None = None) -> pa.Table:
    """The manifest, which must have this SHA-256 if one is given.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not that one, or no manifest.
    """
    content = objects.read(*location.split())
    check(
        content,
        sha256,
        location,
        "it is damaged, or of another harvest: restore it from the copy that the store is from",
    )
    try:
        table = parquet.parse(content)
        if table.schema.remove_metadata() != SCHEMA:
            raise ValueError("its columns are not a manifest's")
        return table
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DamagedError(f"{location}: the manifest cannot be read ({reason}); restore it from a copy") from None


def fault_of_splits(location: Location, table: pa.Table) -> str | None:
    """Whether each image is in the split that its content key says; None if it is."""
    right_I = pc.call_function("equal", [table["split"], _splits_of(table)]).to_numpy(zero_copy_only=False)
    wrong = len(table) - int(right_I.sum())
    if not wrong:
        return None
    said = f"{wrong:,} of {len(table):,} images are in another split than their content says"
    return f"{location}: {said}; restore it from a copy"


def mend_splits(location: Location, table: pa.Table, sha256: str | None) -> bool:
    """Put every image into its split; False, and nothing is written, if that is not the manifest with this hash."""
    place = SCHEMA.get_field_index("split")
    mended = table.set_column(place, SCHEMA.field("split"), [_splits_of(table)])
    content = parquet.to_bytes(mended)
    if sha256 not in (None, digest(content)):
        return False
    objects.write(*location.split(), content)
    return True


def digest_of(location: Location) -> str | None:
    """SHA-256 of the manifest; None if there is none."""
    try:
        return digest(objects.read(*location.split()))
    except FileNotFoundError:
        return None


def load_if_of(location: Location, source: dict[str, Any]) -> pa.Table | None:
    """The manifest if there is one of this source; None if there is none.

    Raises:
        ValueError: a manifest of other images stands there.
    """
    try:
        table = load_table(location)
    except FileNotFoundError:
        return None
    if (found := _source_of(table, location)) != source:
        raise ValueError(f"{location}: lists other images ({found}), expected {source}; choose another --out")
    return table


def relocated(table: pa.Table, moves: Sequence[Move]) -> pa.Table:
    """The manifest as of images that lie elsewhere now.

    Raises:
        ValueError: a move is of no image here.
    """
    if not moves:
        return table
    urls = relocate(table["url"].to_pylist(), moves)
    return table.set_column(table.schema.get_field_index("url"), SCHEMA.field("url"), [pa.array(urls, pa.string())])


def _splits_of(table: pa.Table) -> pa.Array:
    return _splits(table["key"].to_numpy(), usable(table))


def _source_of(table: pa.Table, location: Location) -> dict[str, Any]:
    return parse_json((table.schema.metadata or {}).get(b"source", b"{}"), location)


def refs_of(table: pa.Table) -> list[ImageRef]:
    """How to find each row's image again."""
    columns = table.select(["url", "member", "offset", "size"]).to_pylist()
    return [ImageRef(**row) for row in columns]


def usable(records: pa.Table) -> NDArray[np.bool_]:
    """(I,) whether an image can be used."""
    return pc.call_function("equal", [records["status"], pa.scalar("ok")]).to_numpy(zero_copy_only=False)


def held_out(table: pa.Table) -> NDArray[np.bool_]:
    """(I,) whether an image is kept for validation."""
    return pc.call_function("equal", [table["split"], pa.scalar("validation")]).to_numpy(zero_copy_only=False)


def held_out_of(key_I: NDArray[np.int64], usable_I: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(I,) whether an image is held out: those usable ones whose content hash is in the lowest 2%; at least one, never
    all, of distinct ones."""
    distinct = np.unique(key_I[usable_I])
    by_share = int(np.searchsorted(distinct, int(HELD_OUT_SHARE * 2**63)))
    held = distinct[: max(0, min(max(by_share, 1), len(distinct) - 1))]
    return np.isin(key_I, held) & usable_I


def _splits(key_I: NDArray[np.int64], usable_I: NDArray[np.bool_]) -> pa.Array:
    """(I,) names of splits, made by Arrow: as Python's strings, ten million of them would be gigabytes."""
    held = pa.array(held_out_of(key_I, usable_I))
    return pc.call_function("if_else", [held, pa.scalar("validation"), pa.scalar("train")])
