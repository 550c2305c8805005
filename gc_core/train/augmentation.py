"""What crosscoders see of a store's samples: as they are, or as of images that a random group element acted on.

The sample of h.x is stored with that of x: its block g is the block g h (right translation). So augmentation reorders
blocks, exactly, and needs no other activations.

Letters: B samples, N rows, S elements of the store's group, G of the crosscoder's, C channels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.config import ResolvedTrainConfig
from gc_core.train.data import TrainingData


def blocks_to_read(config: ResolvedTrainConfig, data: TrainingData) -> NDArray[np.int64]:
    """Elements of the store whose blocks `Fetched` needs; all, if any element may act."""
    return np.arange(data.store.group.order) if config.augment else data.blocks


def sample_elements(config: ResolvedTrainConfig, order: int, step: int) -> NDArray[np.int64]:
    """(B,) elements of the store's group, of that order, that act on the samples of a step, in the order of the lanes;
    the same on every worker."""
    return np.random.default_rng([config.seed, 3, step]).integers(order, size=config.batch)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Stored samples on their way to a device, in the host's memory."""

    stored_BSC: Tensor
    """float16, of the blocks that were read."""
    block_N: Tensor | None
    """(B G,) int64, which of all samples' blocks stands where in the crosscoder's; None where all stand as read."""

    @staticmethod
    def of(
        stored_BSC: NDArray[np.float16], element_B: NDArray[np.int64] | None, data: TrainingData, device: str = "cpu"
    ) -> "Fetched":
        """Samples of all the store's blocks, each as of its image that an element acted on; without elements, of the
        blocks that a crosscoder sees.

        For a CUDA device they are put where it copies from beside its computing. Any thread may do this.
        """
        block_N = None
        if element_B is not None:
            batch, order, _ = stored_BSC.shape
            block_BG = data.store.group.cayley[data.blocks, element_B[:, None]] + order * np.arange(batch)[:, None]
            block_N = torch.from_numpy(block_BG).flatten()
        stored = torch.from_numpy(stored_BSC)
        if torch.device(device).type != "cuda":
            return Fetched(stored, block_N)
        with torch.cuda.device(device):  # of this thread: another one's memory would belong to the first GPU
            return Fetched(stored.pin_memory(), None if block_N is None else block_N.pin_memory())

    def seen(self, data: TrainingData, device: str) -> Tensor:
        """Samples as a crosscoder trains on them, (B, G, C) scaled float32. The device is not waited for."""
        stored_BSC = self.stored_BSC.to(device, non_blocking=True)
        if self.block_N is None:
            return data.scaled(stored_BSC)
        chosen = stored_BSC.flatten(0, 1).index_select(0, self.block_N.to(device, non_blocking=True))
        return data.scaled(chosen.view(len(stored_BSC), -1, stored_BSC.shape[2]))


def turned(stored_BSC: NDArray[np.float16], element_B: NDArray[np.int64], data: TrainingData) -> Tensor:
    """Samples of all the store's blocks, each as of its image that an element acted on, (B, G, C) scaled float32."""
    return Fetched.of(stored_BSC, element_B, data).seen(data, "cpu")
