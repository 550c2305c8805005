"""One shard from its source: read, checked, rounded to float16; and compared with its source later.

Letters: N rows, G group elements, C channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gc_core.ingest.config import IngestError
from gc_core.ingest.plan import IngestPlan
from gc_core.ingest.source import Source
from gc_core.io.run_folder import RunFolder
from gc_core.store import ShardArrays, open_store

LOST_SHARE = 0.01
"""Share of the norm of a block of rows: more lost in rounding means that the numbers are too small for float16."""


def compute_shard(plan: IngestPlan, shard: int, *, seed: int) -> ShardArrays:
    """All arrays of one shard, in memory. Rows stand in a seeded order, held-out ones behind the others.

    Raises:
        IngestError: a number is not finite or does not fit float16, or the source cannot be read.
    """
    num_rows = len(plan.shards.rows(shard))
    acts_NGC = np.empty((num_rows, plan.source.order, plan.source.channels), np.float16)
    image_N, done = np.empty(num_rows, np.int64), 0
    place = plan.shards.places(shard, seed)
    for rows in plan.rows_of(shard):
        here, start = place[done : done + len(rows)], int(rows[0])
        # Blocks with held-out rows are read twice, for these and for the others: in one piece, not row by row.
        acts_NGC[here] = rounded(plan.source, start, plan.source.read(start, int(rows[-1]) + 1))[rows - start]
        image_N[here] = plan.image_N[rows]
        done += len(rows)
    return ShardArrays(activations=acts_NGC, image=image_N, centre_yx=np.zeros((num_rows, 2), np.int32))


def rounded(source: Source, start: int, wide_NGC: NDArray[Any]) -> NDArray[np.float16]:
    """Rows of the source, from `start` on, as float16.

    Raises:
        IngestError: a number is not finite, is beyond float16, or nearly all of them are too small for it.
    """
    scaled_NGC = wide_NGC if source.scale == 1 else wide_NGC.astype(np.float64) * source.scale
    with np.errstate(over="ignore", under="ignore"):
        half_NGC = scaled_NGC.astype(np.float16)
    if not np.isfinite(half_NGC).all():
        _refuse_number(source, start, wide_NGC, half_NGC)
    exact = np.linalg.norm(scaled_NGC.astype(np.float64))
    lost = np.linalg.norm(scaled_NGC - half_NGC.astype(np.float64))
    if lost > LOST_SHARE * exact:
        piece, row = source.place(start)
        found = f"rows from {row}: {lost / exact:.0%} of their norm is lost in float16 (largest number"
        raise IngestError(f"{piece.name}: {found} {np.abs(scaled_NGC).max():.2g}); enlarge them with --scale")
    return half_NGC


def fault_of_source(run: RunFolder, plan: IngestPlan, shard: int, *, seed: int) -> str | None:
    """Where a sound shard differs from its source; None if it does not.

    Raises:
        OSError: the source cannot be read.
    """
    stored, again = open_store(run, unfinished=True).verify(shard), compute_shard(plan, shard, seed=seed)
    other_N = (stored.activations != again.activations).any((1, 2)) | (stored.image != again.image)
    if not other_N.any():
        return None
    return f"{run.url}: shard {shard}: {other_N.sum():,} of {len(other_N):,} samples differ from their source"


def _refuse_number(source: Source, start: int, wide_NGC: NDArray[Any], half_NGC: NDArray[np.float16]) -> None:
    row, element, channel = (int(place) for place in np.argwhere(~np.isfinite(half_NGC))[0])
    piece, number = source.place(start + row)
    value = float(wide_NGC[row, element, channel])
    where = f"{piece.name}: row {number}, element {element}, channel {channel}: {value:.6g} found, expected"
    if np.isfinite(value):
        raise IngestError(f"{where} at most 65,504 (float16); make them smaller with --scale")
    raise IngestError(f"{where} finite numbers")
