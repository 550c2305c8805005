"""A store of three shards, the last one short, that the tests of the store write, harm and repair.

Letters: N rows, G group elements, C channels.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gc_core import groups, store
from gc_core.config import Compression
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from gc_core.store import ARRAYS, ShardArrays
from gc_core.store.layout import object_name

GROUP = groups.dihedral(2)
CHANNELS = 3
SHARD_ROWS = 256
NUM_ROWS = 600  # two full shards of two chunks, and one of 88 rows
NUM_SHARDS = 3
ATTRS = {"config": {"seed": 0, "images": "/images"}, "config_hash": "hash of seed 0", "weights_sha256": "aa"}


def numbers(seed: int = 0) -> ShardArrays:
    """All rows of the store, half zero as after a ReLU, with the extremes of float16."""
    rng = np.random.default_rng(seed)
    activations = np.maximum(rng.normal(size=(NUM_ROWS, GROUP.order, CHANNELS)), 0).astype(np.float16)
    activations[5, 1, 2], activations[300, 0, 0], activations[599, 3, 1] = 65504, -65504, 2**-24
    image = rng.integers(0, 2**40, NUM_ROWS)
    return ShardArrays(
        activations=activations, image=image, centre_yx=rng.integers(0, 500, (NUM_ROWS, 2)).astype(np.int32)
    )


def part(arrays: ShardArrays, start: int, stop: int) -> ShardArrays:
    return ShardArrays(**{name: getattr(arrays, name)[start:stop] for name in ARRAYS})


def shard_of(arrays: ShardArrays, shard: int) -> ShardArrays:
    return part(arrays, shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)


def create(run: RunFolder, compression: Compression = "zstd", **changes: Any) -> None:
    """The empty store; `changes` are of its attributes."""
    store.create(
        run,
        store.StoreSpec(
            num_rows=NUM_ROWS,
            shard_rows=SHARD_ROWS,
            channels=CHANNELS,
            group=GROUP,
            attrs={**ATTRS, **changes},
            compression=compression,
        ),
    )


def write(run: RunFolder, *shards: int) -> None:
    """Some shards, as a harvest would."""
    for shard in shards:
        store.write_shard(run, shard, shard_of(numbers(), shard), attempt=f"first {shard}")


def assert_intact(run: RunFolder) -> None:
    """Every number is what was written."""
    opened, expected = store.open_store(run), numbers()
    np.testing.assert_array_equal(opened.read(0, NUM_ROWS), expected.activations)
    np.testing.assert_array_equal(opened.image, expected.image)
    np.testing.assert_array_equal(opened.centre_yx, expected.centre_yx)
    for shard in range(NUM_SHARDS):
        opened.verify(shard)


def write_all(folder: Path) -> None:
    """A finished store, its shards written out of order."""
    run = RunFolder.at(str(folder))
    create(run)
    write(run, 2, 0, 1)
    store.finish(run)


def object_of(folder: Path, name: str, shard: int) -> Path:
    """The file that holds a shard of an array."""
    below = {"activations": "0/0", "image": "", "centre_yx": "0"}[name]
    return folder / "activations.zarr" / name / "c" / str(shard) / below


def write_forever(url: str) -> None:
    """A writer to be killed: finish the store, take the records away, and again."""
    run = RunFolder.at(url)
    while True:
        create(run)
        write(run, *(shard for shard in range(NUM_SHARDS) if shard not in store.finished_commits(run)))
        store.finish(run)
        for shard in range(NUM_SHARDS):
            store.discard_commit(run, shard)
            objects.delete(run.activations, object_name("image", shard))
