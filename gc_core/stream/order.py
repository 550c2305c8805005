"""The order in which training meets samples.

Chunks are dealt to a fixed number of *lanes*, anew each epoch; a lane shuffles some of its chunks at a time. A batch
takes equally from every lane, and workers share out the lanes. So (seed, step) alone names every sample of a batch,
whatever the number of workers: a run continues mid-epoch on another number of them. In one epoch all lanes together
meet each row exactly once; a lane that was dealt fewer rows goes on to its next epoch a little earlier than the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core.store.shards import CHUNK_ROWS

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

    def windows_from(self, lane: int, consumed: int) -> Iterator[NDArray[np.int64]]:
        """Endless windows of a lane's rows after the first `consumed`."""
        epoch, skip = self.start(lane, consumed)
        while True:
            for rows in self.windows(lane, epoch):
                if skip < len(rows):
                    yield rows[skip:]
                skip = max(0, skip - len(rows))
            epoch += 1

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
        raise ValueError(f"{found}; harvest more images, or lower lanes")
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
