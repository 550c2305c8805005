"""The loop that encodes samples and sums what their reconstructions miss: for validation, evaluation and analysis.

Letters: B samples, G group elements, C channels, F features (rows of the weights), I images.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.metrics import ImageSums, VarianceSums, squared_norm_BG


class Samples(NamedTuple):
    """Activations on the crosscoder's device, and which image each is of."""

    acts_BGC: Tensor
    image_B: Tensor | None = None
    """int64, images numbered from 0; None where nothing is asked of single images."""


@dataclass(frozen=True, slots=True)
class Codes:
    """How some samples were encoded."""

    z_BF: Tensor
    pose_BF: Tensor | None
    """Pose in which each prototype is most active; None where poses are not tied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What reconstructions miss, over samples; merged by adding, divided once at the end."""

    variance: VarianceSums
    by_image: ImageSums | None = None
    mean_GC: Tensor | None = None
    """The samples' mean or near it, about which images' shares of the variance are counted."""

    @staticmethod
    def of(model: Crosscoder, *, num_images: int = 0, mean_GC: Tensor | None = None) -> "Sums":
        """Nothing seen yet, on the crosscoder's device; of single images where their mean is given."""
        device = model.W_dec.device
        return Sums(
            variance=VarianceSums.zeros(model.group.order, model.shape.channels, device),
            by_image=None if mean_GC is None else ImageSums.zeros(num_images, device),
            mean_GC=mean_GC,
        )

    def tensors(self) -> list[Tensor]:
        """The sums, to be reduced over workers in place."""
        images = [] if self.by_image is None else [self.by_image.error_I, self.by_image.deviation_I]
        return [*self.variance.tensors(), *images]

    def fvu(self) -> float | None:
        """Fraction of variance unexplained over all blocks; None where it is undefined."""
        return self.variance.fraction_unexplained()

    def interval(self) -> tuple[float, float] | None:
        """95% interval of the FVU over images; None where either is undefined."""
        return None if self.by_image is None or self.fvu() is None else self.by_image.interval()

    def add(self, samples: Samples, recon_BGC: Tensor) -> None:
        """Count one batch."""
        error_BG = squared_norm_BG(recon_BGC - samples.acts_BGC)
        self.variance.add_errors(samples.acts_BGC, error_BG)
        if self.by_image is not None:
            assert samples.image_B is not None, "images are counted, so they are known"
            assert self.mean_GC is not None, "images are counted about a mean"
            deviation_BG = squared_norm_BG(samples.acts_BGC - self.mean_GC)
            self.by_image.add(samples.image_B, error_BG.sum(1), deviation_BG.sum(1))


@torch.no_grad()
def encode_and_score(model: Crosscoder, batches: Iterable[Samples], sums: Sums) -> Iterator[Codes]:
    """Codes of each batch in turn, without gradient; a batch is counted in `sums` when its codes are asked for."""
    for samples in batches:
        z_BF, pose_BF, recon_BGC = model.reconstruct_with_poses(samples.acts_BGC)
        sums.add(samples, recon_BGC)
        yield Codes(z_BF, pose_BF)
