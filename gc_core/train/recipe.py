"""What a run does where its config leaves the choice to the data, and the learning rate's course."""

import math
from dataclasses import replace
from typing import TypeVar

from gc_core.config import TrainConfig
from gc_core.train.data import TrainingData

PASSES = 20
"""Times that a run of default length meets each sample."""
COOL_DOWN_SHARE = 0.2
"""Share of the steps, at the end, over which the learning rate falls to zero."""

T = TypeVar("T")


def resolve(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """The config with every None decided by the data. Values that were given are kept; resolving twice is harmless."""
    steps = _default(config.steps, min(20_000, max(150, round(PASSES * len(data.train_rows) / config.batch))))
    dict_size = _default(config.dict_size, _usual_dict_size(len(data.train_rows), config.k))
    return replace(
        config,
        steps=steps,
        dict_size=dict_size,
        group=_default(config.group, data.store.group.name),
        learning_rate=_default(config.learning_rate, 4e-4 / math.sqrt(dict_size / 2**14)),
        aux_k=_default(config.aux_k, min(512, max(1, dict_size // 2))),
        dead_after_samples=_default(
            config.dead_after_samples, min(10_000_000, max(config.batch, steps * config.batch // 10))
        ),
    )


def decided(value: T | None) -> T:
    """A field of a resolved config."""
    assert value is not None, "this needs a config that went through resolve()"
    return value


def learning_rate(config: TrainConfig, step: int) -> float:
    """Of a resolved config at a step: linear warm-up, then flat, then linearly to zero over the last fifth."""
    steps = decided(config.steps)
    warm_up = min(1.0, (step + 1) / max(1.0, config.lr_warmup_share * steps))
    cool_down = min(1.0, (steps - step) / (COOL_DOWN_SHARE * steps))
    return decided(config.learning_rate) * warm_up * cool_down


def _usual_dict_size(num_samples: int, k: int) -> int:
    """The power of two next below a quarter of the samples, from 256 to 4,096, and never below k."""
    return max(k, min(4096, max(256, 2 ** ((num_samples // 4) or 1).bit_length() // 2)))


def _default(given: T | None, otherwise: T) -> T:
    return otherwise if given is None else given
