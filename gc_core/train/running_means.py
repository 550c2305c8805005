"""What follows the weights from step to step: their running mean, and batchtopk's threshold."""

import torch

from gc_core.crosscoder import Crosscoder
from gc_core.losses import Losses

THRESHOLD_RATE = 0.01
"""Rate of the running mean of smallest active scores: over the last hundred steps, or all of fewer. It follows
falling scores late; `gc_core.train.threshold` replaces it at the end."""


@torch.no_grad()
def follow_threshold(model: Crosscoder, losses: Losses, step: int) -> None:
    """Move batchtopk's threshold towards the smallest active score of a step; others have none."""
    if model.threshold is None:
        return
    known, new = model.threshold, losses.smallest_active  # decided on the device, which nothing waits for
    followed = known + max(THRESHOLD_RATE, 1 / (step + 1)) * (new - known)
    known.copy_(torch.where(new.isfinite(), torch.where(known.isnan(), new, followed), known))


@torch.no_grad()
def follow_weights(average: Crosscoder, model: Crosscoder, step: int, decay: float) -> None:
    """Move averaged weights towards the newest; the mean of few follows fast, so that the first do not linger."""
    decay = min(decay, (step + 1) / (step + 10))
    for mean, last in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(last, 1 - decay)
    for mean, last in zip(average.buffers(), model.buffers(), strict=True):
        mean.copy_(last)


def copy_of_weights(model: Crosscoder) -> Crosscoder:
    """Plain products, no gradients."""
    copied = Crosscoder.of(model.shape, model.shards).to(model.W_dec.device)
    copied.load_state_dict(model.state_dict())
    return copied.requires_grad_(False)
