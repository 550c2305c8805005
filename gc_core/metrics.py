"""How good a crosscoder is: unexplained variance, active features, dead share; sums first, one division at the end.

Letters: B samples, G group elements, C channels, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class VarianceSums:
    """Numerators and denominators of the fraction of variance unexplained, added over batches and workers."""

    count: Tensor
    sum_GC: Tensor
    squares_G: Tensor
    residual_G: Tensor

    @staticmethod
    def zeros(num_elements: int, channels: int, device: torch.device | str = "cpu") -> "VarianceSums":
        """Nothing seen yet."""
        options = {"dtype": torch.float64, "device": device}
        return VarianceSums(
            torch.zeros((), **options), torch.zeros(num_elements, channels, **options),
            torch.zeros(num_elements, **options), torch.zeros(num_elements, **options),
        )  # fmt: skip

    def add(self, acts_BGC: Tensor, recon_BGC: Tensor) -> None:
        """Count one batch."""
        self.count += len(acts_BGC)
        self.sum_GC += acts_BGC.sum(0, dtype=torch.float64)
        self.squares_G += acts_BGC.square().sum(2).sum(0, dtype=torch.float64)
        self.residual_G += (acts_BGC - recon_BGC).square().sum(2).sum(0, dtype=torch.float64)

    def tensors(self) -> list[Tensor]:
        """The sums, to be reduced over workers in place."""
        return [self.count, self.sum_GC, self.squares_G, self.residual_G]

    def fraction_unexplained_per_block(self) -> Tensor:
        """(G,) share of each block's variance that the reconstruction misses.

        0 is perfect; 1 is no better than the mean of what was seen. NaN before two samples were seen.
        """
        return self.residual_G / self._variance_G()

    def fraction_unexplained(self) -> float:
        """The same over all blocks together."""
        return float(self.residual_G.sum() / self._variance_G().sum())

    def _variance_G(self) -> Tensor:
        variance = self.squares_G - self.sum_GC.square().sum(1) / self.count
        return torch.where(self.count > 1, variance, torch.nan)
