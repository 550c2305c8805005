"""Computing one shard: decode on threads, transform and evaluate, write, commit.

Letters: N rows, G group elements, C channels, W window side, H W pixels of a picture.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups, shards, store
from gc_core.backbones import Backbone
from gc_core.config import HarvestConfig
from gc_core.harvest.activations import cut_windows, field_window_px, windows_per_pass, windows_to_activations
from gc_core.harvest.centres import strong_centres, uniform_centres
from gc_core.harvest.plan import ImageWork, ShardWork
from gc_core.images import load
from gc_core.run_folder import RunFolder
from gc_core.store import Commit, ShardArrays

DECODE_THREADS = 2

Tick = Callable[[int], None]
"""Hears of rows as they are done."""


def harvest_shard(
    run: RunFolder, work: ShardWork, config: HarvestConfig, backbone: Backbone, *, attempt: str, tick: Tick
) -> Commit:
    """Compute, write and commit one shard; `tick` hears of rows as they are done."""
    return store.write_shard(run, work.shard, compute_shard(work, config, backbone, tick=tick), attempt=attempt)


def compute_shard(work: ShardWork, config: HarvestConfig, backbone: Backbone, *, tick: Tick) -> ShardArrays:
    """All arrays of one shard, in memory. Rows stand in a seeded order, so that readers meet images mixed.

    Raises:
        OSError: a picture cannot be read, or is not the one that was indexed.
    """
    group = groups.parse(config.group)
    acts_NGC = np.empty((work.num_rows, group.order, backbone.channels), np.float16)
    image_N, centre_N2 = np.empty(work.num_rows, np.int64), np.empty((work.num_rows, 2), np.int32)
    place = np.random.default_rng([config.seed, work.shard]).permutation(work.num_rows)
    done = 0
    for batch in _batches(work, config, backbone):
        rows = place[done : done + len(batch.image)]
        acts = windows_to_activations(batch.windows, group, backbone, config.interpolation)
        image_N[rows], centre_N2[rows], acts_NGC[rows] = batch.image, batch.centre_yx, acts.half().cpu().numpy()
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


def _batches(work: ShardWork, config: HarvestConfig, backbone: Backbone) -> Iterator[_Batch]:
    """The shard's centres in the order of its images, as many at a time as fill a pass of the network."""
    per_pass = windows_per_pass(groups.parse(config.group), backbone)
    waiting: list[_Batch] = []
    with ThreadPoolExecutor(DECODE_THREADS) as threads:
        for cut in threads.map(lambda image: _cut(image, config, backbone), work.images):
            waiting.append(cut)
            if sum(len(part.image) for part in waiting) >= per_pass:
                together = _joined(waiting)
                whole = len(together.image) - len(together.image) % per_pass
                yield from (together[first : first + per_pass] for first in range(0, whole, per_pass))
                waiting = [together[whole:]]
    if len((rest := _joined(waiting)).image):
        yield rest


def _joined(parts: list[_Batch]) -> _Batch:
    return _Batch(
        image=np.concatenate([part.image for part in parts]),
        centre_yx=np.concatenate([part.centre_yx for part in parts]),
        windows=torch.cat([part.windows for part in parts]),
    )


def _cut(work: ImageWork, config: HarvestConfig, backbone: Backbone) -> _Batch:
    """This shard's centres of one picture, and the pixels around them."""
    pixels_CHW = load(work.ref, config.resize_px, key=work.key)
    window_px = field_window_px(groups.parse(config.group), backbone, config.interpolation)
    centres_N2 = _all_centres(work, pixels_CHW, window_px, config, backbone)[work.first : work.first + work.count]
    return _Batch(
        image=np.full(len(centres_N2), work.image),
        centre_yx=centres_N2,
        windows=cut_windows(pixels_CHW, centres_N2, window_px),
    )


def _all_centres(
    work: ImageWork, pixels_CHW: NDArray[np.uint8], window_px: int, config: HarvestConfig, backbone: Backbone
) -> NDArray[np.int32]:
    """Every centre that the run takes from this picture; what a shard takes is a slice of it."""
    rng = np.random.default_rng(int(shards.mix(np.array([work.key], np.uint64), config.seed)[0]))
    if config.centres == "activation":
        return strong_centres(pixels_CHW, window_px, work.total, rng, backbone)
    _, height, width = pixels_CHW.shape
    return uniform_centres(height, width, window_px, work.total, rng)
