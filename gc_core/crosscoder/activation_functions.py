"""Which pre-activations become active features: one function for each activation, on numbers alone.

Where a dictionary is split over workers, F counts a worker's own features, and indices are into those.

Letters: B samples, F features, K active features, N candidates of all shards, S shards.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gc_core.parallel.collectives import ALONE, Peers, Shards


@dataclass(frozen=True, slots=True)
class SparseCode:
    """The active features of each sample, in no particular order."""

    value_BK: Tensor
    """Not negative; zero where a sample has fewer than K active features."""
    index_BK: Tensor
    """Which features, int64 in [0, F); K different ones."""
    pose_BK: Tensor | None = None
    """Where poses are tied: the group element, int64, by which each copy of a prototype is turned."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Features chosen for each sample, before their values are known with a gradient."""

    index_BK: Tensor
    """int64 in [0, F); K different ones."""
    active_BK: Tensor
    """bool; K is as large as the fullest sample needs, the others fill up with features that are not active."""
    smallest: Tensor
    """() the smallest active score over all workers; infinite where none is active or nobody asked."""


def choose_per_sample(score_BF: Tensor, k: int, shards: Shards = ALONE) -> Choice:
    """The k largest positive scores of each sample (Gao et al. 2024, arXiv 2406.04093), over all shards."""
    top = score_BF.topk(min(k, score_BF.shape[1]), dim=1, sorted=False)
    choice = best_of_shards(top.values, top.indices, k, shards)
    return Choice(choice.index_BK, choice.active_BK & (score_BF.gather(1, choice.index_BK) > 0), choice.smallest)


def best_of_shards(score_BK: Tensor, index_BK: Tensor, k: int, shards: Shards) -> Choice:
    """Choose of a shard's candidates, its own best, those among the k largest scores of all shards, whatever sign."""
    nobody_asked = score_BK.new_full((), torch.inf)
    if shards.count == 1:
        return Choice(index_BK, torch.ones_like(index_BK, dtype=torch.bool), nobody_asked)
    everyone_BN = shards.gather(score_BK).movedim(0, 1).flatten(1)
    winners_BK = everyone_BN.topk(k, dim=1, sorted=False).indices
    won_BN = torch.zeros_like(everyone_BN, dtype=torch.bool).scatter(1, winners_BK, True)
    active_BK = won_BN.unflatten(1, (shards.count, -1))[:, shards.index]
    place_BK = gathered_left(active_BK)
    return Choice(index_BK.gather(1, place_BK), active_BK.gather(1, place_BK), nobody_asked)


def gathered_left(marked_BK: Tensor, most: int | None = None) -> Tensor:
    """Columns, marked ones first and in their order, as many as the fullest row has marks; at least one.

    `most` is that number where it is known; to ask for it, the host waits for the device.
    """
    width = int(marked_BK.sum(1).max()) if most is None else most
    return marked_BK.byte().argsort(dim=1, descending=True, stable=True)[:, : max(1, width)]


def choose_per_batch(score_BF: Tensor, k: int, peers: Peers, shards: Shards = ALONE) -> Choice:
    """The k * B largest positive scores of a batch of all workers (Bussmann et al. 2024, arXiv 2412.06410).

    One number decides for all of them: the k * B-th largest score, found among each worker's own largest.
    """
    own = score_BF.flatten()
    wanted = k * len(score_BF) * peers.count
    largest = peers.gather(shards.gather(own.topk(min(wanted, own.numel()), sorted=False).values).flatten())
    kept = largest.topk(min(wanted, largest.numel()), sorted=False).values
    return choose_above(score_BF, torch.where(kept > 0, kept, torch.inf).min())  # nowhere, if nothing is positive


def choose_above(score_BF: Tensor, least: Tensor) -> Choice:
    """All scores of at least `least` (), which the choice names as its smallest."""
    fullest = max(1, int((score_BF >= least).sum(1).max()))
    top = score_BF.topk(fullest, dim=1, sorted=False)
    return Choice(top.indices, top.values >= least, least)


def jump_relu(pre_BF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
    """Values above their threshold pass, others become zero (Rajamanoharan et al. 2024, arXiv 2407.14435).

        z = pre H(pre - theta)
        dz / dpre = H(pre - theta)        dz / dtheta = -theta / bandwidth * [|pre - theta| < bandwidth / 2]

    In truth the derivative by theta is zero nearly everywhere; this one is a straight-through estimate, with a
    rectangle as kernel.
    """
    return _JumpReLU.apply(pre_BF, threshold_F, bandwidth)


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre_BF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_BF, threshold_F)
        ctx.bandwidth = bandwidth
        return torch.where(pre_BF > threshold_F, pre_BF, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (pre_BF, threshold_F), grad_BF = ctx.saved_tensors, grads[0]
        near_BF = (pre_BF - threshold_F).abs() < ctx.bandwidth / 2
        grad_threshold_F = -(threshold_F / ctx.bandwidth) * torch.where(near_BF, grad_BF, 0).sum(0)
        return torch.where(pre_BF > threshold_F, grad_BF, 0), grad_threshold_F, None


def step_above(pre_BF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
    """One where a value is above its threshold, zero elsewhere: H(pre - theta).

    Its derivative by theta is that of a ramp as wide as the window, dH / dtheta = -[|pre - theta| < bandwidth / 2] /
    bandwidth. So the gradient of a sum of f(pre) H is what that sum changes by, over the bandwidth, when the threshold
    moves across the window, whatever f is. There is none by pre.
    """
    return _StepAbove.apply(pre_BF, threshold_F, bandwidth)


class _StepAbove(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre_BF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_BF, threshold_F)
        ctx.bandwidth = bandwidth
        return (pre_BF > threshold_F).to(pre_BF)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        (pre_BF, threshold_F), grad_BF = ctx.saved_tensors, grads[0]
        near_BF = (pre_BF - threshold_F).abs() < ctx.bandwidth / 2
        return None, -torch.where(near_BF, grad_BF, 0).sum(0) / ctx.bandwidth, None
