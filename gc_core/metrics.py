"""How good a crosscoder is: unexplained variance, active features, dead share; sums first, one division at the end.

Letters: B samples, G group elements, C channels, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class VarianceSums:
    """Numerators and denominators of the fraction of variance unexplained, float64, added over batches and workers."""

    count: Tensor
    """() samples seen."""
    sum_GC: Tensor
    """Sum of the activations."""
    squares_G: Tensor
    """Sum of the activations' squares."""
    residual_G: Tensor
    """Sum of the squared errors."""

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
        self.add_errors(acts_BGC, squared_norm_BG(recon_BGC - acts_BGC))

    def add_errors(self, acts_BGC: Tensor, squared_error_BG: Tensor) -> None:
        """Count one batch whose errors are known."""
        self.count += len(acts_BGC)
        self.sum_GC += acts_BGC.sum(0)  # a batch's rounding is harmless, and half the time of summing it in float64
        self.squares_G += squared_norm_BG(acts_BGC).sum(0, dtype=torch.float64)
        self.residual_G += squared_error_BG.sum(0, dtype=torch.float64)

    def tensors(self) -> list[Tensor]:
        """The sums, to be reduced over workers in place."""
        return [self.count, self.sum_GC, self.squares_G, self.residual_G]

    def fraction_unexplained_per_block(self) -> Tensor:
        """(G,) share of each block's variance that the reconstruction misses.

        0 is perfect; 1 is no better than the mean of what was seen. NaN before two samples were seen.
        """
        return self.residual_G / self._variance_G()

    def fraction_unexplained(self) -> float:
        """The same over all blocks together; a ratio of sums, not a mean of the blocks' ratios."""
        return float(self.residual_G.sum() / self._variance_G().sum())

    def _variance_G(self) -> Tensor:
        variance = self.squares_G - self.sum_GC.square().sum(1) / self.count
        return torch.where(self.count > 1, variance, torch.nan)


def squared_norm_BG(x_BGC: Tensor) -> Tensor:
    """Sum of squares over the channels of each block, (B, G); differentiable.

    The norm is squared, rather than squares summed, because it makes no temporary as large as the samples.
    """
    return torch.linalg.vector_norm(x_BGC, dim=2).square()
