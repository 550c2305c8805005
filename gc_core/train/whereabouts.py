"""Where the samples of a step lie, for a message about them.

Letters: B samples, N rows, G group elements, C channels.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gc_core.stream import LaneOrder

MOST_NAMED = 8


def rows_of_step(order: LaneOrder, *, lanes: range, rows_per_lane: int, step: int) -> NDArray[np.int64]:
    """(B,) rows of the store that `gc_core.stream.batches` gives at a step, in the same order."""
    return np.concatenate([_rows_from(order, lane, step * rows_per_lane, rows_per_lane) for lane in lanes])


def describe(rows_B: NDArray[np.int64], acts_BGC: Tensor, shard_rows: int) -> str:
    """`rows 17, 40 of shard 0 hold values that are not finite`, or which shards the batch came from."""
    bad_B = ~acts_BGC.flatten(1).isfinite().all(1).cpu().numpy()
    if bad_B.any():
        rows, shards = np.sort(rows_B[bad_B]), np.unique(rows_B[bad_B] // shard_rows)
        return f"rows {_some(rows)} of shards {_some(shards)} hold values that are not finite"
    return f"rows {rows_B.min()} to {rows_B.max()} of shards {_some(np.unique(rows_B // shard_rows))}, all finite"


def _rows_from(order: LaneOrder, lane: int, consumed: int, count: int) -> NDArray[np.int64]:
    epoch, skip = order.start(lane, consumed)
    taken: list[NDArray[np.int64]] = []
    while sum(map(len, taken)) < count:
        rows = np.concatenate(list(order.windows(lane, epoch)))
        taken.append(rows[skip:])
        epoch, skip = epoch + 1, 0
    return np.concatenate(taken)[:count]


def _some(numbers: NDArray[np.int64]) -> str:
    more = f" and {len(numbers) - MOST_NAMED:,} more" if len(numbers) > MOST_NAMED else ""
    return ", ".join(map(str, numbers[:MOST_NAMED])) + more
