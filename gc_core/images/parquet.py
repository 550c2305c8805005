"""Pictures inside Parquet files: a column of encoded pictures, read by row; or a column of their URLs."""

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

from gc_core import objects
from gc_core.images import url_list
from gc_core.images.decode import ImageError
from gc_core.images.ranges import open_ranges
from gc_core.images.ref import ImageRef, Listed

SUFFIXES = (".parquet", ".pq")
PICTURE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
"""Which of several columns of bytes holds the pictures: the first of these that is there."""
CACHE_BYTES = 256 << 20
"""Row groups kept by a process. A Parquet file gives no less than a row group, however few pictures are wanted."""

_NO_COLUMN = "expected `image`, a column of bytes or a struct of bytes and path, or `url`"


def is_parquet(url: str) -> bool:
    """Whether a file says by its name that it is Parquet."""
    return url.lower().endswith(SUFFIXES)


def scan(url: str) -> Iterator[Listed]:
    """A picture for each row of a Parquet file: of its column of pictures, or else those that its column `url` names.

    Raises:
        OSError: the file cannot be reached, or its end is damaged.
    """
    try:
        with open_ranges(url) as file, pq.ParquetFile(file) as parquet:
            column = _picture_column(parquet.schema_arrow)
            rows = _rows(url, parquet, column) if column else _urls(url, parquet)
            yield from rows
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
    content = values[ref.offset - (ends[group - 1] if group else 0)].as_py()
    if content is None:
        raise ImageError("no bytes in this row (a path without bytes is not followed)")
    return content


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


def _picture_column(schema: pa.Schema) -> tuple[str, ...]:
    """Path to the leaf that holds pictures: `(jpg,)` or `(image, bytes)`; empty where there is none.

    Raises:
        ImageError: several columns could be meant.
    """
    found = {field.name: path for field in schema if (path := _leaf(field))}
    named = next((name for name in PICTURE_NAMES if name in found), None)
    if named is None and len(found) > 1:
        raise ImageError(f"several columns of bytes ({', '.join(found)}; name the one with pictures `image`)")
    return found[named or next(iter(found))] if found else ()


def _leaf(field: "pa.Field[Any]") -> tuple[str, ...]:
    kind = field.type
    if _is_bytes(kind):
        return (field.name,)
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type):
        return (field.name, "bytes")
    return ()


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _rows(url: str, parquet: pq.ParquetFile, column: tuple[str, ...]) -> Iterator[Listed]:
    row = 0
    for group in range(parquet.num_row_groups):
        num_rows = parquet.metadata.row_group(group).num_rows
        for name in _names(parquet, group, column, num_rows):
            yield Listed(ref=ImageRef(url=url, member=name or str(row), offset=row))
            row += 1


def _names(parquet: pq.ParquetFile, group: int, column: tuple[str, ...], num_rows: int) -> list[str | None]:
    """What rows call their pictures (`path` of the Hugging Face struct); only that part is read."""
    root = parquet.schema_arrow.field(column[0]).type
    if len(column) == 1 or root.get_field_index("path") < 0 or not pa.types.is_string(root.field("path").type):
        return [None] * num_rows
    return _column_of(parquet, group, (column[0], "path")).to_pylist()


def _urls(url: str, parquet: pq.ParquetFile) -> Iterator[Listed]:
    schema = parquet.schema_arrow
    place = schema.get_field_index("url")
    if place < 0 or not (pa.types.is_string(kind := schema.field(place).type) or pa.types.is_large_string(kind)):
        raise ImageError(f"no column of pictures (found {', '.join(schema.names)}; {_NO_COLUMN})")
    locations = (
        location
        for group in range(parquet.num_row_groups)
        for location in _column_of(parquet, group, ("url",)).to_pylist()
    )
    yield from url_list.listed(locations, objects.split(url)[0])


@lru_cache(maxsize=256)
def _layout(url: str) -> tuple[list[int], tuple[str, ...]]:
    """Row after the last row of each row group, and the path of the pictures' column."""
    with open_ranges(url) as file, pq.ParquetFile(file) as parquet:
        groups = (parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups))
        return list(accumulate(groups)), _picture_column(parquet.schema_arrow)


def _read_group(url: str, group: int, column: tuple[str, ...]) -> pa.ChunkedArray:
    with open_ranges(url) as file, pq.ParquetFile(file) as parquet:
        return _column_of(parquet, group, column)


def _column_of(parquet: pq.ParquetFile, group: int, column: tuple[str, ...]) -> pa.ChunkedArray:
    values = parquet.read_row_group(group, columns=[".".join(column)]).column(0)
    return values if len(column) == 1 else values.flatten()[0]


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
