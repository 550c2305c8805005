"""What a run does where its config leaves the choice to the data, and what changes from step to step."""

import math
import re
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from gc_core.config import ResolvedTrainConfig, TrainConfig, defaults
from gc_core.io.location import Location
from gc_core.io.run_folder import NAME
from gc_core.train.data import DataShape, TrainingData

T = TypeVar("T")


def resolve(config: TrainConfig, data: TrainingData) -> ResolvedTrainConfig:
    """The config with what it leaves open decided by the data. Values that were given are kept; resolving twice is
    harmless.

    Raises:
        ValueError: elements, blocks or nested sizes lie outside the group or the dictionary.
    """
    return resolve_for(config, data.shape)


def resolve_for(config: TrainConfig, data: DataShape) -> ResolvedTrainConfig:
    """`resolve` for data of this shape."""
    sizes = _sizes(config, data)
    turned = config.augment or sizes.tying == "orbit"
    steps = _default(config.steps, defaults.steps(data.num_samples, batch=config.batch, turned=turned))
    norm = math.sqrt(data.num_elements * data.channels)
    l1_norm = norm if config.norm_over == "joint" else math.sqrt(data.channels)
    rate = defaults.learning_rate(sizes.dict_size, tied=sizes.tying == "orbit")
    dead_after = defaults.dead_after_samples(steps, batch=config.batch)
    decided = {
        "tying": sizes.tying,
        "prototypes": sizes.prototypes,
        "dict_size": sizes.dict_size,
        "steps": steps,
        "init_from": None if config.init_from is None else _place_of(config.init_from),
        "augment": config.augment and sizes.tying == "none",
        "group": _default(config.group, data.stored_group.text),
        "learning_rate": _default(config.learning_rate, rate),
        "l1_coefficient": _default(config.l1_coefficient, defaults.L1_SHARE * l1_norm),
        "jumprelu_coefficient": _default(config.jumprelu_coefficient, defaults.JUMPRELU_SHARE * norm**2),
        "tanh_scale": _default(config.tanh_scale, defaults.TANH_SCALE * l1_norm / norm**2),
        "bandwidth": _default(config.bandwidth, defaults.BANDWIDTH_SHARE * norm),
        "blocks_per_step": _default(config.blocks_per_step, data.num_elements),
        "aux_k": _default(config.aux_k, defaults.aux_k(_default(sizes.prototypes, sizes.dict_size))),
        "dead_after_samples": _default(config.dead_after_samples, dead_after),
    }
    resolved = ResolvedTrainConfig(**{**vars(config), **decided})
    _check(resolved, data.num_elements)
    return resolved


def learning_rate(config: ResolvedTrainConfig, step: int) -> float:
    """The rate at a step: linear warm-up, then flat, then to zero over the last share; of the steps that
    were added alone, where some were."""
    steps, step = config.steps - config.steps_before, step - config.steps_before
    warm_up = min(1.0, (step + 1) / max(1.0, config.lr_warmup_share * steps))
    left = 1.0
    if config.lr_decay != "none" and config.lr_decay_share > 0:
        left = min(1.0, (steps - step) / (config.lr_decay_share * steps))
    if config.lr_decay == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return config.learning_rate * warm_up * left


def rate_scale(parameter: str, num_reads: int) -> float:
    """What the learning rate is multiplied by for one of a crosscoder's parameters, whose encoder reads that many
    blocks.

    An Adam step moves each weight by about the rate whatever its gradient, so a pre-activation by the rate times the
    sum of |A| over all that is read: with E blocks E times as far as with one. What they say adds up in part by chance,
    as the square root of their number.
    """
    return 1 / math.sqrt(num_reads) if parameter == "W_enc" else 1.0


def penalty_coefficient(config: ResolvedTrainConfig, step: int) -> float:
    """The l1 or tanh penalty's weight at a step: grows linearly from zero, for jumprelu over the whole run."""
    jumps = config.activation == "jumprelu"
    coefficient = config.jumprelu_coefficient if jumps else config.l1_coefficient
    if config.steps_before:  # it has grown
        return coefficient
    share = 1.0 if jumps else config.l1_warmup_share
    return coefficient * min(1.0, (step + 1) / max(1.0, share * config.steps))


