"""The order in which training meets samples, and a reader that follows it.

Chunks are dealt to a fixed number of *lanes*, anew each epoch; a lane shuffles some of its chunks at a time. A batch
takes equally from every lane, and workers share out the lanes. So (seed, step) alone names every sample of a batch,
whatever the number of workers: a run continues mid-epoch on another number of them. In one epoch all lanes together
meet each row exactly once; a lane that was dealt fewer rows goes on to its next epoch a little earlier than the others.

Letters: B samples, N rows, G group elements, C channels.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core.shards import CHUNK_ROWS
from gc_core.store import Store

PIECES_PER_LANE = 4
"""A store of few chunks is dealt in smaller pieces, so that every lane gets about this many."""
MAX_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class LaneOrder:
    """Which rows each lane meets, and when: integers only."""

    rows: NDArray[np.int64]
    """Rows to train on, ascending."""
    pieces: NDArray[np.int64]
    """(pieces + 1,) where each piece of `rows` begins; a piece lies in one chunk."""
    num_lanes: int
    window_pieces: int
    """Pieces of a lane that are shuffled together."""
    seed: int
    """Another seed deals and shuffles otherwise."""

    def windows(self, lane: int, epoch: int) -> Iterator[NDArray[np.int64]]:
        """The lane's rows of one epoch, window by window, in the order they are met."""
        mine = self._deal(lane, epoch)
        for number, first in enumerate(range(0, len(mine), self.window_pieces)):
            together = mine[first : first + self.window_pieces]
            rows = np.concatenate([self.rows[self.pieces[p] : self.pieces[p + 1]] for p in together])
            yield np.random.default_rng([self.seed, 1, epoch, lane, number]).permutation(rows)

    def num_rows(self, lane: int, epoch: int) -> int:
        """How many rows the lane meets in an epoch."""
        return int(np.diff(self.pieces)[self._deal(lane, epoch)].sum())

    def start(self, lane: int, consumed: int) -> tuple[int, int]:
        """(epoch, rows of it already met) after a lane has given `consumed` rows."""
        epoch = 0
        while consumed >= (size := self.num_rows(lane, epoch)):
            consumed, epoch = consumed - size, epoch + 1
        return epoch, consumed

    def _deal(self, lane: int, epoch: int) -> NDArray[np.int64]:
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pieces) - 1)
        return order[(lane + epoch) % self.num_lanes :: self.num_lanes]  # the extra pieces go to other lanes each epoch


def lane_order(rows: NDArray[np.int64], *, num_lanes: int, buffer_rows: int, seed: int) -> LaneOrder:
    """An order of `rows` whose shuffle buffers hold about `buffer_rows` samples in all lanes together.

    Raises:
        ValueError: there are fewer rows than lanes.
    """
    if len(rows) < num_lanes:
        found = f"train: {len(rows)} samples found, expected at least one for each of {num_lanes} lanes"
        raise ValueError(f"{found}; harvest more pictures, or lower lanes")
    rows = np.sort(rows)
    piece_rows = min(CHUNK_ROWS, max(1, len(rows) // (num_lanes * PIECES_PER_LANE)))
    chunk_begins = np.flatnonzero(np.diff(rows // CHUNK_ROWS, prepend=-1))
    ends = np.append(chunk_begins[1:], len(rows))
    begins = [np.arange(begin, end, piece_rows) for begin, end in zip(chunk_begins, ends, strict=True)]
    return LaneOrder(
        rows=rows,
        pieces=np.append(np.concatenate(begins), len(rows)),
        num_lanes=num_lanes,
        window_pieces=max(1, buffer_rows // num_lanes // piece_rows),
        seed=seed,
    )


def batches(
    store: Store, order: LaneOrder, *, lanes: range, rows_per_lane: int, first_step: int, blocks: NDArray[np.int64]
) -> Generator[NDArray[np.float16], None, None]:
    """Endless batches (len(lanes) * rows_per_lane, G, C) of the given lanes' next rows and of the given blocks.

    Each lane holds one window in memory and reads the next one meanwhile, in threads that end with the generator.

    Raises:
        StoreError: a chunk cannot be read, or is damaged.
    """
    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, len(lanes)), thread_name_prefix="stream") as threads:

        def submit(rows: NDArray[np.int64]) -> Future[NDArray[np.float16]]:
            return threads.submit(read_rows, store, rows, blocks)

        windows = [_read_ahead(_windows_from(order, lane, first_step * rows_per_lane), submit) for lane in lanes]
        readers = [_cut(lane_windows, rows_per_lane) for lane_windows in windows]
        while True:
            yield np.concatenate([next(reader) for reader in readers])


def read_rows(store: Store, rows: NDArray[np.int64], blocks: NDArray[np.int64]) -> NDArray[np.float16]:
    """Some rows in the order given, (n, G, C); every chunk they lie in is read once, whole."""
    out = np.empty((len(rows), len(blocks), store.channels), np.float16)
    every_block = np.array_equal(blocks, np.arange(store.group.order))
    for chunk in np.unique(rows // CHUNK_ROWS):
        first = int(chunk) * CHUNK_ROWS
        acts = store.read(first, min(first + CHUNK_ROWS, store.num_rows))
        here = np.flatnonzero(rows // CHUNK_ROWS == chunk)
        inside = rows[here] - first
        out[here] = acts[inside] if every_block else acts[inside[:, None], blocks]
    return out


def _cut(windows: Iterator[NDArray[np.float16]], size: int) -> Iterator[NDArray[np.float16]]:
    """The same samples in parts of `size`."""
    parts: list[NDArray[np.float16]] = []
    for window in windows:
        taken = 0
        while taken < len(window):
            wanted = size - sum(map(len, parts))
            parts.append(window[taken : taken + wanted])
            taken += len(parts[-1])
            if len(parts[-1]) == wanted:
                yield np.concatenate(parts)
                parts = []


def _windows_from(order: LaneOrder, lane: int, consumed: int) -> Iterator[NDArray[np.int64]]:
    """Endless windows of a lane's rows after the first `consumed`."""
    epoch, skip = order.start(lane, consumed)
    while True:
        for rows in order.windows(lane, epoch):
            if skip < len(rows):
                yield rows[skip:]
            skip = max(0, skip - len(rows))
        epoch += 1


def _read_ahead(
    windows: Iterator[NDArray[np.int64]], submit: Callable[[NDArray[np.int64]], Future[NDArray[np.float16]]]
) -> Iterator[NDArray[np.float16]]:
    """Samples of each window, while the next one is being read; `windows` is endless."""
    ahead = submit(next(windows))
    for rows in windows:
        ready, ahead = ahead.result(), submit(rows)
        yield ready
