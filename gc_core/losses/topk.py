"""Losses of activations that choose how many features are active: topk and batchtopk.

Letters: B samples, G group elements, S group elements judged, C channels, F features, D dead features.
"""

import torch
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.activation_functions import SparseCode
from gc_core.losses.reconstruction import Target, judge
from gc_core.losses.terms import Losses
from gc_core.metrics import squared_norm_BG
from gc_core.parallel.collectives import Peers

AUX_COEFFICIENT = 1 / 32
"""Gao et al. 2024, section A.2."""

WHOLE = Target()


def topk_losses(model: Crosscoder, acts_BGC: Tensor, dead_F: Tensor, aux_k: int, target: Target = WHOLE) -> Losses:
    """Reconstruction from the k largest features; dead features learn to explain what it leaves over (Gao et al. 2024).

        total = mean_b sum_gc (A - Ahat)^2  +  1/32 mean_b sum_gc (A - Ahat - sum_d pre_d W_dec[d])^2

    `dead_F` (F,) bool says which features are dead; of those, the `aux_k` with the largest pre-activations attempt the
    residual, which itself gets no gradient from that; zero turns the attempt off.
    """
    return _losses(model, acts_BGC, dead_F, aux_k, target, None)


def batchtopk_losses(
    model: Crosscoder,
    acts_BGC: Tensor,
    dead_F: Tensor,
    aux_k: int,
    target: Target = WHOLE,
    peers: Peers | None = None,
) -> Losses:
    """Losses like `topk_losses`, from the k * B largest features of the batch over all workers (Bussmann et al. 2024).

    Features are ranked by pre-activation times decoder norm, in one list for all samples; those that are not positive
    stay zero. The smallest active one is reported: its running mean is the threshold outside training.
    """
    return _losses(model, acts_BGC, dead_F, aux_k, target, peers)


def _losses(
    model: Crosscoder, acts_BGC: Tensor, dead_F: Tensor, aux_k: int, target: Target, peers: Peers | None
) -> Losses:
    code, choice = model.sparse_code(acts_BGC, peers)
    reconstruction = judge(model, code, acts_BGC, target)
    auxiliary = _auxiliary_error(model, acts_BGC, reconstruction.residual_BSC, dead_F, aux_k, target.blocks)
    return Losses(
        total=reconstruction.error + AUX_COEFFICIENT * auxiliary,
        reconstruction=reconstruction.error.detach(),
        sparsity=torch.zeros_like(reconstruction.error),
        auxiliary=auxiliary.detach(),
        squared_error_BG=reconstruction.squared_error_BG,
        fired_F=_fired(code, len(model.features)),
        smallest_active=choice.smallest,
    )


def _fired(code: SparseCode, num_features: int) -> Tensor:
    """(F,) int64, how many samples each feature fired on. `bincount` and masks would wait for the device to say how
    long their result is."""
    fired_BK = (code.value_BK > 0).long()
    return fired_BK.new_zeros(num_features).scatter_add(0, code.index_BK.flatten(), fired_BK.flatten())


def _auxiliary_error(
    model: Crosscoder, acts_BGC: Tensor, residual_BSC: Tensor, dead_F: Tensor, aux_k: int, blocks: Tensor | None
) -> Tensor:
    """Pre-activations, not rectified: a dead feature that is negative everywhere must still get a gradient.

    Dense over the dead rows alone: up to `aux_k` of them take part in every sample, so a sparse sum would be slower.
    """
    if not aux_k:
        return acts_BGC.new_zeros(())
    index_D = dead_F.nonzero()[:, 0]
    num_dead = len(index_D) if model.shards.count == 1 else int(model.shards.total(dead_F.sum()))
    if not num_dead:
        return acts_BGC.new_zeros(())
    pre_BD, pose_BD = model.best_pre_activations(acts_BGC, index_D)
    if num_dead > aux_k:
        pre_BD = pre_BD * (pre_BD >= _weakest_kept(pre_BD.detach(), aux_k, model))
    attempt_BSC = model.decode_rows(pre_BD, pose_BD, index_D, blocks)
    weight = acts_BGC.shape[1] / residual_BSC.shape[1]
    return weight * squared_norm_BG(attempt_BSC - residual_BSC).sum(1).mean()


def _weakest_kept(pre_BD: Tensor, aux_k: int, model: Crosscoder) -> Tensor:
    """The aux_k-th largest number of each sample, (B, 1), over all shards; there are more than that."""
    if model.shards.count == 1:
        return pre_BD.topk(aux_k, dim=1).values[:, -1:]
    most = min(aux_k, len(model.features))
    own_BK = pre_BD.new_full((len(pre_BD), most), -torch.inf)  # as wide on every shard, however few are dead there
    largest_BK = pre_BD.topk(min(most, pre_BD.shape[1]), dim=1).values
    own_BK[:, : largest_BK.shape[1]] = largest_BK
    everyone_BN = model.shards.gather(own_BK).movedim(0, 1).flatten(1)
    return everyone_BN.topk(aux_k, dim=1).values[:, -1:]
