"""How good a crosscoder is: unexplained variance, active features, dead share; sums first, one division at the end.

Letters: B samples, G group elements, C channels, F features, I images, S resamplings.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RESOLVED = 1e-5
"""Variance below this share of the mean square is lost in the rounding of float16 storage and float32 sums: what is
divided by it says nothing."""
NUM_RESAMPLINGS = 2000
COVERAGE = 0.95


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

        0 is perfect; 1 is no better than the mean of what was seen. NaN where it is undefined: before two samples were
        seen, or where they hardly vary (RESOLVED).
        """
        variance_G = self._variance_G()
        return torch.where(self._is_resolved(variance_G, self.squares_G), self.residual_G / variance_G, torch.nan)

    def fraction_unexplained(self) -> float | None:
        """FVU over all blocks together; a ratio of sums, not a mean of the blocks' ratios. None: undefined."""
        variance, squares = self._variance_G().sum(), self.squares_G.sum()
        return float(self.residual_G.sum() / variance) if self._is_resolved(variance, squares) else None

    def is_far_off(self, factor: float) -> bool:
        """Whether the error is more than `factor` times the variance, or where that is undefined the mean square, or no
        number at all."""
        share = self.fraction_unexplained()
        if share is None:
            return not bool(self.residual_G.sum() <= factor * self.squares_G.sum())
        return not 0 <= share <= factor

    def _variance_G(self) -> Tensor:
        return self.squares_G - self.sum_GC.square().sum(1) / self.count

    def _is_resolved(self, variance: Tensor, squares: Tensor) -> Tensor:
        return (self.count > 1) & (variance > RESOLVED * squares)


@dataclass(slots=True)
class ImageSums:
    """Numerator and denominator of the fraction of variance unexplained by image, float64: samples of one image
    are alike, so an interval must resample images."""

    error_I: Tensor
    """Sum of the squared errors."""
    deviation_I: Tensor
    """Sum of the squared deviations from the mean over all samples, or from a near guess of it."""

    @staticmethod
    def zeros(num_images: int, device: torch.device | str = "cpu") -> "ImageSums":
        """Nothing seen yet."""
        return ImageSums(*(torch.zeros(num_images, dtype=torch.float64, device=device) for _ in range(2)))

    def add(self, image_B: Tensor, squared_error_B: Tensor, squared_deviation_B: Tensor) -> None:
        """Count a batch; `image_B` numbers the images of its samples, int64 in [0, I)."""
        self.error_I.index_add_(0, image_B, squared_error_B.double())
        self.deviation_I.index_add_(0, image_B, squared_deviation_B.double())

    def interval(self) -> tuple[float, float] | None:
        """Where 95% of the fractions lie that resampled images give (percentile bootstrap, Efron 1979; seeded). None
        with fewer than two images, or where they do not vary."""
        error_I, deviation_I = self.error_I.cpu().numpy(), self.deviation_I.cpu().numpy()
        num_images = len(error_I)
        if num_images < 2 or not deviation_I.sum() > 0:
            return None
        rng = np.random.default_rng(0)
        shares = [_resampled(error_I, deviation_I, rng) for _ in range(NUM_RESAMPLINGS)]
        low, high = np.nanquantile(shares, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
        return float(low), float(high)


def or_none(values: Iterable[float]) -> list[float | None]:
    """The numbers, with None for what is not one: JSON knows no NaN."""
    return [value if np.isfinite(value) else None for value in values]


def _resampled(error_I: np.ndarray, deviation_I: np.ndarray, rng: np.random.Generator) -> float:
    drawn = rng.integers(0, len(error_I), len(error_I))
    deviation = deviation_I[drawn].sum()
    return error_I[drawn].sum() / deviation if deviation > 0 else np.nan


def squared_norm_BG(x_BGC: Tensor) -> Tensor:
    """Sum of squares over the channels of each block, (B, G); differentiable.

    The norm is squared, rather than squares summed, because it makes no temporary as large as the samples.
    """
    return torch.linalg.vector_norm(x_BGC, dim=2).square()
