"""Whether a store holds what its images give: every shard read whole, and some rows computed again.

Letters: N rows, G group elements, C channels.
"""

from dataclasses import replace

import numpy as np

from gc_core.backbones import AnyBackbone
from gc_core.config import HarvestConfig
from gc_core.harvest.plan import ImageWork, ShardWork
from gc_core.harvest.shard import compute_shard
from gc_core.io.run_folder import RunFolder
from gc_core.store import ROUNDING, ShardArrays, StoreError, open_store

ROWS_AN_IMAGE = 2


def fault_of_shard(run: RunFolder, shard: int) -> str | None:
    """What is wrong with a shard's objects, sizes, checksums or numbers, in one line; None if nothing is."""
    try:
        store = open_store(run, unfinished=True)
        store.check_arrays(shard, store.verify(shard))
    except StoreError as error:
        return str(error)
    return None


def fault_of_origin(
    run: RunFolder, work: ShardWork, config: HarvestConfig, backbone: AnyBackbone, *, num_images: int
) -> str | None:
    """Where a sound shard differs from what some of its images give when computed again; None if it does not.

    Raises:
        OSError: an image cannot be read, or is not the one that was indexed.
    """
    stored = open_store(run, unfinished=True).verify(work.shard)
    chosen = np.random.default_rng([config.seed, work.shard]).permutation(len(work.images))[:num_images]
    for image in (work.images[i] for i in sorted(chosen)):
        some = replace(image, count=min(image.count, ROWS_AN_IMAGE))
        again = compute_shard(replace(work, images=(some,)), config, backbone, tick=lambda _: None)
        if fault := _difference(stored, again, some):
            return f"{run.url}: shard {work.shard}, image {image.ref.name}: {fault}"
    return None


def _difference(stored: ShardArrays, again: ShardArrays, image: ImageWork) -> str | None:
    for centre, acts_GC in zip(again.centre_yx, again.activations, strict=True):
        where = f"centre (y {centre[0]}, x {centre[1]})"
        here = np.flatnonzero((stored.image == image.image) & (stored.centre_yx == centre).all(1))
        if not len(here):
            return f"{where} should have been stored and was not"
        stored_GC, expected = stored.activations[here[0]].astype(np.float32), acts_GC.astype(np.float32)
        error = np.linalg.norm(stored_GC - expected) / max(float(np.linalg.norm(expected)), 1e-6)
        if error > ROUNDING:
            return f"{where}: stored activations differ by {error:.1%} from those computed now"
    return None
