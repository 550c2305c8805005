"""Computing one shard: decode on threads, transform and evaluate, write, commit.

Letters: N rows, G group elements, C channels, W window side, H W pixels of an image.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import store
from gc_core.backbones import AnyBackbone
from gc_core.config import HarvestConfig
from gc_core.harvest.activations import (
    Geometry,
    cut_windows,
    evaluated,
    windows_per_pass,
)
from gc_core.harvest.centres import choose
from gc_core.harvest.plan import ImageWork, ShardWork
from gc_core.images import load
from gc_core.io.run_folder import RunFolder
from gc_core.store import Commit, ShardArrays, shards

DECODE_THREADS = 2
DECODED_AHEAD = 16
"""Images decoded before they are needed, at most: their windows are all that waits in memory."""

LARGEST_STORED = float(np.finfo(np.float16).max)

Tick = Callable[[int], None]
"""Hears of rows as they are done."""


def harvest_shard(
    run: RunFolder, work: ShardWork, config: HarvestConfig, backbone: AnyBackbone, *, attempt: str, tick: Tick
) -> Commit:
    """Compute, write and commit one shard; `tick` hears of rows as they are done."""
    return store.write_shard(run, work.shard, compute_shard(work, config, backbone, tick=tick), attempt=attempt)


class Pipeline:
    """Harvests shards so that one is written while the next is computed: call `harvest` from SHARDS_AT_ONCE threads.

    One shard is computed at a time, and one written; so no more than that many are in memory.
    """

    SHARDS_AT_ONCE = 2

    def __init__(self, run: RunFolder, config: HarvestConfig, backbone: AnyBackbone, *, attempt: str) -> None:
        self._run, self._config, self._backbone, self._attempt = run, config, backbone, attempt
        self._computing, self._writing = Lock(), Lock()

    def harvest(self, work: ShardWork, *, tick: Tick) -> Commit:
        """Harvest like `harvest_shard`: return when the shard is committed, and raise what its own writing raises."""
        with self._computing:
            arrays = compute_shard(work, self._config, self._backbone, tick=tick)
        with self._writing:
            return store.write_shard(self._run, work.shard, arrays, attempt=self._attempt)


def compute_shard(work: ShardWork, config: HarvestConfig, backbone: AnyBackbone, *, tick: Tick) -> ShardArrays:
    """All arrays of one shard, in memory. Rows stand in a seeded order, so that readers meet images mixed, with
    those of held-out images behind the others.

    Raises:
        OSError: an image cannot be read, or is not the one that was indexed.
    """
    geometry = Geometry.of(config, backbone)
    acts_NGC = np.empty((work.num_rows, geometry.group.order, backbone.channels), np.float16)
    image_N, centre_N2 = np.empty(work.num_rows, np.int64), np.empty((work.num_rows, 2), np.int32)
    place = shards.shuffled(work.num_rows, work.held_out_from, seed=config.seed, shard=work.shard)
    done = 0
    for batch, batch_acts_NGC in _evaluated(_batches(work, config, backbone, geometry), backbone, geometry):
        rows = place[done : done + len(batch.image)]
        image_N[rows], centre_N2[rows], acts_NGC[rows] = batch.image, batch.centre_yx, batch_acts_NGC
        done += len(rows)
        tick(len(rows))
    return ShardArrays(activations=acts_NGC, image=image_N, centre_yx=centre_N2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Centres and the pixels around them."""

    image: NDArray[np.int64]
    """(N,)"""
    centre_yx: NDArray[np.int32]
    """(N, 2)"""
    windows: Tensor
    """(N, 3, W, W) uint8"""

    def __getitem__(self, part: slice) -> "_Batch":
        return _Batch(image=self.image[part], centre_yx=self.centre_yx[part], windows=self.windows[part])


def _evaluated(
    batches: Iterator[_Batch], backbone: AnyBackbone, geometry: Geometry
) -> Iterator[tuple[_Batch, NDArray[np.float16]]]:
    """Each batch with its activations. An accelerator gets the next batch before the last one's are awaited."""
    launched: deque[tuple[_Batch, Tensor, Tensor, torch.cuda.Event | None]] = deque()
    for batch in batches:
        acts_NGC = evaluated(batch.windows, geometry, backbone)
        launched.append((batch, *_to_host(acts_NGC.half(), _largest(acts_NGC))))
        if len(launched) > 1:
            yield _awaited(backbone, *launched.popleft())
    while launched:
        yield _awaited(backbone, *launched.popleft())


