"""What a run does where its config leaves the choice to the data, and what changes from step to step."""

import math
import re
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gc_core.config import TrainConfig
from gc_core.io import objects
from gc_core.io.run_folder import NAME
from gc_core.train.data import TrainingData

PASSES = 20
"""Times that a run of default length meets each sample."""
AUGMENTED_PASSES = 40
"""The same where samples are turned at random: meeting one again tells something new."""
RATES = {"none": 4e-4, "orbit": 8e-4}
"""Learning rate of 16,384 features. A prototype meets every pose of its features, and may move further."""
L1_SHARE = 0.04
BANDWIDTH_SHARE = 0.03
"""Of the root mean squared norm of a sample: what is multiplied by a feature's size, and thresholds."""
JUMPRELU_SHARE = 0.003
"""Of the mean squared norm of a sample: what a feature costs, whatever its size."""
TANH_SCALE = 4.0
"""Over the root mean squared norm of a sample: an active feature is about a quarter of it."""

T = TypeVar("T")


def resolve(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """The config with every None decided by the data. Values that were given are kept; resolving twice is harmless.

    Raises:
        ValueError: elements, blocks or nested sizes lie outside the group or the dictionary.
    """
    config = _with_sizes(config, len(data.train_rows), data.num_elements)
    passes = AUGMENTED_PASSES if config.augment or config.tying == "orbit" else PASSES
    steps = _default(config.steps, min(20_000, max(150, round(passes * len(data.train_rows) / config.batch))))
    norm = math.sqrt(data.num_elements * data.channels)
    l1_norm = norm if config.norm_over == "joint" else math.sqrt(data.channels)
    resolved = replace(
        config,
        steps=steps,
        init_from=None if config.init_from is None else _place_of(config.init_from),
        augment=config.augment and config.tying == "none",
        group=_default(config.group, data.store.group.name),
        learning_rate=_default(
            config.learning_rate, RATES[config.tying or "none"] / math.sqrt(decided(config.dict_size) / 2**14)
        ),
        l1_coefficient=_default(config.l1_coefficient, L1_SHARE * l1_norm),
        jumprelu_coefficient=_default(config.jumprelu_coefficient, JUMPRELU_SHARE * norm**2),
        tanh_scale=_default(config.tanh_scale, TANH_SCALE * l1_norm / norm**2),
        bandwidth=_default(config.bandwidth, BANDWIDTH_SHARE * norm),
        blocks_per_step=_default(config.blocks_per_step, data.num_elements),
        aux_k=_default(config.aux_k, min(512, max(1, config.num_rows // 2))),
        dead_after_samples=_default(
            config.dead_after_samples, min(10_000_000, max(config.batch, steps * config.batch // 10))
        ),
    )
    _check(resolved, data.num_elements)
    return resolved


def decided(value: T | None) -> T:
    """A field of a resolved config."""
    assert value is not None, "this needs a config that went through resolve()"
    return value


def learning_rate(config: TrainConfig, step: int) -> float:
    """Of a resolved config at a step: linear warm-up, then flat, then to zero over the last share; of the steps that
    were added alone, where some were."""
    steps, step = decided(config.steps) - config.steps_before, step - config.steps_before
    warm_up = min(1.0, (step + 1) / max(1.0, config.lr_warmup_share * steps))
    left = 1.0
    if config.lr_decay != "none" and config.lr_decay_share > 0:
        left = min(1.0, (steps - step) / (config.lr_decay_share * steps))
    if config.lr_decay == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return decided(config.learning_rate) * warm_up * left


def rate_scale(parameter: str, num_reads: int) -> float:
    """What the learning rate is multiplied by for one of a crosscoder's parameters, whose encoder reads that many
    blocks.

    An Adam step moves each weight by about the rate whatever its gradient, so a pre-activation by the rate times the
    sum of |A| over all that is read: with E blocks E times as far as with one. What they say adds up in part by chance,
    as the square root of their number.
    """
    return 1 / math.sqrt(num_reads) if parameter == "W_enc" else 1.0


def penalty_coefficient(config: TrainConfig, step: int) -> float:
    """The l1 or tanh penalty's weight at a step: grows linearly from zero, for jumprelu over the whole run."""
    jumps = config.activation == "jumprelu"
    coefficient = decided(config.jumprelu_coefficient if jumps else config.l1_coefficient)
    if config.steps_before:  # it has grown
        return coefficient
    share = 1.0 if jumps else config.l1_warmup_share
    return coefficient * min(1.0, (step + 1) / max(1.0, share * decided(config.steps)))


def drawn_blocks(config: TrainConfig, order: int, step: int) -> NDArray[np.int64] | None:
    """The group elements, ascending, that a step of a resolved config is judged on; None for all. Each set of that many
    is equally likely, and every worker draws the same."""
    count = decided(config.blocks_per_step)
    if count == order:
        return None
    return np.sort(np.random.default_rng([config.seed, 2, step]).choice(order, count, replace=False))


def touches_active_rows(config: TrainConfig, order: int) -> bool:
    """Whether gradients of a resolved config's steps touch the features that were active, and no others.

    A part of the blocks is cut out of all rows, and its gradient has the shape of them all.
    """
    return config.activation in ("topk", "batchtopk") and decided(config.blocks_per_step) == order


def _with_sizes(config: TrainConfig, num_samples: int, order: int) -> TrainConfig:
    """Kind and sizes decided: prototypes where poses are tied, features in any case."""
    untied = config.dict_size is not None or config.blocks_per_step is not None or config.encoder_reads != "identity"
    tied = config.prototypes is not None or config.invariant_prototypes > 0
    tying = config.tying or ("none" if order == 1 or (untied and not tied) else "orbit")
    if tying == "none":
        features = _default(config.dict_size, _usual_dict_size(num_samples, config.k))
        return replace(config, tying=tying, dict_size=features)
    invariant = config.invariant_prototypes
    also = f" and {invariant:,} invariant prototypes" if invariant else ""
    if config.dict_size is not None and ((config.dict_size - invariant) % order or config.dict_size < invariant):
        expected = f"a multiple of the group's {order} elements{also}"
        raise ValueError(f"dict_size: found {config.dict_size:,}, expected {expected}")
    given = None if config.dict_size is None else invariant + (config.dict_size - invariant) // order
    prototypes = _default(config.prototypes, _default(given, _usual_prototypes(num_samples, config.k)))
    if given not in (None, prototypes):
        raise ValueError(
            f"prototypes: found {prototypes:,}, expected dict_size / {order}{also} = {given:,}; give one of them"
        )
    features = invariant + (prototypes - invariant) * order
    return replace(config, tying=tying, prototypes=prototypes, dict_size=features)


def _place_of(init_from: str) -> str:
    """A crosscoder's name in the run as it is, a path as a URL that means the same everywhere."""
    return init_from if re.fullmatch(NAME, init_from) else objects.normalise(init_from)


def _check(config: TrainConfig, num_elements: int) -> None:
    config.elements_read(num_elements)
    config.prefix_sizes(config.num_rows)
    if config.tying == "orbit" and decided(config.blocks_per_step) < num_elements:
        raise ValueError(f"blocks_per_step: found {config.blocks_per_step}, but tied poses are judged on all blocks")
    if (count := decided(config.blocks_per_step)) > num_elements:
        raise ValueError(f"blocks_per_step: found {count}, expected at most the group's {num_elements} elements")
    if config.optimiser == "lazy" and not touches_active_rows(config, num_elements):
        found = f"found lazy with activation {config.activation} and {count} blocks_per_step of {num_elements}"
        raise ValueError(f"optimiser: {found}, expected topk or batchtopk on all blocks; take adam")


def _usual_dict_size(num_samples: int, k: int) -> int:
    """The power of two next below a quarter of the samples, from 256 to 4,096, and never below k."""
    return max(k, min(4096, max(256, 2 ** ((num_samples // 4) or 1).bit_length() // 2)))


def _usual_prototypes(num_samples: int, k: int) -> int:
    """The power of two next below a sixteenth of the samples, from 64 to 1,024, and never below k."""
    return max(k, min(1024, max(64, 2 ** ((num_samples // 16) or 1).bit_length() // 2)))


def _default(given: T | None, otherwise: T) -> T:
    return otherwise if given is None else given
