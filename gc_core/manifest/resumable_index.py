"""The index of a run as independent parts: each looks at some of the listed images and keeps what it found.

A part that is there already is looked at again only where an image was bad, so an interrupted index continues, and one
that was stopped for its bad images sees those that were mended. What was kept for another listing, or for another
working scale, does not count.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gc_core.images import sources
from gc_core.images.ref import ImageRef, Listed
from gc_core.images.sources import File
from gc_core.io import objects, parquet
from gc_core.io.location import Location
from gc_core.manifest import rejections
from gc_core.manifest.inspection import InspectionSettings, inspect
from gc_core.manifest.rejections import Reasons
from gc_core.manifest.table import RECORDS, ImageRecord, records_in, records_table

MANY_PARTS = 64
FEWEST_ROWS, MOST_ROWS = 32, 1024
OWN_NAMES = r"(part-\d{5,}|listing-[0-9a-f]{24})\.parquet"
THREADS = 4
"""Images a task looks at together: while one is fetched another is decoded."""

DEADLY = "ends the process that decodes it"
"""Kind of the reason of an image that is not looked at again."""
_DEADLY_WHY = "out of memory, or a fault of its decoder"
UNREAD = "unread"
"""Status, inside parts only, of an image that could not be fetched this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """What is left in the end of looking at one part."""

    part: int
    num_images: int
    num_unread: int
    """Could not be fetched; another attempt may."""
    bad: Reasons
    """Why images cannot be used, those not fetched included."""


class GoneError(OSError):
    """A part that was looked at is not there any more."""


def folder_of(folder: Location, source: Mapping[str, Any]) -> Location:
    """Where the parts of these images lie: a harvest of others leaves them alone."""
    named = hashlib.blake2b(json.dumps(source, sort_keys=True).encode(), digest_size=8).hexdigest()
    return folder / f"of-{named}"


