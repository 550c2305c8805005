"""Images inside Parquet files: a column of encoded images, read by row; or of their paths and URLs."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from gc_core.images import budget, columns, parquet_pages
from gc_core.images.columns import Cell, Column
from gc_core.images.decode import ImageError
from gc_core.images.ranges import open_ranges
from gc_core.images.ref import ImageRef, Listed
from gc_core.io.location import Location

SUFFIXES = (".parquet", ".pq")
CACHE_BYTES = 256 << 20
"""Row groups kept by a process. A Parquet file gives no less than a row group, however few images are wanted."""
ROWS_AT_ONCE = 64
STEPS = 16
"""A large row group is read in so many steps: its dictionary is unpacked again in each."""


def is_parquet(url: str) -> bool:
    """Whether a file says by its name that it is Parquet."""
    return url.lower().endswith(SUFFIXES)


def scan(location: Location, key: str | None = None) -> Iterator[Listed]:
    """Every image of a Parquet file's column of images: inside it, or where its paths and URLs lead.

    Raises:
        OSError: the file cannot be reached, or its end is damaged.
    """
    try:
        with _opened(location) as (file, parquet):
            budget.refuse_rows(parquet.metadata.num_rows, file.seek(0, 2))
            yield from _each(location, file, parquet, key)
    except (pa.ArrowException, ImageError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"damaged Parquet file ({_line(error)})"
        yield Listed(ref=ImageRef(url=location.url, member="(the whole file)", offset=-1), error=reason)


def read(ref: ImageRef) -> bytes:
    """One row's bytes; its row group stays in memory for the next.

    Raises:
        ImageError: the row holds none, or its part of the file is damaged.
    """
    try:
        ends, schema = _layout(ref.location)
        column = columns.find(schema, columns.chosen_in(ref.member, schema))
        group = bisect_right(ends, ref.offset)
        if ref.offset < 0 or group == len(ends):
            raise ImageError(f"no such row ({ref.offset} of {ends[-1] if ends else 0})")
        values = _kept.get((ref.location, group, column.name), lambda: read_group(ref.location, group, column))
    except pa.ArrowException as error:
        raise ImageError(f"damaged Parquet file ({_line(error)})") from error
    value = values[ref.offset - (ends[group - 1] if group else 0)].as_py()
    places = columns.place_in(ref.member)
    return columns.bytes_of(value, column, places[-1] if places else None)


def forget() -> None:
    """Drop everything kept, so that files are read anew."""
    _layout.cache_clear()
    _kept.clear()


class Kept:
    """The values asked for last, up to a number of bytes; each is made once, however many threads want it."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[Any, Future[pa.ChunkedArray]] = OrderedDict()

    def get(self, key: object, make: Callable[[], pa.ChunkedArray]) -> pa.ChunkedArray:
        """The value kept for the key, or what `make` gives."""
        with self._lock:
            future = self._values.get(key)
            mine = future is None
            if future is None:
                future = self._values[key] = Future()
            self._values.move_to_end(key)
        if mine:
            self._fill(key, future, make)
        return future.result()

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._values.clear()

    def _fill(self, key: object, future: "Future[pa.ChunkedArray]", make: Callable[[], pa.ChunkedArray]) -> None:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                self._values.pop(key, None)  # the next thread that asks tries again
            future.set_exception(error)
            raise
        future.set_result(value)
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        done = [key for key, future in self._values.items() if future.done()]
        sizes = {key: self._values[key].result().nbytes for key in done}
        while len(sizes) > 1 and sum(sizes.values()) > self._most_bytes:
            oldest = next(iter(sizes))
            del self._values[oldest], sizes[oldest]


_kept = Kept(CACHE_BYTES)


@contextmanager
def _opened(location: Location) -> Iterator[tuple[BinaryIO, pq.ParquetFile]]:
    with open_ranges(location) as file, pq.ParquetFile(file) as parquet:
        yield file, parquet


