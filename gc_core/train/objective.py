"""The loss that a config asks for, as a module that DistributedDataParallel can wrap; the optimiser; a new crosscoder.

Letters: B samples, G group elements, C channels, F features.
"""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gc_core import groups
from gc_core.config import ResolvedTrainConfig
from gc_core.crosscoder import Crosscoder, CrosscoderShape
from gc_core.initialise import FirstSamples, initialise
from gc_core.losses import (
    JumpReLUPenalty,
    Losses,
    Target,
    batchtopk_losses,
    jumprelu_losses,
    l1_losses,
    topk_losses,
)
from gc_core.optim import RowAdam
from gc_core.train.recipe import (
    learning_rate,
    penalty_coefficient,
    rate_scale,
    sample_blocks,
    touches_active_rows,
)
from gc_core.train.sharded_optimiser import ShardedAdam
from gc_core.train.workers import Worker, peers_of, shards_of


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
        return None if drawn is None else torch.from_numpy(drawn).to(self.worker.device)


def over_workers(objective: Objective) -> Objective | DistributedDataParallel:
    """The objective, with gradients that are means over all replicas."""
    if objective.worker.num_replicas == 1:
        return objective
    by_row = [name for name, parameter in objective.named_parameters() if is_by_row(objective.model, parameter)]
    # Its hooks know ordinary gradients only; `average_over_workers` sees to the others.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, by_row)
    return DistributedDataParallel(
        objective, process_group=objective.worker.replica_group, gradient_as_bucket_view=True
    )


def is_by_row(model: Crosscoder, parameter: Tensor) -> bool:
    """Whether the parameter's gradient stays in factors."""
    return model.gradients_by_row and any(parameter is one for one in (model.W_enc, model.b_enc, model.W_dec))


def new_optimiser(model: Crosscoder, config: ResolvedTrainConfig, worker: Worker) -> RowAdam:
    """The one place where a config's optimiser is made: a group of options for each parameter, in the model's
    order, where `lr_scale` is to multiply the config's learning rate."""
    num_reads = len(model.shape.reads)
    groups_of_one = [
        {"params": [parameter], "lr_scale": rate_scale(name, num_reads)} for name, parameter in model.named_parameters()
    ]
    options = {
        "lr": learning_rate(config, config.steps_before),
        "lazy": config.optimiser == "lazy",
        "state_dtype": torch.bfloat16 if config.optimiser_state == "bfloat16" else None,
    }
    if worker.sharded_optimiser and worker.num_replicas > 1:
        return ShardedAdam(model, worker, groups_of_one, **options)
    return RowAdam(groups_of_one, **options)


def new_model(config: ResolvedTrainConfig, first: FirstSamples, worker: Worker) -> Crosscoder:
    """A config's first weights, of the features that are here. Every worker makes them from the same samples
    and seed.

    Raises:
        ValueError: the features cannot be shared out to the shards.
    """
    model = Crosscoder.of(shape_of(config, first.acts_BGC.shape[2]), shards_of(worker))
    model.gradients_by_row = touches_active_rows(config, model.group.order)
    generator = torch.Generator().manual_seed(config.seed)
    initialise(model, first, generator, init=config.init, bias_init=config.bias_init)
    return model


def shape_of(config: ResolvedTrainConfig, channels: int) -> CrosscoderShape:
    """The shape of a config's crosscoder."""
    group = groups.parse(config.group)
    return CrosscoderShape(
        group=group.name,
        channels=channels,
        dict_size=config.dict_size,
        reads=config.elements_read(group.order),
        activation=config.activation,
        k=config.k,
        tying=config.tying,
        poses=config.poses,
        invariant=config.invariant_prototypes,
    )
