"""Which numbers of a training's state belong to single features, and the cutting out of some features' share of them.

Letters: F features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gc_core.crosscoder import BY_FEATURE


def rows_of_state(whole: Mapping[str, Any], features: range, parameters: Sequence[str]) -> dict[str, Any]:
    """The state of a worker that holds `features`, from the state of one that holds all.

    `parameters` names the crosscoder's parameters in the optimiser's order. Tensors are views.
    """
    rows = slice(features.start, features.stop)
    optimiser = whole["optimiser"]
    moments = {
        number: _rows_of(entry, rows) if parameters[number] in BY_FEATURE else entry
        for number, entry in optimiser["state"].items()
    }
    return {
        **whole,
        "features": [features.start, features.stop],
        "model": {name: tensor[rows] if name in BY_FEATURE else tensor for name, tensor in whole["model"].items()},
        "average": {name: tensor[rows] if name in BY_FEATURE else tensor for name, tensor in whole["average"].items()},
        "optimiser": {**optimiser, "state": moments},
        "samples_since_fired": whole["samples_since_fired"][rows],
    }


def _rows_of(entry: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Of one parameter's moments and counts of steps by row; the count of all steps is one number."""
    return {name: tensor[rows] if tensor.dim() else tensor for name, tensor in entry.items()}
