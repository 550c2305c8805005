"""How to name one image, wherever it lies, so that any machine finds it again; and tables of such names."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import unquote

import pyarrow as pa

from gc_core.io.location import Location

LISTING = pa.schema(
    [
        ("url", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("error", pa.string()),
    ]
)
"""Columns of a listing: the fields of `ImageRef`, and why what stands there is no image (empty where it may be)."""


MOST_NAME_CHARACTERS = 4096
"""Longest name inside an archive or a table."""


_LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """How to find one image again, from any machine."""

    url: str
    """An image, an archive or Parquet file that holds it, `builtin:PACKAGE`, or `stimuli:SIDE` and
    `all-stimuli:SIDE` (drawn SIDE pixels wide)."""
    member: str = ""
    """Name inside the url, never used as a path: of a tar member, or of a Parquet row (its own `path`, else the row's
    number). Empty for a plain file."""
    offset: int = 0
    """First byte inside a tar file; row number inside a Parquet file."""
    size: int = -1
    """Length in bytes; -1 for all there is."""

    @property
    def location(self) -> Location:
        """Location of the file; drawn images, and those that come with a package, have none."""
        return Location.of_url(self.url)

    @property
    def name(self) -> str:
        """What a person would call it."""
        return self.member or unquote(self.url.rpartition("/")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An image that a listing found, or the reason why there is none."""

    ref: ImageRef
    error: str = ""
    """`KIND (details)`; empty where an image may be."""


def table_of(listed: Iterable[Listed]) -> pa.Table:
    """A listing as columns: a million of them are a million short strings, not a million objects."""
    batches, waiting = [], []
    for entry in listed:
        ref, error = entry.ref, entry.error
        if len(ref.member) > MOST_NAME_CHARACTERS:
            error = error or f"a name of {len(ref.member):,} characters (expected at most {MOST_NAME_CHARACTERS:,})"
            ref = replace(ref, member=f"{ref.member[:80]}...")
        url, member = _text(ref.url), _text(ref.member)
        if (url, member) != (ref.url, ref.member):
            error = error or "name is not UTF-8 (rename it)"
        waiting.append((url, member, ref.offset, ref.size, _text(error)))
        if len(waiting) == 50_000:
            batches.append(_batch(waiting))
            waiting = []
    return pa.Table.from_batches([*batches, _batch(waiting)], LISTING)


def left_out(url: str, ends: Counter[str]) -> pa.Table:
    """Rows of a listing that are no images: how many files of an archive were passed over, by the end of their
    names."""
    refs = (ImageRef(url=url, member=end, size=count) for end, count in ends.items())
    return table_of(Listed(ref=ref, error=_LEFT_OUT) for ref in refs)


def without_left_out(table: pa.Table) -> tuple[pa.Table, Counter[str]]:
    """A listing without the rows of `left_out`, and what they said of all archives together."""
    is_note = [error == _LEFT_OUT for error in table["error"].to_pylist()]
    counts: Counter[str] = Counter()
    for row in table.filter(pa.array(is_note, pa.bool_())).to_pylist():
        counts[row["member"]] += row["size"]
    return table.filter(pa.array([not each for each in is_note], pa.bool_())), counts


def listed_in(table: pa.Table) -> list[Listed]:
    """The listing of `table_of`, one by one."""
    rows = table.select(LISTING.names).to_pylist()
    return [Listed(error=row.pop("error"), ref=ImageRef(**row)) for row in rows]


def _text(name: str) -> str:
    """The name itself, or what is no text in it in escapes: Arrow takes no other."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode(errors="backslashreplace").decode()
    return name


def _batch(rows: list[tuple[str, str, int, int, str]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[]] * len(LISTING)
    return pa.record_batch(
        [pa.array(values, field.type) for values, field in zip(columns, LISTING, strict=True)], schema=LISTING
    )
