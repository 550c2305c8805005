"""What a config asks for, without its first weights: the crosscoder's shape, how it computes, and its optimiser."""

import torch

from gc_core.config import ResolvedTrainConfig
from gc_core.crosscoder import Arithmetic, Crosscoder, CrosscoderShape
from gc_core.parallel.worker import Worker
from gc_core.train.recipe import learning_rate, rate_scale, touches_active_rows
from gc_core.train.row_adam import RowAdam
from gc_core.train.sharded_optimiser import ShardedAdam


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
    if worker.mesh.sharded_optimiser and worker.mesh.replicas > 1:
        return ShardedAdam(model, worker, groups_of_one, **options)
    return RowAdam(groups_of_one, **options)


def shape_of(config: ResolvedTrainConfig, channels: int) -> CrosscoderShape:
    """The shape of a config's crosscoder."""
    group = config.parsed_group
    return CrosscoderShape(
        group=group,
        channels=channels,
        dict_size=config.dict_size,
        reads=config.elements_read(group.order),
        activation=config.activation,
        k=config.k,
        tying=config.tying,
        poses=config.poses,
        invariant=config.invariant_prototypes,
    )


def arithmetic_of(config: ResolvedTrainConfig, order: int) -> Arithmetic:
    """How a config's crosscoder over `order` elements computes."""
    return Arithmetic(
        product_dtype=torch.bfloat16 if config.dtype == "bfloat16" else None,
        gradients_by_row=touches_active_rows(config, order),
    )
