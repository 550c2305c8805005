"""Configs with nothing left open, for tests that need no store."""

from typing import Any

from gc_core import groups
from gc_core.config import ResolvedTrainConfig, TrainConfig
from gc_core.train.data import DataShape
from gc_core.train.recipe import resolve_for


def resolved(config: TrainConfig, *, channels: int = 8, num_samples: int = 1000) -> ResolvedTrainConfig:
    """A config as data of its own group, or of D_2, decides it."""
    return resolve_for(config, data_shape(config.group or "D_2", channels=channels, num_samples=num_samples))


def made(**options: Any) -> ResolvedTrainConfig:
    return resolved(TrainConfig(**options))


def data_shape(group: str, *, channels: int = 8, num_samples: int = 1000) -> DataShape:
    """A store of a group, all of whose blocks are trained on."""
    parsed = groups.parse(group)
    return DataShape(num_samples=num_samples, num_elements=parsed.order, channels=channels, stored_group=parsed)
