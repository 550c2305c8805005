"""The loss that a config asks for, as a module that DistributedDataParallel can wrap.

Letters: B samples, G group elements, C channels, F features.
"""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gc_core.config import ResolvedTrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.losses import (
    JumpReLUPenalty,
    Losses,
    Target,
    batchtopk_losses,
    jumprelu_losses,
    l1_losses,
    topk_losses,
)
from gc_core.parallel.collectives import peers_of
from gc_core.parallel.worker import Worker
from gc_core.train.recipe import (
    penalty_coefficient,
    sample_blocks,
)


class Objective(nn.Module):
    """A forward pass that ends in the losses."""

    def __init__(self, model: Crosscoder, config: ResolvedTrainConfig, worker: Worker) -> None:
        super().__init__()
        self.model, self.config, self.worker = model, config, worker
        sizes = config.prefix_sizes(config.num_rows)
        self._prefixes = sizes if len(sizes) > 1 else ()

    def forward(self, acts_BGC: Tensor, dead_F: Tensor, step: int) -> Losses:
        """Losses of a part of a batch at a step; the same step draws the same blocks on every worker."""
        config, target = self.config, Target(prefixes=self._prefixes, blocks=self._blocks(step))
        if config.activation == "topk":
            return topk_losses(self.model, acts_BGC, dead_F, config.aux_k, target)
        if config.activation == "batchtopk":
            peers = peers_of(self.worker)
            return batchtopk_losses(self.model, acts_BGC, dead_F, config.aux_k, target, peers)
        coefficient = penalty_coefficient(config, step)
        if config.activation == "l1":
            return l1_losses(self.model, acts_BGC, coefficient, config.norm_over, target)
        penalty = JumpReLUPenalty(
            coefficient=coefficient,
            tanh_scale=config.tanh_scale,
            pre_coefficient=config.pre_coefficient,
            bandwidth=config.bandwidth,
        )
        return jumprelu_losses(self.model, acts_BGC, penalty, config.norm_over, target)

    def _blocks(self, step: int) -> Tensor | None:
        drawn = sample_blocks(self.config, self.model.group.order, step)
        if drawn is None:
            return None
        blocks, device = torch.from_numpy(drawn), torch.device(self.worker.device)
        # From pinned memory, for which the host does not wait.
        return blocks.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else blocks.to(device)


def over_workers(objective: Objective) -> Objective | DistributedDataParallel:
    """The objective, with gradients that are means over all replicas."""
    if objective.worker.mesh.replicas == 1:
        return objective
    by_row = [name for name, parameter in objective.named_parameters() if is_by_row(objective.model, parameter)]
    # Its hooks know ordinary gradients only; `average_over_workers` sees to the others.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, by_row)
    return DistributedDataParallel(
        objective, process_group=objective.worker.replica_group, gradient_as_bucket_view=True
    )


def is_by_row(model: Crosscoder, parameter: Tensor) -> bool:
    """Whether the parameter's gradient stays in factors."""
    return model.arithmetic.gradients_by_row and any(
        parameter is one for one in (model.W_enc, model.b_enc, model.W_dec)
    )
