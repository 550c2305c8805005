"""One worker's place among all, and sums over them."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from gc_core.activations import Peers


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which worker this is; with more than one, torch.distributed is initialised."""

    rank: int = 0
    """In [0, num_workers)."""
    num_workers: int = 1
    device: str = "cpu"
    """`cpu`, `cuda:0` ..."""


def sum_over_workers(tensor: Tensor, place: Place) -> Tensor:
    """The tensor itself, after each element was replaced by its sum over all workers. Every worker must call it."""
    if place.num_workers > 1:
        dist.all_reduce(tensor)
    return tensor


def peers_of(place: Place) -> Peers:
    """The workers as `batchtopk` sees them. Every worker must gather together."""
    if place.num_workers == 1:
        return Peers()

    def gather(values: Tensor) -> Tensor:
        found = [torch.empty_like(values) for _ in range(place.num_workers)]
        dist.all_gather(found, values.contiguous())
        return torch.cat(found)

    return Peers(place.num_workers, gather)
