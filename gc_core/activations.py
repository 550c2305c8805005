"""Which pre-activations become active features: one function for each activation, on numbers alone.

Letters: B samples, F features, K active features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Peers:
    """All workers that share a batch, each with equally many samples; made with no arguments, one worker alone."""

    count: int = 1
    gather: Callable[[Tensor], Tensor] = lambda values: values
    """Takes a worker's values (n,), gives all workers' together; n is the same on every worker."""


@dataclass(frozen=True, slots=True)
class SparseCode:
    """The active features of each sample, in no particular order."""

    value_BK: Tensor
    """Not negative; zero where a sample has fewer than K active features."""
    index_BK: Tensor
    """Which features, int64 in [0, F); K different ones."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Features chosen for each sample, before their values are known with a gradient."""

    index_BK: Tensor
    """int64 in [0, F); K different ones."""
    active_BK: Tensor
    """bool; K is as large as the fullest sample needs, the others fill up with features that are not active."""
    smallest: Tensor
    """() the smallest active score over all workers; infinite where none is active or nobody asked."""


def choose_per_sample(score_BF: Tensor, k: int) -> Choice:
    """The k largest positive scores of each sample (Gao et al. 2024, arXiv 2406.04093)."""
    top = score_BF.topk(k, dim=1, sorted=False)
    return Choice(top.indices, top.values > 0, score_BF.new_tensor(torch.inf))


def choose_per_batch(score_BF: Tensor, k: int, peers: Peers) -> Choice:
    """The k * B largest positive scores of a batch of all workers (Bussmann et al. 2024, arXiv 2412.06410).

    One number decides for all of them: the k * B-th largest score, found among each worker's own largest.
    """
    own = score_BF.flatten()
    wanted = k * len(score_BF) * peers.count
    largest = peers.gather(own.topk(min(wanted, own.numel()), sorted=False).values)
    kept = largest.topk(min(wanted, largest.numel()), sorted=False).values
    smallest = torch.where(kept > 0, kept, torch.inf).min()
    active_BF = score_BF >= smallest  # nowhere, if nothing is positive
    fullest = max(1, int(active_BF.sum(1).max()))
    top = score_BF.topk(fullest, dim=1, sorted=False)
    return Choice(top.indices, top.values >= smallest, smallest)


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