def _each(location: Location, file: BinaryIO, parquet: pq.ParquetFile, key: str | None) -> Iterator[Listed]:
    """Every image. Bytes are looked at only where rows may have none, or several."""
    column = columns.find(parquet.schema_arrow, key)
    first = 0
    for group in range(parquet.num_row_groups):
        for row, cell in _cells(file, parquet, group, column):
            place = "" if cell.position is None else f"[{cell.position}]"
            yield columns.listed(
                cell, column, container=location, row=first + row, offset=first + row, place=place, key=key
            )
        first += parquet.metadata.row_group(group).num_rows


def _cells(file: BinaryIO, parquet: pq.ParquetFile, group: int, column: Column) -> Iterator[tuple[int, Cell]]:
    """Each image of a row group with its row there."""
    num_rows = parquet.metadata.row_group(group).num_rows
    if column.form == "bytes" and not column.is_list:
        yield from ((row, Cell(row, None, True, None)) for row in range(num_rows))
        return
    whole = column.form != "struct" or column.is_list or _may_lack_bytes(parquet, group, column)
    part = column.name if whole else f"{column.name}.path"
    first = 0
    for array in _read_parts(file, parquet, group, part):
        if whole:
            yield from ((first + cell.row, cell) for cell in columns.cells(array, column))
        else:
            names = array.field("path").to_pylist()
            yield from ((first + row, Cell(row, None, True, name)) for row, name in enumerate(names))
        first += len(array)


def _may_lack_bytes(parquet: pq.ParquetFile, group: int, column: Column) -> bool:
    """Whether a struct's bytes may be null in a row group, or nothing but they stand there."""
    chunks = parquet.metadata.row_group(group)
    parts = {(chunk := chunks.column(place)).path_in_schema: chunk for place in range(chunks.num_columns)}
    bytes_chunk = parts.get(f"{column.name}.bytes")
    if bytes_chunk is None or f"{column.name}.path" not in parts:
        return True
    return not (
        bytes_chunk.is_stats_set and bytes_chunk.statistics.has_null_count and bytes_chunk.statistics.null_count == 0
    )


@lru_cache(maxsize=256)
def _layout(location: Location) -> tuple[list[int], pa.Schema]:
    """Row after the last row of each row group, and the columns."""
    with _opened(location) as (_, parquet):
        groups = (parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups))
        return list(accumulate(groups)), parquet.schema_arrow


def read_group(location: Location, group: int, column: Column) -> pa.ChunkedArray:
    """All of a row group's images, encoded."""
    with _opened(location) as (file, parquet):
        part = f"{column.name}.bytes" if column.form == "struct" and not column.is_list else column.name
        return pa.chunked_array(list(_read_parts(file, parquet, group, part)))


def _read_parts(file: BinaryIO, parquet: pq.ParquetFile, group: int, part: str) -> Iterator[pa.Array]:
    """A row group's values of one column, some rows at a time; nothing is unpacked that was not counted before.

    Raises:
        ImageError: they unpack to far more than is stored.
    """
    pages = parquet_pages.measure(file, parquet.metadata.row_group(group), part)
    num_rows, most_bytes = parquet.metadata.row_group(group).num_rows, budget.most_unpacked(pages.stored_bytes)
    at_once = max(ROWS_AT_ONCE, -(-num_rows // STEPS))
    if pages.repeat:  # each value may be as long as a page: no more are asked for than may be
        if columns.has_lists(parquet.schema_arrow.field(part.partition(".")[0]).type):
            raise ImageError("lists of values that share prefixes (DELTA_BYTE_ARRAY; write them as plain values)")
        at_once = max(1, min(at_once, most_bytes // max(1, pages.largest_bytes)))
    num_bytes = 0
    with pq.ParquetFile(file, metadata=parquet.metadata, read_dictionary=pages.numbered) as numbered:
        for batch in numbered.iter_batches(at_once, row_groups=[group], columns=[part]):
            num_bytes += columns.plain_bytes(batch.column(0))
            budget.refuse_unpacked(num_bytes, pages.stored_bytes, "its row group")
            yield columns.plain(batch.column(0))


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
