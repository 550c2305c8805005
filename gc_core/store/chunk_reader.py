"""Rows of one array from its objects: whole chunks, few requests, many threads.

Letters: N rows, K chunks of a shard.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gc_core.io import objects
from gc_core.io.location import Location
from gc_core.store.disk_cache import DiskCache
from gc_core.store.layout import object_name
from gc_core.store.shard_codec import Form, decode_chunk, read_index, span

REQUEST_BYTES = 8 << 20
"""Consecutive chunks are asked for together up to about this size before compression."""
THREADS = 16
"""Most requests at once for one read: on object storage they mostly wait."""
INDICES_KEPT = 1 << 16
"""Most shard indices kept in memory: a few hundred bytes each."""


class DamagedError(ValueError):
    """An object cannot be read as what it should be."""

    def __init__(self, shard: int, what: str) -> None:
        super().__init__(what)
        self.shard = shard


class ChunkReader:
    """Reads one array. Threads may share it."""

    def __init__(self, folder: Location, name: str, form: Form, num_rows: int, cache: DiskCache | None) -> None:
        self._folder, self._name, self._form, self._num_rows, self._cache = folder, name, form, num_rows, cache
        self._index = lru_cache(maxsize=INDICES_KEPT)(self._read_index)
        row_bytes = int(np.prod(form.row_shape, dtype=np.int64)) * form.dtype.itemsize
        self._chunks_a_request = max(1, REQUEST_BYTES // max(1, row_bytes * form.chunk_rows))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, ...) rows; of the chunks that they lie in, each is read once and whole.

        Raises:
            DamagedError: an object is missing or damaged. UnavailableError: the store does not answer.
        """
        out = np.empty((max(0, stop - start), *self._form.row_shape), self._form.dtype)
        parts = list(self._requests(start, stop))
        if len(parts) == 1:
            self._fill(*parts[0], start, out)
        elif parts:
            with ThreadPoolExecutor(min(THREADS, len(parts))) as threads:
                for done in [threads.submit(self._fill, *part, start, out) for part in parts]:
                    done.result()
        return out

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the rows from `start` on, in this thread; errors as in `read`."""
        for part in self._requests(start, start + len(out)):
            self._fill(*part, start, out)

    def _requests(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """First and last chunk, numbered over the whole array, of each request: never of two shards."""
        if stop <= start:
            return
        chunk, last = start // self._form.chunk_rows, (stop - 1) // self._form.chunk_rows
        while chunk <= last:
            shard_end = (chunk // self._form.num_chunks + 1) * self._form.num_chunks - 1
            end = min(last, shard_end, chunk + self._chunks_a_request - 1)
            yield chunk, end
            chunk = end + 1

    def _fill(self, first: int, last: int, start: int, out: NDArray[Any]) -> None:
        """Fetch chunks, which lie in one shard, and put what `out` wants of them there; its row 0 is row `start`."""
        shard, inside = divmod(first, self._form.num_chunks)
        try:
            index_K2 = self._index(shard)
            begin, end = span(index_K2, inside, inside + last - first)
            spans = [span(index_K2, chunk, chunk) for chunk in range(inside, inside + last - first + 1)]
            places = [(first + number, low - begin, high - begin) for number, (low, high) in enumerate(spans)]
            try:
                self._decode(self._fetch(shard, begin, end), places, start, out)
            except ValueError:
                if self._cache is None:
                    raise
                self._cache.forget(self._key(shard, begin, end))  # the copy is damaged; the object may be sound
                self._decode(self._fetch(shard, begin, end), places, start, out)
        except FileNotFoundError:
            raise DamagedError(shard, f"its object of {self._name} is missing") from None
        except ValueError as error:
            self._index.cache_clear()  # it may be mended meanwhile
            raise DamagedError(shard, f"{self._name}: {error}") from None

    def _decode(self, stored: memoryview, places: list[tuple[int, int, int]], start: int, out: NDArray[Any]) -> None:
        for chunk, begin, end in places:
            self._put(chunk, stored[begin:end], start, out)

    def _put(self, chunk: int, stored: memoryview, start: int, out: NDArray[Any]) -> None:
        row = chunk * self._form.chunk_rows
        size = min(self._form.chunk_rows, self._num_rows - row)
        low, high = max(row, start), min(row + size, start + len(out))
        if low == row:
            decode_chunk(self._form, stored, out[row - start : high - start])
        else:
            whole = np.empty((size, *self._form.row_shape), self._form.dtype)
            decode_chunk(self._form, stored, whole)
            out[: high - start] = whole[low - row : high - row]

    def _read_index(self, shard: int) -> NDArray[np.uint64]:
        tail = objects.read_tail(self._folder, object_name(self._name, shard), self._form.index_bytes)
        return read_index(self._form, tail)

    def _fetch(self, shard: int, begin: int, end: int) -> memoryview:
        if self._cache is None:
            return self._request(shard, begin, end)
        return self._cache.get(self._key(shard, begin, end), lambda: self._request(shard, begin, end))

    def _request(self, shard: int, begin: int, end: int) -> memoryview:
        """ValueError if the object ends before."""
        name = object_name(self._name, shard)
        try:
            content = objects.read_range(self._folder, name, begin, end)
        except objects.UnavailableError:
            if objects.size(self._folder, name) < end:
                raise ValueError("it is cut short") from None
            raise
        if len(content) != end - begin:
            raise ValueError("it is cut short")
        return content

    def _key(self, shard: int, begin: int, end: int) -> str:
        """Parts of one object have its index in common, which other bytes would hardly share."""
        index = self._index(shard).tobytes().hex()
        return f"{self._folder} {object_name(self._name, shard)} {begin} {end} {index}"
