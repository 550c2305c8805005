"""The order in which training meets samples, and a reader that follows it.

Chunks are dealt to a fixed number of *lanes*, anew each epoch; a lane shuffles a window of its chunks at a time. A batch takes
equally from every lane, and workers share out the lanes. So (seed, step) alone names every sample of a batch, whatever the
number of workers: a run continues mid-epoch on another number of them, and each row is met exactly once per lane and epoch.

Letters: B samples, N rows, G group elements, C channels.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core.shards import CHUNK_ROWS
from gc_core.store import Store


PIECES_PER_LANE = 4
"""A store of few chunks is dealt in smaller pieces, so that every lane gets about this many."""


@dataclass(frozen=True, kw_only=True)
class LaneOrder:
    """Which rows each lane meets, and when: integers only."""

    rows: NDArray[np.int64]
    """Rows to train on, ascending."""
    pieces: NDArray[np.int64]
    """(pieces + 1,) where each piece of `rows` begins; a piece lies in one chunk."""
    num_lanes: int
    window_pieces: int
    """Pieces that are shuffled together."""
    seed: int

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
        return order[lane :: self.num_lanes]


def lane_order(rows: NDArray[np.int64], *, num_lanes: int, buffer_rows: int, seed: int) -> LaneOrder:
    """An order whose shuffle buffers hold about `buffer_rows` samples in all lanes together.

    Raises:
        ValueError: there are fewer rows than lanes.
    """
    if len(rows) < num_lanes:
        raise ValueError(f"train: {len(rows)} samples found, expected at least one for each of {num_lanes} lanes; harvest more pictures")
    rows = np.sort(rows)
    piece_rows = min(CHUNK_ROWS, max(1, len(rows) // (num_lanes * PIECES_PER_LANE)))
    chunk_begins = np.flatnonzero(np.diff(rows // CHUNK_ROWS, prepend=-1))
    ends = np.append(chunk_begins[1:], len(rows))
    pieces = np.concatenate([np.arange(begin, end, piece_rows) for begin, end in zip(chunk_begins, ends, strict=True)] + [[len(rows)]])
    window_pieces = max(1, buffer_rows // num_lanes // piece_rows)
    return LaneOrder(rows=rows, pieces=pieces.astype(np.int64), num_lanes=num_lanes, window_pieces=window_pieces, seed=seed)


def batches(
    store: Store, order: LaneOrder, *, lanes: range, rows_per_lane: int, first_step: int, blocks: NDArray[np.int64]
) -> Iterator[NDArray[np.float16]]:
    """Endless batches (len(lanes) * rows_per_lane, G, C) of the given lanes' next rows and of the given blocks.

    Each lane holds one window in memory and reads the next one meanwhile.
    """
    with ThreadPoolExecutor(max_workers=max(1, min(8, len(lanes)))) as threads:
        readers = [_lane_batches(store, order, lane, rows_per_lane, first_step, blocks, threads) for lane in lanes]
        while True:
            yield np.concatenate([next(reader) for reader in readers])


def _lane_batches(
    store: Store, order: LaneOrder, lane: int, size: int, first_step: int, blocks: NDArray[np.int64], threads: ThreadPoolExecutor
) -> Iterator[NDArray[np.float16]]:
    parts: list[NDArray[np.float16]] = []
    for window in _read_ahead(store, _windows_from(order, lane, first_step * size), blocks, threads):
        taken = 0
        while taken < len(window):
            wanted = size - sum(map(len, parts))
            parts.append(window[taken : taken + wanted])
            taken += len(parts[-1])
            if len(parts[-1]) == wanted:
                yield np.concatenate(parts)
                parts = []


def _windows_from(order: LaneOrder, lane: int, consumed: int) -> Iterator[NDArray[np.int64]]:
    epoch, skip = order.start(lane, consumed)
    while True:
        for rows in order.windows(lane, epoch):
            if skip < len(rows):
                yield rows[skip:]
            skip = max(0, skip - len(rows))
        epoch += 1


def _read_ahead(
    store: Store, windows: Iterator[NDArray[np.int64]], blocks: NDArray[np.int64], threads: ThreadPoolExecutor
) -> Iterator[NDArray[np.float16]]:
    ahead: Future[NDArray[np.float16]] = threads.submit(read_rows, store, next(windows), blocks)
    for rows in windows:
        ready, ahead = ahead.result(), threads.submit(read_rows, store, rows, blocks)
        yield ready


def read_rows(store: Store, rows: NDArray[np.int64], blocks: NDArray[np.int64]) -> NDArray[np.float16]:
    """Some rows in the order given, (n, G, C); every chunk they lie in is read once, whole."""
    out = np.empty((len(rows), len(blocks), store.channels), np.float16)
    whole = len(blocks) == store.group.order
    for chunk in np.unique(rows // CHUNK_ROWS):
        first = int(chunk) * CHUNK_ROWS
        acts = store.read(first, min(first + CHUNK_ROWS, store.num_rows))
        here = np.flatnonzero(rows // CHUNK_ROWS == chunk)
        out[here] = acts[rows[here] - first] if whole else acts[rows[here] - first][:, blocks]
    return out
