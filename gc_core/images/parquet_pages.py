"""What a column of a Parquet file unpacks to, by the headers of its pages alone.

Parquet's parquet.thrift (PageHeader), in Thrift's compact protocol: each field is a byte of type and distance from the
last field's number, then its value; numbers are zigzag varints.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from gc_core.images import budget
from gc_core.images.decode import ImageError

_KIND, _UNPACKED, _STORED = 1, 2, 3
"""Fields of a page's header; the last two in bytes."""
_ABOUT = {0: 5, 3: 8}
"""Header field about a page of rows, by the page's type: version 1 or 2."""
_NUM_VALUES = 1
_ENCODING = {0: 2, 3: 4}
_DICTIONARY_PAGE = 2
_DICTIONARY = -1
"""Stands for the encoding of a page that holds the values which others number."""
_PREFIXES = 7
"""DELTA_BYTE_ARRAY: each value begins with a part of the one before."""
_DELTAS = frozenset({5, 6, _PREFIXES})
_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12)
_FIXED_BYTES = {_BYTE: 1, _DOUBLE: 8}
_DEEPEST, _MOST_FIELDS = 4, 100
"""Structs in structs, and fields of one; a page's header has no lists."""


MOST_PAGES = 100_000
"""Most pages of a column in a row group; writers fill pages with 8 KiB and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What the pages of a row group unpack to."""

    stored_bytes: int
    largest_bytes: int
    """Size of the largest page, unpacked."""
    numbered: tuple[str, ...]
    """Columns with a dictionary, whose values can be read as numbers into it."""
    repeat: bool
    """Whether values of others are repeated, or begin with a part of the one before: each may be as long as a page."""


def measure(file: BinaryIO, group: pq.RowGroupMetaData, part: str) -> Pages:
    """Walk over the pages of the columns at and below a path.

    Raises:
        ImageError: they unpack to far more than is stored, hold more values than bytes, or are damaged.
    """
    columns = (group.column(place) for place in range(group.num_columns))
    chunks = [chunk for chunk in columns if f"{chunk.path_in_schema}.".startswith(f"{part}.")]
    total, numbered, repeat = _Total(), list[str](), False
    for chunk in chunks:
        kinds = {kind for page in _pages(file, chunk) for kind in total.add(page, file)}
        if _DICTIONARY in kinds and not kinds & _DELTAS:
            numbered.append(chunk.path_in_schema)
        else:
            repeat = repeat or bool(kinds & {_DICTIONARY, _PREFIXES})
    return Pages(
        stored_bytes=total.stored_bytes, largest_bytes=total.largest_bytes, numbered=tuple(numbered), repeat=repeat
    )


def file_bytes(file: BinaryIO) -> int:
    """The whole file's length; its place is kept."""
    place = file.tell()
    length = file.seek(0, 2)
    file.seek(place)
    return length


@dataclass(frozen=True, slots=True)
class _Page:
    unpacked_bytes: int
    stored_bytes: int
    num_values: int
    encoding: int


@dataclass(slots=True)
class _Total:
    """Totals over the pages met so far."""

    unpacked_bytes: int = 0
    stored_bytes: int = 0
    largest_bytes: int = 0
    num_values: int = 0

    def add(self, page: _Page, file: BinaryIO) -> tuple[int]:
        """Count a page, unless all are too many; its encoding."""
        self.unpacked_bytes += page.unpacked_bytes
        self.stored_bytes += page.stored_bytes
        self.largest_bytes = max(self.largest_bytes, page.unpacked_bytes)
        self.num_values += page.num_values
        budget.refuse_unpacked(self.unpacked_bytes, self.stored_bytes, "its row group")
        budget.refuse_rows(self.num_values, file_bytes(file))
        return (page.encoding,)


def _pages(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> Iterator[_Page]:
    """Those that a reader would read: from the first until all values are there."""
    first = chunk.dictionary_page_offset
    place = first if first is not None and 0 < first < chunk.data_page_offset else chunk.data_page_offset
    length, left = file_bytes(file), chunk.num_values
    for _ in range(MOST_PAGES):
        if left <= 0 or not 0 <= place < length:
            return
        file.seek(place)
        page = _page(_fields(file))
        left, place = left - page.num_values, file.tell() + page.stored_bytes
        yield page
    raise ImageError(f"more than {MOST_PAGES:,} pages in a row group (write larger ones)")


def _page(header: dict[int, Any]) -> _Page:
    kind, unpacked, stored = (header.get(number, 0) for number in (_KIND, _UNPACKED, _STORED))
    about = header.get(_ABOUT.get(kind, -1), {})
    num_values = about.get(_NUM_VALUES, 0)
    if min(unpacked, stored, num_values) < 0:
        raise ImageError("damaged Parquet file (a page of negative size)")
    encoding = _DICTIONARY if kind == _DICTIONARY_PAGE else about.get(_ENCODING.get(kind, 0), 0)
    return _Page(unpacked, stored, num_values, encoding)


def _fields(file: BinaryIO, depth: int = 0) -> dict[int, Any]:
    """The struct that begins here: numbers and structs by field; what else stands there is passed over."""
    fields: dict[int, Any] = {}
    number = 0
    for _ in range(_MOST_FIELDS):
        head = _byte(file)
        kind, step = head & 15, head >> 4
        if kind == _STOP:
            return fields
        number = number + step if step else _number(file)
        if kind in (_I16, _I32, _I64):
            fields[number] = _number(file)
        elif kind == _STRUCT and depth < _DEEPEST:
            fields[number] = _fields(file, depth + 1)
        elif kind in (_BYTE, _DOUBLE, _BINARY):
            file.seek(_FIXED_BYTES[kind] if kind in _FIXED_BYTES else _varint(file), 1)
        elif kind not in (_TRUE, _FALSE):
            break
    raise ImageError("damaged Parquet file (a page's header makes no sense)")


def _number(file: BinaryIO) -> int:
    zigzag = _varint(file)
    return (zigzag >> 1) ^ -(zigzag & 1)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(file)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ImageError("damaged Parquet file (a number of a page's header has no end)")


def _byte(file: BinaryIO) -> int:
    byte = file.read(1)
    if not byte:
        raise ImageError("damaged Parquet file (it ends inside a page's header)")
    return byte[0]
