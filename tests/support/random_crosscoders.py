"""Crosscoders with random weights, of every kind that the library knows.

Letters: B samples, G group elements, C channels, F features.
"""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import Activation, CrosscoderShape, GroupCrosscoder
from gc_core.groups import Group

ACTIVATIONS = get_args(Activation)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def random_crosscoder(*, group: str = "D_3", **changes: Any) -> GroupCrosscoder:
    """Float64, twelve features over D_3 and five channels, decoder norms from a tenth to ten; thresholds that bite."""
    options = {"channels": 5, "dict_size": 12, "reads": (0,), "activation": "topk", "k": 4}
    model = GroupCrosscoder(CrosscoderShape(group=groups.parse(group), **options | changes)).double()
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
        for name, tensor in model.state_dict().items()
    }
    state["W_dec"] *= torch.logspace(-1, 1, model.shape.dict_size)[:, None, None]
    if "log_threshold" in state:
        state["log_threshold"] = state["log_threshold"].sigmoid().log()
    if "threshold" in state:
        state["threshold"] = torch.tensor(2.0, dtype=torch.float64)
    model.load_state_dict(state)
    return model


def samples(model: GroupCrosscoder, count: int = 40) -> Tensor:
    """(B, G, C) random activations."""
    shape = (count, *model.b_dec.shape)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def random_decoder(group: Group, num_features: int, channels: int, seed: int = 0) -> Tensor:
    """(F, G, C) float64, without structure."""
    shape = (num_features, group.order, channels)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
