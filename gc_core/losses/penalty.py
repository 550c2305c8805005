"""Losses of activations whose features pay for being active: l1 and jumprelu.

Letters: B samples, G group elements, C channels, F features.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.activation_functions import jump_relu, step_above
from gc_core.losses.reconstruction import Target, judge
from gc_core.losses.terms import Losses

WHOLE = Target()


@dataclass(frozen=True, slots=True, kw_only=True)
class JumpReLUPenalty:
    """What active features cost, and how thresholds learn of it."""

    coefficient: float
    """lambda, of the tanh penalty: the squared error that a feature must save to be worth its activity."""
    tanh_scale: float
    """c, one over the size (activation times norm) at which the penalty saturates."""
    pre_coefficient: float
    """Coefficient of the penalty on pre-activations below their threshold."""
    bandwidth: float
    """Width of the window around a threshold in which samples move it, in units of pre-activations."""


def l1_losses(
    model: Crosscoder, acts_BGC: Tensor, coefficient: float, norm_over: str, target: Target = WHOLE
) -> Losses:
    """Reconstruction plus the codes' sizes, each weighted by its decoder norm so that scaling cannot hide it.

        total = mean_b sum_gc (A - Ahat)^2  +  coefficient * mean_b sum_i z_i norm_i

    `norm_over` is `blocks` (sum of block norms, Lindsey et al. 2024) or `joint` (one norm over all blocks).
    """
    pre_BF, pose_BF = model.best_pre_activations(acts_BGC)
    z_BF = pre_BF.relu()
    penalty = coefficient * (z_BF @ penalty_norm(model.W_dec, norm_over)).mean()
    return _losses(model, z_BF, pose_BF, acts_BGC, model.shards.total(penalty), target)


def jumprelu_losses(
    model: Crosscoder, acts_BGC: Tensor, penalty: JumpReLUPenalty, norm_over: str, target: Target = WHOLE
) -> Losses:
    """Reconstruction plus nearly a constant for each active feature (Anthropic, January 2025 update).

        total = mean_b sum_gc (A - Ahat)^2  +  lambda mean_b sum_i H(pre_i - theta_i) tanh(c pre_i norm_i)
                + pre_coefficient mean_b sum_i relu(theta_i - pre_i) norm_i
        z_i = pre_i H(pre_i - theta_i),    theta = exp(log_threshold)

    The step's derivative is estimated as in `gc_core.crosscoder.activation_functions.jump_relu`, in the penalty as in
    `step_above`: as a tanh of z it would be multiplied by the slope at zero, c norm, where the penalty hardly has
    one at the threshold.
    All else is differentiated as written, norms and thresholds too. The last term's gradient reaches features that
    never fire.
    """
    assert model.log_threshold is not None, "jumprelu has thresholds"
    (pre_BF, pose_BF), threshold_F = model.best_pre_activations(acts_BGC), model.log_threshold.exp()
    z_BF = jump_relu(pre_BF, threshold_F, penalty.bandwidth)
    norm_F = penalty_norm(model.W_dec, norm_over)
    cost_BF = torch.tanh(penalty.tanh_scale * pre_BF * norm_F) * step_above(pre_BF, threshold_F, penalty.bandwidth)
    active = penalty.coefficient * cost_BF.sum(1).mean()
    below = penalty.pre_coefficient * ((threshold_F - pre_BF).relu() @ norm_F).mean()
    return _losses(model, z_BF, pose_BF, acts_BGC, model.shards.total(active + below), target)


def penalty_norm(W_dec_FGC: Tensor, norm_over: str) -> Tensor:
    """(F,) what a unit of each feature's activation costs."""
    if norm_over == "blocks":
        return _NormOfRows.apply(W_dec_FGC.flatten(0, 1)).view(W_dec_FGC.shape[:2]).sum(1)
    return _NormOfRows.apply(W_dec_FGC.flatten(1))


class _NormOfRows(torch.autograd.Function):
    """(N,) of (N, D); PyTorch's own norm goes over a dictionary five times to find its gradient, this one once."""

    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor) -> Tensor:
        norm_N = torch.linalg.vector_norm(rows_ND, dim=1)
        ctx.save_for_backward(rows_ND, norm_N)
        return norm_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        rows_ND, norm_N = ctx.saved_tensors
        return rows_ND * torch.where(norm_N > 0, grads[0] / norm_N, 0)[:, None]


def _losses(
    model: Crosscoder, z_BF: Tensor, pose_BF: Tensor | None, acts_BGC: Tensor, penalty: Tensor, target: Target
) -> Losses:
    reconstruction = judge(model, model.as_code(z_BF, pose_BF), acts_BGC, target)
    return Losses(
        total=reconstruction.error + penalty,
        reconstruction=reconstruction.error.detach(),
        sparsity=penalty.detach(),
        auxiliary=torch.zeros_like(reconstruction.error),
        squared_error_BG=reconstruction.squared_error_BG,
        fired_F=(z_BF > 0).sum(0),
        smallest_active=reconstruction.error.new_full((), torch.inf),
    )
