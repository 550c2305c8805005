"""Computing one shard: decode on threads, transform and evaluate, write, commit.

Letters: N rows, G group elements, C channels.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

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


def harvest_shard(
    run: RunFolder, work: ShardWork, config: HarvestConfig, backbone: Backbone, *, attempt: str, tick: Callable[[int], None]
) -> Commit:
    """Compute, write and commit one shard; `tick` hears of rows as they are done."""
    return store.write_shard(run, work.shard, compute_shard(work, config, backbone, tick=tick), attempt=attempt)


def compute_shard(work: ShardWork, config: HarvestConfig, backbone: Backbone, *, tick: Callable[[int], None]) -> ShardArrays:
    """All arrays of one shard, in memory. Rows stand in a seeded order, so that readers meet images mixed."""
    group = groups.parse(config.group)
    acts_NGC = np.empty((work.num_rows, group.order, backbone.channels), np.float16)
    image_N, centre_N2 = np.empty(work.num_rows, np.int64), np.empty((work.num_rows, 2), np.int32)
    place = np.random.default_rng([config.seed, work.shard]).permutation(work.num_rows)
    done = 0
    for image_n, centre_n2, windows in _batches(work, config, backbone):
        rows = place[done : done + len(image_n)]
        acts = windows_to_activations(windows, group, backbone, config.interpolation)
        image_N[rows], centre_N2[rows], acts_NGC[rows] = image_n, centre_n2, acts.half().cpu().numpy()
        done += len(rows)
        tick(len(rows))
    return ShardArrays(activations=acts_NGC, image=image_N, centre_yx=centre_N2)


Batch = tuple[NDArray[np.int64], NDArray[np.int32], torch.Tensor]


def _batches(work: ShardWork, config: HarvestConfig, backbone: Backbone) -> Iterator[Batch]:
    """Windows of several pictures, gathered until a pass of the network is full."""
    per_pass = windows_per_pass(groups.parse(config.group), backbone)
    waiting: list[Batch] = []
    with ThreadPoolExecutor(DECODE_THREADS) as threads:
        for image, cut in zip(work.images, threads.map(lambda w: _cut(w, config, backbone), work.images), strict=True):
            centres, windows = cut
            waiting.append((np.full(len(centres), image.image), centres, windows))
            while sum(len(part[0]) for part in waiting) >= per_pass:
                full, waiting = _split(waiting, per_pass)
                yield full
    if waiting:
        yield _split(waiting, sum(len(part[0]) for part in waiting))[0]


def _split(parts: list[Batch], count: int) -> tuple[Batch, list[Batch]]:
    image, centres, windows = (np.concatenate([p[i] for p in parts]) for i in range(3))
    rest = (image[count:], centres[count:], torch.from_numpy(windows[count:]))
    return (image[:count], centres[:count], torch.from_numpy(windows[:count])), [rest] if len(rest[0]) else []


def _cut(work: ImageWork, config: HarvestConfig, backbone: Backbone) -> tuple[NDArray[np.int32], torch.Tensor]:
    """This shard's centres of one picture, and the pixels around them."""
    pixels_CHW = load(work.ref, config.resize_px)
    if pixels_CHW.shape[1:] != (work.height, work.width):
        found = f"{pixels_CHW.shape[2]} x {pixels_CHW.shape[1]} px found"
        raise OSError(f"{work.ref.name}: {found}, the manifest says {work.width} x {work.height}; it changed since it was indexed")
    window_px = field_window_px(groups.parse(config.group), backbone, config.interpolation)
    centres = _all_centres(work, pixels_CHW, window_px, config, backbone)[work.first : work.first + work.count]
    return centres, cut_windows(pixels_CHW, centres, window_px)


def _all_centres(
    work: ImageWork, pixels_CHW: NDArray[np.uint8], window_px: int, config: HarvestConfig, backbone: Backbone
) -> NDArray[np.int32]:
    """Every centre that the run takes from this picture; what a shard takes is a slice of it."""
    rng = np.random.default_rng(int(shards.mix(np.array([work.key], np.uint64), config.seed)[0]))
    if config.centres == "activation":
        return strong_centres(pixels_CHW, window_px, work.total, rng, backbone)
    return uniform_centres(work.height, work.width, window_px, work.total, rng)
