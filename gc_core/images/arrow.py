"""Pictures inside Arrow files, as Hugging Face's `save_to_disk` writes them: streams of batches, read by offset."""

from collections.abc import Iterator
from functools import lru_cache

import pyarrow as pa

from gc_core.images import columns
from gc_core.images.columns import Column
from gc_core.images.decode import ImageError
from gc_core.images.parquet import CACHE_BYTES, Kept
from gc_core.images.ranges import open_ranges
from gc_core.images.ref import ImageRef, Listed

SUFFIXES = (".arrow",)
_FILE_MAGIC = b"ARROW1\0\0"
"""Before the same stream where it has a footer."""

_kept = Kept(CACHE_BYTES)


def scan(url: str) -> Iterator[Listed]:
    """Every picture of the file's column of pictures; one batch of rows is in memory at a time.

    `offset` is where the batch begins; the first number in brackets behind a member's name is its row there.

    Raises:
        OSError: the file cannot be reached.
    """
    try:
        with open_ranges(url) as plain:
            source = pa.PythonFile(plain, mode="r")
            column, schema = _begin(source)
            first, offset = 0, source.tell()
            while (batch := _next_batch(source, schema)) is not None:
                for cell in columns.cells(batch.column(column.name), column):
                    place = f"[{cell.row}]" + ("" if cell.position is None else f"[{cell.position}]")
                    row = first + cell.row
                    yield columns.listed(cell, column, container=url, row=row, offset=offset, place=place)
                first, offset = first + batch.num_rows, source.tell()
    except (pa.ArrowException, ImageError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"damaged Arrow file ({_line(error)})"
        yield Listed(ref=ImageRef(url=url, member="(the rest of the file)", offset=-1), error=reason)


def read(ref: ImageRef) -> bytes:
    """One row's bytes; its batch stays in memory for the next.

    Raises:
        ImageError: the row holds none, or its part of the file is damaged.
    """
    places = columns.place_in(ref.member)
    try:
        column, schema = _layout(ref.url)
        places = places[-2:] if column.is_list else places[-1:]
        if ref.offset < 0 or len(places) != 1 + column.is_list:
            raise ImageError(f"no such row ({ref.member})")
        values = _kept.get((ref.url, ref.offset), lambda: _read_batch(ref, column, schema))
    except pa.ArrowException as error:
        raise ImageError(f"damaged Arrow file ({_line(error)})") from error
    if places[0] >= len(values):
        raise ImageError(f"no such row ({places[0]} of {len(values)})")
    return columns.bytes_of(values[places[0]].as_py(), column, places[1] if column.is_list else None)


@lru_cache(maxsize=256)
def _layout(url: str) -> tuple[Column, pa.Schema]:
    with open_ranges(url) as plain:
        return _begin(pa.PythonFile(plain, mode="r"))


def _begin(source: pa.PythonFile) -> tuple[Column, pa.Schema]:
    """The column of pictures and the schema; the source stands before the first batch."""
    if source.read(len(_FILE_MAGIC)) != _FILE_MAGIC:
        source.seek(0)
    try:
        schema = pa.ipc.read_schema(pa.ipc.read_message(source))
    except EOFError:
        raise ImageError("damaged Arrow file (it ends before its schema)") from None
    return columns.find(schema), schema


def _read_batch(ref: ImageRef, column: Column, schema: pa.Schema) -> pa.ChunkedArray:
    with open_ranges(ref.url) as plain:
        source = pa.PythonFile(plain, mode="r")
        source.seek(ref.offset)
        batch = _next_batch(source, schema)
        if batch is None:
            raise ImageError("no batch of rows begins here")
        return pa.chunked_array([batch.column(column.name)])


def _next_batch(source: pa.PythonFile, schema: pa.Schema) -> pa.RecordBatch | None:
    """The rows that begin here, looked through before they are believed; None at the end of the stream."""
    try:
        message = pa.ipc.read_message(source)
    except EOFError:
        return None
    if message.type != "record batch":
        raise ImageError("columns of repeated values (save the data set without dictionary encoding)")
    batch = pa.ipc.read_record_batch(message, schema)
    batch.validate(full=True)
    return batch


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
