"""What crosscoders see of a store's samples: as they are, or as of pictures that a random group element acted on.

The sample of h.x is stored with that of x: its block g is the block g h (right translation). So augmentation reorders
blocks, exactly, and needs no other activations.

Letters: B samples, N rows, S elements of the store's group, G of the crosscoder's, C channels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.config import TrainConfig
from gc_core.train.data import TrainingData


def blocks_to_read(config: TrainConfig, data: TrainingData) -> NDArray[np.int64]:
    """Elements of the store whose blocks `as_seen` needs; all, if any element may act."""
    return np.arange(data.store.group.order) if config.augment else data.blocks


def drawn_elements(config: TrainConfig, order: int, step: int) -> NDArray[np.int64]:
    """(B,) elements of the store's group, of that order, that act on the samples of a step, in the order of the lanes;
    the same on every worker."""
    return np.random.default_rng([config.seed, 3, step]).integers(order, size=config.batch)


def as_seen(
    stored_BSC: NDArray[np.float16], element_B: NDArray[np.int64], config: TrainConfig, data: TrainingData, device: str
) -> Tensor:
    """Samples of the blocks that `blocks_to_read` names as a crosscoder trains on them, (B, G, C) scaled float32."""
    if not config.augment:
        return data.scaled(torch.from_numpy(stored_BSC).to(device))
    return turned(stored_BSC, element_B, data, device)


def turned(stored_BSC: NDArray[np.float16], element_B: NDArray[np.int64], data: TrainingData, device: str) -> Tensor:
    """Samples of all the store's blocks, each as of its picture that an element acted on, (B, G, C) scaled float32."""
    batch, order, channels = stored_BSC.shape
    block_BG = data.store.group.cayley[data.blocks, element_B[:, None]] + order * np.arange(batch)[:, None]
    blocks = torch.from_numpy(stored_BSC).to(device).flatten(0, 1)
    chosen = blocks.index_select(0, torch.from_numpy(block_BG).to(device).flatten())
    return data.scaled(chosen.view(batch, -1, channels))
