"""Images inside Arrow files, as Hugging Face's `save_to_disk` writes them: streams of batches, read by offset."""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO

import pyarrow as pa

from gc_core.images import arrow_sizes, budget, columns
from gc_core.images.columns import Column
from gc_core.images.decode import ImageError
from gc_core.images.parquet import CACHE_BYTES, Kept
from gc_core.images.ranges import open_ranges
from gc_core.images.ref import ImageRef, Listed
from gc_core.io.location import Location

SUFFIXES = (".arrow",)
_FILE_MAGIC = b"ARROW1\0\0"
"""Magic bytes before the stream in a file with a footer."""

_DAMAGE = (pa.ArrowException, struct.error)

_kept = Kept(CACHE_BYTES)


def scan(location: Location, key: str | None = None) -> Iterator[Listed]:
    """Every image of the file's column of images; one batch of rows is in memory at a time.

    `offset` is where the batch begins; the first number in brackets behind a member's name is its row there.

    Raises:
        OSError: the file cannot be reached.
    """
    try:
        with open_ranges(location) as plain:
            schema = _begin(plain)
            column = columns.find(schema, key)
            first, offset = 0, plain.tell()
            while (batch := _next_batch(plain, schema)) is not None:
                for cell in columns.cells(batch.column(column.name), column):
                    place = f"[{cell.row}]" + ("" if cell.position is None else f"[{cell.position}]")
                    row = first + cell.row
                    yield columns.listed(cell, column, container=location, row=row, offset=offset, place=place, key=key)
                first, offset = first + batch.num_rows, plain.tell()
    except (*_DAMAGE, ImageError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"damaged Arrow file ({_line(error)})"
        yield Listed(ref=ImageRef(url=location.url, member="(the rest of the file)", offset=-1), error=reason)


def read(ref: ImageRef) -> bytes:
    """One row's bytes; its batch stays in memory for the next.

    Raises:
        ImageError: the row holds none, or its part of the file is damaged.
    """
    places = columns.place_in(ref.member)
    try:
        schema = _layout(ref.location)
        column = columns.find(schema, columns.chosen_in(ref.member, schema))
        places = places[-2:] if column.is_list else places[-1:]
        if ref.offset < 0 or len(places) != 1 + column.is_list:
            raise ImageError(f"no such row ({ref.member})")
        values = _kept.get((ref.location, ref.offset, column.name), lambda: _read_batch(ref, column, schema))
    except _DAMAGE as error:
        raise ImageError(f"damaged Arrow file ({_line(error)})") from error
    if places[0] >= len(values):
        raise ImageError(f"no such row ({places[0]} of {len(values)})")
    return columns.bytes_of(values[places[0]].as_py(), column, places[1] if column.is_list else None)


@lru_cache(maxsize=256)
def _layout(location: Location) -> pa.Schema:
    with open_ranges(location) as plain:
        return _begin(plain)


def _begin(plain: BinaryIO) -> pa.Schema:
    """The columns; the file stands before the first batch."""
    if plain.read(len(_FILE_MAGIC)) != _FILE_MAGIC:
        plain.seek(0)
    message = _next_message(plain)
    if message is None:
        raise ImageError("damaged Arrow file (it ends before its schema)")
    return pa.ipc.read_schema(message)


def _read_batch(ref: ImageRef, column: Column, schema: pa.Schema) -> pa.ChunkedArray:
    with open_ranges(ref.location) as plain:
        plain.seek(ref.offset)
        batch = _next_batch(plain, schema)
        if batch is None:
            raise ImageError("no batch of rows begins here")
        return pa.chunked_array([batch.column(column.name)])


def _next_batch(plain: BinaryIO, schema: pa.Schema) -> pa.RecordBatch | None:
    """The rows that begin here, looked through before they are believed; None at the end of the stream."""
    message = _next_message(plain)
    if message is None:
        return None
    if message.type != "record batch":
        raise ImageError("columns of repeated values (save the data set without dictionary encoding)")
    arrow_sizes.refuse_batch(message.metadata.to_pybytes(), memoryview(message.body))
    batch = pa.ipc.read_record_batch(message, schema)
    batch.validate(full=True)
    return batch


def _next_message(plain: BinaryIO) -> pa.ipc.Message | None:
    """The message that begins here, which must end inside the file; None at the end of the stream."""
    start = plain.tell()
    prefix = arrow_sizes.prefix_of(plain.read(8))
    if prefix is None:
        return None
    plain.seek(start + prefix.start)
    header = plain.read(prefix.header_bytes)
    body_start = plain.tell()
    stop = body_start + arrow_sizes.body_bytes(header)
    if not body_start <= stop <= plain.seek(0, 2):
        raise ImageError("damaged Arrow file (a batch of rows ends beyond its end)")
    budget.refuse_together(stop - body_start, "its batch of rows")
    plain.seek(start)
    message = pa.ipc.read_message(pa.PythonFile(plain, mode="r"))
    plain.seek(stop)
    return message


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
