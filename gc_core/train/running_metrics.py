"""What the steps since the last log came to, over all workers.

Letters: B samples, G group elements, C channels, F features.
"""

import torch
from torch import Tensor

from gc_core.losses import Losses
from gc_core.metrics import VarianceSums
from gc_core.parallel.collectives import shards_of, sum_over_replicas
from gc_core.parallel.worker import Worker

TERMS = ("total", "reconstruction", "sparsity", "auxiliary")


class Progress:
    """Sums of losses, variances and firing; divided once, when read."""

    def __init__(self, num_elements: int, channels: int, worker: Worker) -> None:
        self._worker = worker
        self._variance = VarianceSums.zeros(num_elements, channels, worker.device)
        self._losses = torch.zeros(len(TERMS), dtype=torch.float64, device=worker.device)
        self._fired = torch.zeros((), dtype=torch.float64, device=worker.device)
        self._num_steps = 0

    def add(self, acts_BGC: Tensor, losses: Losses, fired_F: Tensor) -> None:
        """Count one step: this worker's samples and losses, and every replica's `fired_F` together."""
        self._variance.add_errors(acts_BGC, losses.squared_error_BG)
        self._losses += torch.stack([getattr(losses, term).detach() for term in TERMS])
        self._fired += fired_F.sum()
        self._num_steps += 1

    def is_far_off(self, factor: float) -> bool:
        """`VarianceSums.is_far_off` of what was read."""
        return self._variance.is_far_off(factor)

    def read(self) -> dict[str, float | None]:
        """Mean losses a sample, fraction of variance unexplained (None: undefined), and active features a sample (L0).

        Call it once, on every worker: it sums over workers in place.
        """
        for tensor in [*self._variance.tensors(), self._losses]:
            sum_over_replicas(tensor, self._worker)
        fired = shards_of(self._worker).total(self._fired)
        means = (self._losses / (self._num_steps * self._worker.mesh.replicas)).tolist()
        total, reconstruction, sparsity, auxiliary = means
        return {
            "loss": total,
            "reconstruction": reconstruction,
            "sparsity": sparsity,
            "auxiliary": auxiliary,
            "fvu": self._variance.fraction_unexplained(),
            "l0": float(fired / self._variance.count),
        }
