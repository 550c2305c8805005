"""Small harvests for the tests of whatever reads one: real stores on disk, filled with numbers that a test chose.

Letters: N rows, G group elements, C channels, F features.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gc_core import manifest, store
from gc_core.groups import Group
from gc_core.images import ImageRef
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import ImageRecord

MakeRun = Callable[..., RunFolder]

ROWS_PER_IMAGE = 10
SHARD_ROWS = 256


def write_run(
    folder: Path,
    acts_NGC: NDArray[np.float32],
    group: Group,
    held_out_images: Collection[int] = (0,),
    rows_per_image: int = ROWS_PER_IMAGE,
    refs: Sequence[ImageRef] | None = None,
) -> RunFolder:
    """A finished harvest: row n shows image n // rows_per_image, and the images numbered are kept for validation.
    Without `refs` they are files of one folder."""
    run = RunFolder.at(str(folder))
    num_rows, _, channels = acts_NGC.shape
    image_N = np.arange(num_rows) // rows_per_image
    store.create(
        run,
        store.StoreSpec(
            num_rows=num_rows,
            shard_rows=SHARD_ROWS,
            channels=channels,
            group=group,
            attrs={"config": {}, "config_hash": "of a test"},
            format_version=store.MIXED,
        ),
    )
    for shard in range(-(-num_rows // SHARD_ROWS)):
        rows = slice(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)
        activations = acts_NGC[rows].astype(np.float16)
        arrays = store.ShardArrays(
            activations=activations, image=image_N[rows], centre_yx=np.zeros((len(activations), 2), np.int32)
        )
        store.write_shard(run, shard, arrays, attempt="test")
    store.finish(run)
    manifest.write(
        run.manifest, manifest.build(_images(refs or _files(int(image_N[-1]) + 1), held_out_images), source={})
    )
    return run


def _files(count: int) -> list[ImageRef]:
    return [ImageRef(url=f"/images/{i}.png", member="") for i in range(count)]


def _images(refs: Sequence[ImageRef], held_out: Collection[int]) -> list[ImageRecord]:
    """The manifest keeps the images with small content keys for validation."""
    keys = [i if i in held_out else 2**62 + i for i in range(len(refs))]
    return [ImageRecord(ref=ref, status="ok", key=key) for ref, key in zip(refs, keys, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A harvest whose samples are made of known features."""

    run: RunFolder
    decoder_FGC: NDArray[np.float64]
    """Of unit norm; each sample adds two of them, one to two times, to a constant."""


def contents(run: RunFolder) -> dict[str, bytes]:
    """Every object of the store, by name."""
    return {name: objects.read(run.activations, name) for name in objects.sizes(run.activations)}
