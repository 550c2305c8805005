"""Samples read in a given order, while threads fetch and decode the next ones.

Letters: B samples, N rows, G group elements, C channels.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core.store import Store
from gc_core.store.shards import CHUNK_ROWS
from gc_core.stream.ahead import one_ahead
from gc_core.stream.order import LaneOrder

THREADS = 16
"""Chunks that are fetched or decoded at the same time: on object storage most of them wait for an answer."""


def batches(
    store: Store, order: LaneOrder, *, lanes: range, rows_per_lane: int, first_step: int, blocks: NDArray[np.int64]
) -> Generator[NDArray[np.float16], None, None]:
    """Endless batches (len(lanes) * rows_per_lane, G, C) of the given lanes' next rows and of the given blocks.

    Each lane holds one window in memory while threads fetch and decode the next, chunk by chunk: together about twice
    the order's `buffer_rows` samples. The threads end with the generator.

    Raises:
        StoreError: a chunk cannot be read, or is damaged.
    """
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="stream")
    try:

        def begin(rows: NDArray[np.int64], memory: NDArray[np.float16] | None) -> _Window:
            return _Window(store, rows, blocks, threads, memory)

        readers = [_Lane(order.windows_from(lane, first_step * rows_per_lane), begin) for lane in lanes]
        while True:
            batch = np.empty((len(lanes) * rows_per_lane, len(blocks), store.channels), np.float16)
            for place, reader in enumerate(readers):
                reader.fill(batch[place * rows_per_lane : (place + 1) * rows_per_lane])
            yield batch
    finally:
        threads.shutdown(cancel_futures=True)


def in_order(store: Store, rows: range) -> Generator[NDArray[np.float16], None, None]:
    """Consecutive rows, at most a chunk (n, G, C) at a time, while threads fetch and decode the next THREADS chunks.

    Raises:
        StoreError: a chunk cannot be read, or is damaged.
    """
    threads, ahead = ThreadPoolExecutor(THREADS, thread_name_prefix="stream"), deque[Future[NDArray[np.float16]]]()
    try:
        for first in range(rows.start - rows.start % CHUNK_ROWS, rows.stop, CHUNK_ROWS):
            part = range(max(first, rows.start), min(first + CHUNK_ROWS, rows.stop))
            ahead.append(threads.submit(_read, store, part))
            if len(ahead) > THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def read_rows(store: Store, rows: NDArray[np.int64], blocks: NDArray[np.int64]) -> NDArray[np.float16]:
    """Some rows in the order given, (n, G, C); every chunk they lie in is read once, whole."""
    out = np.empty((len(rows), len(blocks), store.channels), np.float16)
    if len(rows):
        with ThreadPoolExecutor(THREADS, thread_name_prefix="stream") as threads:
            _Window(store, rows, blocks, threads).take(out, 0)
    return out


def read_batches(
    store: Store, rows: NDArray[np.int64], blocks: NDArray[np.int64], *, rows_at_once: int
) -> Generator[NDArray[np.float16], None, None]:
    """Rows in the order given, at most so many (n, G, C) at a time; the next ones are read while these are used."""
    parts = range(0, len(rows), rows_at_once)
    return one_ahead(read_rows(store, rows[first : first + rows_at_once], blocks) for first in parts)


class _Window:
    """Some rows in some order, of which threads read the chunks."""

    def __init__(
        self,
        store: Store,
        rows: NDArray[np.int64],
        blocks: NDArray[np.int64],
        threads: ThreadPoolExecutor,
        memory: NDArray[np.float16] | None = None,
    ) -> None:
        """`memory` is what an earlier window used, if it is done: new pages cost as much as copying."""
        by_row = np.argsort(rows, kind="stable")
        ascending = rows[by_row]
        begins = np.flatnonzero(np.diff(ascending // CHUNK_ROWS, prepend=-1))
        parts = [_Part.of(store, chunk_rows, blocks) for chunk_rows in np.split(ascending, begins[1:])]
        ends = np.cumsum([part.kept for part in parts])
        if memory is None or len(memory) < ends[-1]:
            memory = np.empty((ends[-1], len(blocks), store.channels), np.float16)
        self.memory = memory
        self._place = np.empty(len(rows), np.int64)
        self._place[by_row] = np.concatenate(
            [part.place + end - part.kept for part, end in zip(parts, ends, strict=True)]
        )
        self._reading = [
            threads.submit(part.read, store, blocks, memory[end - part.kept : end])
            for part, end in zip(parts, ends, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._place)

    def take(self, out: NDArray[np.float16], first: int) -> None:
        """Fill `out` with the rows from the `first` on, once all chunks are there."""
        while self._reading:
            self._reading.pop().result()
        wanted = self._place[first : first + len(out)]
        np.take(self.memory, wanted, axis=0, out=out, mode="clip")  # with another mode NumPy copies twice


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Rows of one chunk. If they are most of it, the whole chunk is kept where it is decoded, without another copy."""

    rows: NDArray[np.int64]
    """Ascending."""
    chunk: range
    """The chunk's rows."""
    whole: bool

    @staticmethod
    def of(store: Store, rows: NDArray[np.int64], blocks: NDArray[np.int64]) -> "_Part":
        first = int(rows[0]) // CHUNK_ROWS * CHUNK_ROWS
        chunk = range(first, min(first + CHUNK_ROWS, store.num_rows))
        every_block = np.array_equal(blocks, np.arange(store.group.order))
        return _Part(rows=rows, chunk=chunk, whole=every_block and 2 * len(rows) > len(chunk))

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return len(self.chunk) if self.whole else len(self.rows)

    @property
    def place(self) -> NDArray[np.int64]:
        """Where each row is among those kept."""
        return self.rows - self.chunk.start if self.whole else np.arange(len(self.rows))

    def read(self, store: Store, blocks: NDArray[np.int64], kept: NDArray[np.float16]) -> None:
        if self.whole:
            store.read_into(kept, self.chunk.start)
        else:
            kept[:] = _read(store, self.chunk)[(self.rows - self.chunk.start)[:, None], blocks]


_Begin = Callable[[NDArray[np.int64], NDArray[np.float16] | None], _Window]
"""Starts to read some rows, in memory that is free."""


class _Lane:
    """A lane's samples one after another; while a window is given out, the next one is read. `windows` is endless."""

    def __init__(
        self,
        windows: Iterator[NDArray[np.int64]],
        begin: _Begin,
    ) -> None:
        self._begin, self._windows, self._taken = begin, windows, 0
        self._now, self._next, self._spare = begin(next(windows), None), None, None

    def fill(self, out: NDArray[np.float16]) -> None:
        """The lane's next samples."""
        done = 0
        while done < len(out):
            if self._next is None:
                self._next, self._spare = self._begin(next(self._windows), self._spare), None
            count = min(len(out) - done, len(self._now) - self._taken)
            self._now.take(out[done : done + count], self._taken)
            done, self._taken = done + count, self._taken + count
            if self._taken == len(self._now):
                self._now, self._next, self._spare, self._taken = self._next, None, self._now.memory, 0


def _read(store: Store, rows: range) -> NDArray[np.float16]:
    out = np.empty((len(rows), store.group.order, store.channels), np.float16)
    store.read_into(out, rows.start)
    return out
