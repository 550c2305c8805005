"""The samples a crosscoder trains on: a store's rows, its blocks, its scale and the images kept for validation.

Letters: N rows, G group elements, C channels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups, manifest
from gc_core.config import TrainConfig
from gc_core.groups import FiniteGroup
from gc_core.io.run_folder import RunFolder
from gc_core.store import MANIFEST, DiskCache, Store, open_store
from gc_core.stream import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class DataShape:
    """What sizes, memory and traffic follow from."""

    num_samples: int
    """Samples to train on, N."""
    num_elements: int
    """Blocks of a sample that the crosscoder explains, G."""
    channels: int
    """Values of a block, C."""
    stored_group: FiniteGroup
    """The store's, of whose blocks the crosscoder's are a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """A store cut to what a crosscoder trains on."""

    store: Store
    blocks: NDArray[np.int64]
    """(G,) store elements in the order of the crosscoder's group."""
    train_rows: NDArray[np.int64]
    """Rows of the training images, ascending."""
    held_out_rows: NDArray[np.int64]
    """Rows of the validation images, ascending; never trained on."""
    scale: float
    """Multiplies activations so that a block's mean squared norm is C."""

    @property
    def num_elements(self) -> int:
        """Blocks of a sample that the crosscoder explains, G."""
        return len(self.blocks)

    @property
    def channels(self) -> int:
        """Values of a block, C."""
        return self.store.channels

    @property
    def shape(self) -> DataShape:
        """All that a config is resolved by."""
        return DataShape(
            num_samples=len(self.train_rows),
            num_elements=self.num_elements,
            channels=self.channels,
            stored_group=self.store.group,
        )

    def read(self, rows: NDArray[np.int64], device: str = "cpu") -> Tensor:
        """Some rows, (n, G, C) scaled float32."""
        # Half precision travels, full precision is made where it is used.
        return self.scaled(torch.from_numpy(read_rows(self.store, rows, self.blocks)).to(device))

    def scaled(self, stored_NGC: Tensor) -> Tensor:
        """Stored activations as the crosscoder trains on them, float32."""
        return stored_NGC.float().mul_(self.scale)


def open_data(run: RunFolder, config: TrainConfig, *, cache: DiskCache | None = None) -> TrainingData:
    """The store's rows, split by image as the manifest says, and the blocks of the config's group.

    What is read of a remote store stays in `cache`, if one is given.

    Raises:
        StoreError: the harvest is missing, unfinished or damaged.
        ValueError: the config's group is not inside the store's, or every activation is zero.
    """
    store = open_store(run, cache=cache)
    held_out_N = manifest.held_out(manifest.load_table(run.manifest, sha256=store.attrs.get(MANIFEST)))[store.image]
    group = store.group if config.group is None else groups.from_text(config.group)
    scale = scale_of(store)
    return TrainingData(
        store=store,
        blocks=groups.embed(group, store.group),
        train_rows=np.flatnonzero(~held_out_N),
        held_out_rows=np.flatnonzero(held_out_N),
        scale=scale,
    )


def scale_of(store: Store) -> float:
    """What a store's activations are multiplied by, so that a block's mean squared norm is C.

    Raises:
        ValueError: every activation is zero.
    """
    mean_squared_norm = store.attrs["mean_squared_block_norm"]
    if not mean_squared_norm > 0:
        where = f"{store.run.url}: every activation is zero"
        raise ValueError(f"{where}, expected a layer that responds; harvest another layer")
    return math.sqrt(store.channels / mean_squared_norm)