def _largest(acts_NGC: Tensor) -> Tensor:
    """The largest size of a number, NaN where one is none; left on the device, for asking would wait for it."""
    return acts_NGC.abs().amax() if acts_NGC.numel() else acts_NGC.new_zeros(())


def _to_host(acts_NGC: Tensor, largest: Tensor) -> tuple[Tensor, Tensor, torch.cuda.Event | None]:
    """Copy to host memory; the copies are complete once the event is, at once where it is None."""
    if acts_NGC.device.type == "cpu":
        return acts_NGC, largest, None
    host_NGC, host = (each.to("cpu", non_blocking=True) for each in (acts_NGC, largest))
    arrived = torch.cuda.Event()
    arrived.record()
    return host_NGC, host, arrived


def _awaited(
    backbone: AnyBackbone, batch: _Batch, acts_NGC: Tensor, largest: Tensor, arrived: torch.cuda.Event | None
) -> tuple[_Batch, NDArray[np.float16]]:
    if arrived is not None:
        arrived.synchronize()
    _refuse_out_of_range(backbone, float(largest))
    return batch, acts_NGC.numpy()


def _refuse_out_of_range(backbone: AnyBackbone, largest: float) -> None:
    """Raises ValueError where a number is none, or larger than the store's float16 holds."""
    if largest <= LARGEST_STORED:
        return
    layer = f"{backbone.name} {backbone.layer}"
    if backbone.dtype == torch.float16 and not math.isfinite(largest):
        raise ValueError(f"{layer}: leaves the range of float16 ({LARGEST_STORED:,.0f}); use --dtype bfloat16")
    found = f"an activation of {largest:,.0f}" if math.isfinite(largest) else "an activation that is not finite"
    raise ValueError(
        f"{layer}: {found} found, expected at most {LARGEST_STORED:,.0f}, for the store keeps float16; take another"
        " layer, such as one after a normalisation"
    )


def _batches(work: ShardWork, config: HarvestConfig, backbone: AnyBackbone, geometry: Geometry) -> Iterator[_Batch]:
    """The shard's centres in the order of its images, as many at a time as fill a pass of the network."""
    per_pass = windows_per_pass(geometry.group, backbone)
    waiting: list[_Batch] = []
    for cut in _decoded_ahead(work, config, backbone, geometry):
        waiting.append(cut)
        if sum(len(part.image) for part in waiting) >= per_pass:
            together = _joined(waiting)
            whole = len(together.image) - len(together.image) % per_pass
            yield from (together[first : first + per_pass] for first in range(0, whole, per_pass))
            waiting = [together[whole:]]
    if len((rest := _joined(waiting)).image):
        yield rest


def _decoded_ahead(
    work: ShardWork, config: HarvestConfig, backbone: AnyBackbone, geometry: Geometry
) -> Iterator[_Batch]:
    """The centres of each image in turn, while threads decode the next few images."""
    waiting: deque[Future[_Batch]] = deque()
    with ThreadPoolExecutor(DECODE_THREADS) as threads:
        for image in work.images:
            waiting.append(threads.submit(_cut, image, config, backbone, geometry.window_px))
            if len(waiting) > DECODED_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _joined(parts: list[_Batch]) -> _Batch:
    return _Batch(
        image=np.concatenate([part.image for part in parts]),
        centre_yx=np.concatenate([part.centre_yx for part in parts]),
        windows=torch.cat([part.windows for part in parts]),
    )


def _cut(work: ImageWork, config: HarvestConfig, backbone: AnyBackbone, window_px: int) -> _Batch:
    """This shard's centres of one image, and the pixels around them.

    All centres that the run takes from the image are chosen; what a shard takes is a slice of them.
    """
    pixels_CHW = load(work.ref, config.resize_px, key=work.key, enlarge=config.enlarge)
    rng = np.random.default_rng(int(shards.mix(np.array([work.key], np.uint64), config.seed)[0]))
    all_N2 = choose(config, pixels_CHW, window_px, work.total, rng, backbone)
    centres_N2 = all_N2[work.first : work.first + work.count]
    return _Batch(
        image=np.full(len(centres_N2), work.image),
        centre_yx=centres_N2,
        windows=cut_windows(pixels_CHW, centres_N2, window_px),
    )
