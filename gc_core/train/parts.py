"""Which numbers of a training's state belong to single features, and cutting out those of some features."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gc_core.crosscoder import BY_FEATURE


def rows_of_tensors(tensors: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Views of a crosscoder's tensors, by name, with some features' rows of those that have rows."""
    return {name: tensor[rows] if name in BY_FEATURE else tensor for name, tensor in tensors.items()}


def rows_of_optimiser(state: Mapping[str, Any], rows: slice, parameters: Sequence[str]) -> dict[str, Any]:
    """The same of an optimiser's state; `parameters` names the crosscoder's parameters in the optimiser's order."""
    moments = {
        number: _rows_of(entry, rows) if parameters[number] in BY_FEATURE else entry
        for number, entry in state["state"].items()
    }
    return {**state, "state": moments}


def _rows_of(entry: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Of one parameter's moments and counts of steps by row; the count of all steps is one number."""
    return {name: tensor[rows] if tensor.dim() else tensor for name, tensor in entry.items()}
