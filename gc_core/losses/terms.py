"""What a step's losses come to.

Letters: B samples, G group elements, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Means over the batch; only `total` is meant for gradients."""

    total: Tensor
    reconstruction: Tensor
    """Squared error summed over blocks and channels; with nested dictionaries, their mean."""
    sparsity: Tensor
    """Penalties with their coefficients (zero for topk and batchtopk)."""
    auxiliary: Tensor
    """Error of the dead features' attempt at the residual, without its coefficient (zero while none is dead)."""
    squared_error_BG: Tensor
    """Squared error of each block under the whole dictionary, summed over channels. Where a step draws some blocks:
    zero for the others, and so much larger for these that the mean over draws is right."""
    fired_F: Tensor
    """How many samples each feature fired on, int64."""
    smallest_active: Tensor
    """() the smallest active score of the batch over all workers (batchtopk); infinite where there is none."""


def combined(parts: Sequence[Losses]) -> Losses:
    """The losses of a batch that was computed in equal parts."""
    if len(parts) == 1:
        return parts[0]
    smallest = torch.stack([part.smallest_active for part in parts])
    finite = smallest.isfinite()
    return Losses(
        total=_mean([part.total for part in parts]),
        reconstruction=_mean([part.reconstruction for part in parts]),
        sparsity=_mean([part.sparsity for part in parts]),
        auxiliary=_mean([part.auxiliary for part in parts]),
        squared_error_BG=torch.cat([part.squared_error_BG for part in parts]),
        fired_F=torch.stack([part.fired_F for part in parts]).sum(0),
        smallest_active=torch.where(finite.any(), torch.where(finite, smallest, 0).sum() / finite.sum(), smallest[0]),
    )


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