def sample_blocks(config: ResolvedTrainConfig, order: int, step: int) -> NDArray[np.int64] | None:
    """The group elements, ascending, that a step is judged on; None for all. Each set of that many
    is equally likely, and every worker draws the same."""
    count = config.blocks_per_step
    if count == order:
        return None
    return np.sort(np.random.default_rng([config.seed, 2, step]).choice(order, count, replace=False))


def touches_active_rows(config: ResolvedTrainConfig, order: int) -> bool:
    """Whether gradients of a config's steps touch the features that were active, and no others.

    A part of the blocks is cut out of all rows, and its gradient has the shape of them all.
    """
    return config.activation in ("topk", "batchtopk") and config.blocks_per_step == order


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """What a dictionary is made of."""

    tying: Literal["orbit", "none"]
    prototypes: int | None
    """None where poses are not tied."""
    dict_size: int


def _sizes(config: TrainConfig, data: DataShape) -> _Sizes:
    """Kind and sizes: prototypes where poses are tied, features in any case."""
    untied = config.dict_size is not None or config.blocks_per_step is not None or config.encoder_reads != "identity"
    tied = config.prototypes is not None or config.invariant_prototypes > 0
    tying = config.tying or ("none" if data.num_elements == 1 or (untied and not tied) else "orbit")
    if tying == "orbit":
        return _tied_sizes(config, data)
    features = _default(config.dict_size, defaults.DICT_SIZE.of(data.num_samples, k=config.k))
    return _Sizes(tying=tying, prototypes=config.prototypes, dict_size=features)


def _tied_sizes(config: TrainConfig, data: DataShape) -> _Sizes:
    """Sizes in prototypes and features, which follow from each other; invariant ones are one feature each."""
    order, invariant = data.num_elements, config.invariant_prototypes
    also = f" and {invariant:,} invariant prototypes" if invariant else ""
    if config.dict_size is not None and ((config.dict_size - invariant) % order or config.dict_size < invariant):
        expected = f"a multiple of the group's {order} elements{also}"
        raise ValueError(f"dict_size: found {config.dict_size:,}, expected {expected}")
    given = None if config.dict_size is None else invariant + (config.dict_size - invariant) // order
    usual = defaults.PROTOTYPES.of(data.num_samples, k=config.k)
    prototypes = _default(config.prototypes, _default(given, usual))
    if given not in (None, prototypes):
        raise ValueError(
            f"prototypes: found {prototypes:,}, expected dict_size / {order}{also} = {given:,}; give one of them"
        )
    return _Sizes(tying="orbit", prototypes=prototypes, dict_size=invariant + (prototypes - invariant) * order)


def _place_of(init_from: str) -> str:
    """A crosscoder's name in the run as it is, a path as a URL that means the same everywhere."""
    return init_from if re.fullmatch(NAME, init_from) else str(Location.parse(init_from))


def _check(config: ResolvedTrainConfig, num_elements: int) -> None:
    config.elements_read(num_elements)
    config.prefix_sizes(config.num_rows)
    if config.tying == "orbit" and config.blocks_per_step < num_elements:
        raise ValueError(f"blocks_per_step: found {config.blocks_per_step}, but tied poses are judged on all blocks")
    if (count := config.blocks_per_step) > num_elements:
        raise ValueError(f"blocks_per_step: found {count}, expected at most the group's {num_elements} elements")
    if config.optimiser == "lazy" and not touches_active_rows(config, num_elements):
        found = f"found lazy with activation {config.activation} and {count} blocks_per_step of {num_elements}"
        raise ValueError(f"optimiser: {found}, expected topk or batchtopk on all blocks; take adam")


def _default(given: T | None, otherwise: T) -> T:
    return otherwise if given is None else given