def parts(num_images: int) -> list[range]:
    """Places in the listing that each part looks at: 64 parts, of 32 to 1,024 images."""
    rows = min(MOST_ROWS, max(FEWEST_ROWS, -(-num_images // MANY_PARTS)))
    return [range(first, min(first + rows, num_images)) for first in range(0, num_images, rows)]


def probe(listed: list[Listed], settings: InspectionSettings) -> None:
    """Inspect some images for nothing but to see whether this process outlives it."""
    for entry in listed:
        _look(entry, settings)


def look_at_part(
    folder: Location,
    part: int,
    listed: list[Listed],
    settings: InspectionSettings,
    deadly: frozenset[int] = frozenset(),
) -> PartReport:
    """Inspect the images of a part that were not inspected yet, or were bad, and keep what was found.

    Places in `deadly` are images that ended processes before: they are bad, now and when the index is continued.

    Raises:
        OSError: the index cannot be written.
    """
    before = _kept(folder, _part_name(part))
    known = _known(before, listed, settings)
    todo = [place for place, record in enumerate(known) if record is None]
    with ThreadPoolExecutor(THREADS) as threads:
        inspected = threads.map(lambda place: _look(_without_deadly(listed[place], place in deadly), settings), todo)
        new = dict(zip(todo, inspected, strict=True))
    records = [new[place] if record is None else record for place, record in enumerate(known)]
    table = records_table(records)
    if todo or before is None or not before.equals(table):
        _keep(folder, _part_name(part), table, {"lens": asdict(settings)})
    unread = sum(record.status == UNREAD for record in records)
    return PartReport(part=part, num_images=len(listed), num_unread=unread, bad=rejections.count(table, "bad", UNREAD))


def scan(folder: Location, file: File) -> pa.Table:
    """`sources.scan`, kept, so that a continued index need not look into the file again.

    Raises:
        OSError: the file cannot be read, or the index not be written.
    """
    about = f"{file.kind} {file.location} {file.size} {file.column or ''}"
    name = hashlib.blake2b(about.encode(), digest_size=12).hexdigest()
    if (known := _kept(folder, f"listing-{name}.parquet")) is not None:
        return known.replace_schema_metadata(None)
    listing = sources.scan(file)
    _keep(folder, f"listing-{name}.parquet", listing, {})
    return listing


def unreadable(file: File, error: OSError) -> pa.Table:
    """The listing of a file that cannot be read after all attempts: one bad row."""
    ref = ImageRef(url=file.location.url, member="(the whole file)", offset=-1)
    return sources.ref.table_of([Listed(ref=ref, error=_unread(error))])


def deadly_file(file: File) -> pa.Table:
    """The listing of a file that ends the processes which look into it: one bad row."""
    ref = ImageRef(url=file.location.url, member="(the whole file)", offset=-1)
    return sources.ref.table_of([Listed(ref=ref, error=f"{DEADLY} ({_DEADLY_WHY})")])


def collect(folder: Location, num_parts: int) -> pa.Table:
    """The records of all parts, in order."""
    tables = [_kept(folder, _part_name(part)) for part in range(num_parts)]
    missing = [part for part, table in enumerate(tables) if table is None]
    if missing:
        raise GoneError(f"{folder}: part {missing[0]} is gone; run the same command again")
    records = pa.concat_tables([table.replace_schema_metadata(None) for table in tables if table is not None])
    status = pc.call_function(
        "if_else",
        [pc.call_function("equal", [records["status"], pa.scalar(UNREAD)]), pa.scalar("bad"), records["status"]],
    )
    return records.set_column(records.schema.get_field_index("status"), RECORDS.field("status"), status)


def clear(folder: Location) -> None:
    """Remove everything kept; the manifest has it."""
    objects.delete_named(folder, OWN_NAMES)


def _without_deadly(listed: Listed, deadly: bool) -> Listed:
    return Listed(ref=listed.ref, error=f"{DEADLY} ({_DEADLY_WHY})") if deadly else listed


def _look(listed: Listed, settings: InspectionSettings) -> ImageRecord:
    if listed.error:
        return ImageRecord(ref=listed.ref, status="bad", error=listed.error)
    try:
        return inspect(listed.ref, settings)
    except OSError as error:
        return ImageRecord(ref=listed.ref, status=UNREAD, error=_unread(error))


def _unread(error: OSError) -> str:
    return f"cannot be read ({str(error).partition(chr(10))[0] or type(error).__name__})"


def _known(table: pa.Table | None, listed: list[Listed], settings: InspectionSettings) -> list[ImageRecord | None]:
    """Record of each image that the part's table kept from earlier; None for those to look at."""
    if table is None or json.loads(table.schema.metadata[b"about"]) != {"lens": asdict(settings)}:
        return [None] * len(listed)
    usable = (
        record
        for record in records_in(table)
        if record.status not in ("bad", UNREAD) or rejections.kind_of(record.error) == DEADLY
    )
    by_place = {(record.ref.url, record.ref.member, record.ref.offset): record for record in usable}
    kept = (by_place.get((entry.ref.url, entry.ref.member, entry.ref.offset)) for entry in listed)
    return [
        record if record is not None and entry.ref.size in (-1, record.ref.size) else None  # -1: known by reading only
        for entry, record in zip(listed, kept, strict=True)
    ]


def _part_name(part: int) -> str:
    return f"part-{part:05}.parquet"


def _kept(folder: Location, name: str) -> pa.Table | None:
    try:
        return parquet.parse(objects.read(folder, name))
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, pa.ArrowException):
            raise
        return None  # damaged: what it held is found again


def _keep(folder: Location, name: str, table: pa.Table, about: dict[str, object]) -> None:
    """Whole or not at all: `objects.write` replaces an object at once."""
    objects.write(folder, name, parquet.to_bytes(table.replace_schema_metadata({"about": json.dumps(about)})))
