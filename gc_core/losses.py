"""What training minimises, term by term.

Letters: B samples, G group elements, C channels, F features, D dead features.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gc_core.config import TrainConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.metrics import squared_norm_BG

AUX_COEFFICIENT = 1 / 32
"""Gao et al. 2024, section A.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Means over the batch; only `total` is meant for gradients."""

    total: Tensor
    reconstruction: Tensor
    """Squared error summed over blocks and channels."""
    sparsity: Tensor
    """The penalty with its coefficient (zero for topk)."""
    auxiliary: Tensor
    """Error of the dead features' attempt at the residual, without its coefficient (zero while none is dead)."""
    squared_error_BG: Tensor
    """Squared error of each block, summed over channels."""
    fired_F: Tensor
    """How many samples each feature fired on, int64."""


def topk_losses(model: GroupCrosscoder, acts_BGC: Tensor, dead_F: Tensor, aux_k: int) -> Losses:
    """Reconstruction from the k largest features; dead features learn to explain what it leaves over (Gao et al. 2024).

        total = mean_b sum_gc (A - Ahat)^2  +  1/32 mean_b sum_gc (A - Ahat - sum_d pre_d W_dec[d])^2

    `dead_F` (F,) bool says which features are dead; of those, the `aux_k` with the largest pre-activations attempt the
    residual, which itself gets no gradient from that; zero turns the attempt off.
    """
    pre_BF = model.pre_activations(acts_BGC)
    code = model.sparse_code(pre_BF, model.decoder_norm())
    error_BGC = model.decode_sparse(code) - acts_BGC
    squared_error_BG = squared_norm_BG(error_BGC)
    error = _per_sample(squared_error_BG)
    auxiliary = _auxiliary_error(model, -error_BGC.detach(), pre_BF, dead_F, aux_k)
    return Losses(
        total=error + AUX_COEFFICIENT * auxiliary,
        reconstruction=error.detach(),
        sparsity=torch.zeros_like(error),
        auxiliary=auxiliary.detach(),
        squared_error_BG=squared_error_BG.detach(),
        fired_F=torch.bincount(code.index_BK[code.value_BK > 0], minlength=model.shape.dict_size),
    )


def l1_losses(model: GroupCrosscoder, acts_BGC: Tensor, coefficient: float, norm_over: str) -> Losses:
    """Reconstruction plus the codes' sizes, each weighted by its decoder norm so that scaling cannot hide it.

        total = mean_b sum_gc (A - Ahat)^2  +  coefficient * mean_b sum_i z_i norm_i

    `norm_over` is `blocks` (sum of block norms, Lindsey et al. 2024) or `joint` (one norm over all blocks).
    """
    z_BF = model.encode(acts_BGC)
    squared_error_BG = squared_norm_BG(model.decode(z_BF) - acts_BGC)
    error = _per_sample(squared_error_BG)
    sparsity = coefficient * (z_BF @ penalty_norm(model.W_dec, norm_over)).mean()
    return Losses(
        total=error + sparsity,
        reconstruction=error.detach(),
        sparsity=sparsity.detach(),
        auxiliary=torch.zeros_like(error),
        squared_error_BG=squared_error_BG.detach(),
        fired_F=(z_BF > 0).sum(0),
    )


def penalty_norm(W_dec_FGC: Tensor, norm_over: str) -> Tensor:
    """(F,) what a unit of each feature's activation costs."""
    return W_dec_FGC.norm(dim=2).sum(1) if norm_over == "blocks" else W_dec_FGC.flatten(1).norm(dim=1)


def l1_coefficient(config: TrainConfig, step: int, num_steps: int) -> float:
    """The penalty's weight at a step: grows linearly over the first share of the run."""
    return config.l1_coefficient * min(1.0, (step + 1) / max(1.0, config.l1_warmup_share * num_steps))


def _per_sample(squared_error_BG: Tensor) -> Tensor:
    return squared_error_BG.sum(1).mean()


def _auxiliary_error(
    model: GroupCrosscoder, residual_BGC: Tensor, pre_BF: Tensor, dead_F: Tensor, aux_k: int
) -> Tensor:
    """Pre-activations, not rectified: a dead feature that is negative everywhere must still get a gradient.

    Dense over the dead rows alone: up to `aux_k` of them take part in every sample, so a sparse sum would be slower.
    """
    index_D = dead_F.nonzero()[:, 0]
    if not len(index_D) or not aux_k:
        return pre_BF.new_zeros(())
    pre_BD = pre_BF.index_select(1, index_D)
    if len(index_D) > aux_k:
        weakest_kept = pre_BD.detach().topk(aux_k, dim=1).values[:, -1:]
        pre_BD = pre_BD * (pre_BD >= weakest_kept)
    # An embedding's gradient is gathered by all threads; plain indexing adds rows one after another on a CPU.
    attempt = pre_BD @ F.embedding(index_D, model.W_dec.flatten(1))
    return _per_sample(squared_norm_BG(attempt.view_as(residual_BGC) - residual_BGC))
