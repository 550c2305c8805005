"""Pictures inside Parquet files: a column of encoded pictures, read by row; or of their paths and URLs."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import lru_cache
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gc_core.images import columns
from gc_core.images.columns import Cell, Column
from gc_core.images.decode import ImageError
from gc_core.images.ranges import open_ranges
from gc_core.images.ref import ImageRef, Listed

SUFFIXES = (".parquet", ".pq")
CACHE_BYTES = 256 << 20
"""Row groups kept by a process. A Parquet file gives no less than a row group, however few pictures are wanted."""
ROWS_AT_ONCE = 64
MOST_GROUP_BYTES = 4 << 30
FEW_BYTES, MOST_RATIO = 64 << 20, 100
"""A row group may unpack to the first and this many times what is stored of it: pictures are compressed already."""
FEW_ROWS = 1000
"""A file has at most one row a byte, and these."""


def is_parquet(url: str) -> bool:
    """Whether a file says by its name that it is Parquet."""
    return url.lower().endswith(SUFFIXES)


def scan(url: str) -> Iterator[Listed]:
    """Every picture of a Parquet file's column of pictures: inside it, or where its paths and URLs lead.

    Raises:
        OSError: the file cannot be reached, or its end is damaged.
    """
    try:
        with open_ranges(url) as file, pq.ParquetFile(file) as parquet:
            _refuse_too_many_rows(parquet, file.seek(0, 2))
            yield from _each(url, parquet)
    except (pa.ArrowException, ImageError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"damaged Parquet file ({_line(error)})"
        yield Listed(ref=ImageRef(url=url, member="(the whole file)", offset=-1), error=reason)


def read(ref: ImageRef) -> bytes:
    """One row's bytes; its row group stays in memory for the next.

    Raises:
        ImageError: the row holds none, or its part of the file is damaged.
    """
    try:
        ends, column = _layout(ref.url)
        group = bisect_right(ends, ref.offset)
        if ref.offset < 0 or group == len(ends):
            raise ImageError(f"no such row ({ref.offset} of {ends[-1] if ends else 0})")
        values = _kept.get((ref.url, group), lambda: _read_group(ref.url, group, column))
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


def _each(url: str, parquet: pq.ParquetFile) -> Iterator[Listed]:
    """Every picture. Bytes are looked at only where rows may have none, or several."""
    column = columns.find(parquet.schema_arrow)
    first = 0
    for group in range(parquet.num_row_groups):
        for row, cell in _cells(parquet, group, column):
            place = "" if cell.position is None else f"[{cell.position}]"
            yield columns.listed(cell, column, container=url, row=first + row, offset=first + row, place=place)
        first += parquet.metadata.row_group(group).num_rows


def _cells(parquet: pq.ParquetFile, group: int, column: Column) -> Iterator[tuple[int, Cell]]:
    """Each picture of a row group with its row there."""
    num_rows = parquet.metadata.row_group(group).num_rows
    if column.form == "bytes" and not column.is_list:
        yield from ((row, Cell(row, None, True, None)) for row in range(num_rows))
        return
    whole = column.form != "struct" or column.is_list or _may_lack_bytes(parquet, group, column)
    part = column.name if whole else f"{column.name}.path"
    first = 0
    for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[part]):
        if whole:
            yield from ((first + cell.row, cell) for cell in columns.cells(batch.column(0), column))
        else:
            names = batch.column(0).field("path").to_pylist() if batch.num_columns else [None] * batch.num_rows
            yield from ((first + row, Cell(row, None, True, name)) for row, name in enumerate(names))
        first += batch.num_rows


def _may_lack_bytes(parquet: pq.ParquetFile, group: int, column: Column) -> bool:
    """Whether a struct's bytes may be null in a row group, or nothing but they stand there."""
    chunks = parquet.metadata.row_group(group)
    parts = {(chunk := chunks.column(place)).path_in_schema: chunk for place in range(chunks.num_columns)}
    found = parts.get(f"{column.name}.bytes")
    if found is None or f"{column.name}.path" not in parts:
        return True
    return not (found.is_stats_set and found.statistics.has_null_count and found.statistics.null_count == 0)


def _refuse_too_many_rows(parquet: pq.ParquetFile, file_bytes: int) -> None:
    most = FEW_ROWS + file_bytes
    if (found := parquet.metadata.num_rows) > most:
        raise ImageError(f"more rows than bytes ({found:,} rows in {file_bytes:,} bytes cannot be pictures)")


@lru_cache(maxsize=256)
def _layout(url: str) -> tuple[list[int], Column]:
    """Row after the last row of each row group, and the pictures' column."""
    with open_ranges(url) as file, pq.ParquetFile(file) as parquet:
        groups = (parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups))
        return list(accumulate(groups)), columns.find(parquet.schema_arrow)


def _read_group(url: str, group: int, column: Column) -> pa.ChunkedArray:
    with open_ranges(url) as file, pq.ParquetFile(file) as parquet:
        part = f"{column.name}.bytes" if column.form == "struct" and not column.is_list else column.name
        chunks = parquet.metadata.row_group(group)
        most_bytes = min(MOST_GROUP_BYTES, FEW_BYTES + MOST_RATIO * _stored_bytes(chunks))
        batches, num_bytes = [], 0
        for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[part]):
            batches.append(batch.column(0))
            num_bytes += batch.nbytes
            if num_bytes > most_bytes:
                raise ImageError(f"its row group unpacks to more than {most_bytes:,} bytes (write smaller row groups)")
        return pa.chunked_array(batches)


def _stored_bytes(chunks: pq.RowGroupMetaData) -> int:
    return sum(chunks.column(place).total_compressed_size for place in range(chunks.num_columns))


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
