"""Which numbers of a training's state have a row for each feature, and cutting, joining and gathering those rows.

A row is a feature's; where poses are tied, a prototype's.

Letters: S shards, N rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gc_core.parallel.collectives import Shards

BY_FEATURE = frozenset({"W_enc", "b_enc", "W_dec", "log_threshold"})
"""Parameters of a crosscoder that have a row for each feature; all else is the same on every shard."""
JOINED = BY_FEATURE | {"samples_since_fired"}
"""Tensors of a training's state that have such rows, and the optimiser's of those parameters."""
PIECE_BYTES = 2**26
"""How much of a shard's rows travels at a time."""


def rows_of_tensors(tensors: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Views of a crosscoder's tensors, by name, with some features' rows of those that have rows."""
    return {name: tensor[rows] if name in BY_FEATURE else tensor for name, tensor in tensors.items()}


def rows_of_optimiser(state: Mapping[str, Any], rows: slice, parameters: Sequence[str]) -> dict[str, Any]:
    """An optimiser's state with some features' rows of what has rows.

    `parameters` names the crosscoder's parameters in the optimiser's order.
    """
    moments = {
        number: _rows_of(entry, rows) if parameters[number] in BY_FEATURE else entry
        for number, entry in state["state"].items()
    }
    return {**state, "state": moments}


def num_parts(state: Mapping[str, Any]) -> int:
    """How many workers' states make the whole: those of one that holds `features` [first, last) of `dict_size`."""
    first, last = state.get("features", (0, 1))
    return state.get("dict_size", 1) // (last - first)


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One state from those of workers that each hold some features: `features` [first, last) of `dict_size`.

    A state without `features` is whole.
    """
    if len(parts) == 1 and "features" not in parts[0]:
        return dict(parts[0])
    parts = sorted(parts, key=lambda part: part["features"][0])
    ends = [0, *(part["features"][1] for part in parts)]
    if [part["features"][0] for part in parts] != ends[:-1] or ends[-1] != parts[0]["dict_size"]:
        ranges = ", ".join(f"{first} to {last}" for first, last in (part["features"] for part in parts))
        raise ValueError(f"found features {ranges}, expected each of {parts[0]['dict_size']} once")
    whole = _joined(parts, "", list(parts[0]["model"]))
    return whole | {"features": [0, ends[-1]]}


@torch.no_grad()
def gather_rows(own: Mapping[str, Tensor], shards: Shards, whole: Mapping[str, Tensor] | None) -> None:
    """Fill the whole crosscoder's tensors, by name, from those of its shards, which travel in pieces.

    Every shard must call it; one that keeps nothing (None) holds no more than a piece.
    """
    for name, tensor in own.items():
        if name in BY_FEATURE:
            _gather(shards, tensor, whole[name] if whole else None)
        elif whole:
            whole[name].copy_(tensor)


def _gather(shards: Shards, own: Tensor, whole: Tensor | None) -> None:
    step = max(1, PIECE_BYTES // (own[0].numel() * own.element_size()))
    for first in range(0, len(own), step):
        piece_SN = shards.gather(own[first : first + step])
        if whole is not None:
            by_shard = whole.unflatten(0, (shards.count, len(own)))
            by_shard[:, first : first + step].copy_(piece_SN)


def _rows_of(entry: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Rows of one parameter's moments and counts of steps; the count of all steps is one number."""
    return {name: tensor[rows] if tensor.dim() else tensor for name, tensor in entry.items()}


def _joined(parts: Sequence[Any], name: str, parameters: list[str]) -> Any:
    """Parts of the same shape of nested dicts as one; tensors of features are joined, all else is the first part's."""
    first = parts[0]
    if isinstance(first, Mapping):
        # An optimiser numbers the parameters in the order of the model's state, where they precede the buffers.
        named = {key: parameters[key] if isinstance(key, int) else key for key in first}
        return {
            key: _joined([part[key] for part in parts], name if name in parameters else named[key], parameters)
            for key in first
        }
    if isinstance(first, Tensor) and first.dim() and name in JOINED:
        return torch.cat(list(parts))
    return first
