"""A training that begins with another crosscoder's weights in place of fresh ones (`init_from`)."""

import re

import torch

from gc_core.config import TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.run_folder import NAME
from gc_core.train.data import TrainingData
from gc_core.train.objective import shape_of
from gc_core.train.parts import rows_of_tensors

SAME = ("tying", "group", "channels", "dict_size", "reads", "activation", "invariant")
"""Of the shape; how many features are active may differ."""


def read_other(config: TrainConfig, data: TrainingData) -> Crosscoder | None:
    """The crosscoder that a resolved config begins with, for this store's activations as they are scaled in training;
    None for fresh weights. An untied one may begin with the features of tied poses.

    Raises:
        ValueError: it is not there, or of another kind or size.
    """
    if config.init_from is None:
        return None
    named = re.fullmatch(NAME, config.init_from)
    url = data.store.run.crosscoder(config.init_from) if named else config.init_from
    model, wanted = Crosscoder.load(url), shape_of(config, data.channels)
    if wanted.tying == "none":
        model = model.materialised()
    differing = [
        f"{name} {found!r}, not {expected!r}"
        for name in SAME
        if (found := getattr(model.shape, name)) != (expected := getattr(wanted, name))
    ]
    if differing:
        raise ValueError(f"init_from: {url} has {'; '.join(differing)}; expected the same group, kind and size")
    model.fold_scale(1 / data.scale)
    return model


@torch.no_grad()
def begin_with(model: Crosscoder, other: Crosscoder) -> None:
    """Give a crosscoder, or the part of one that is here, the weights of another."""
    model.load_state_dict(rows_of_tensors(other.state_dict(), slice(model.features.start, model.features.stop)))
