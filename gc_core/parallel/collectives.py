"""What workers of a mesh tell each other: sums over replicas, and what shards gather and total.

Letters: S shards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gc_core.parallel.mesh import even_part
from gc_core.parallel.worker import Worker


@dataclass(frozen=True, slots=True)
class Peers:
    """All workers that share a batch, each with equally many samples; made with no arguments, one worker alone."""

    count: int = 1
    gather: Callable[[Tensor], Tensor] = lambda values: values
    """Takes a worker's values (n,), gives all workers' together; n is the same on every worker."""


@dataclass(frozen=True, slots=True)
class Shards:
    """All workers that hold parts of one dictionary and see the same samples; made with no arguments, one worker alone.

    Every shard calls `gather` and `total` in the same order, with tensors of the same shape.
    """

    count: int = 1
    index: int = 0
    """Which shard this worker is, in [0, count)."""
    gather: Callable[[Tensor], Tensor] = lambda values: values[None]
    """Takes a shard's values (...), gives all shards' in order, (S, ...), without gradient."""
    total: Callable[[Tensor], Tensor] = lambda part: part
    """The sum of all shards' parts. Its gradient passes to each part unchanged, for every shard computes the same loss
    from the sum: adding up the shards' gradients would count that loss once for each of them."""
    shared: Callable[[Tensor], Tensor] = lambda parameter: parameter
    """A parameter that all shards hold alike, where each uses it on its own features: its gradient is the sum of what
    theirs give."""

    def features(self, num_rows: int) -> range:
        """Which features of a dictionary this shard holds; of so many prototypes, where poses are tied.

        Raises:
            ValueError: they cannot be shared out evenly.
        """
        return even_part(num_rows, self.count, self.index)


ALONE = Shards()


def sum_over_replicas(tensor: Tensor, worker: Worker) -> Tensor:
    """The tensor itself, after each element was replaced by its sum over all replicas. Every worker must call it."""
    if worker.mesh.replicas > 1:
        dist.all_reduce(tensor, group=worker.replica_group)
    return tensor


def peers_of(worker: Worker) -> Peers:
    """The replicas as `batchtopk` sees them. Every worker must gather together."""
    if worker.mesh.replicas == 1:
        return Peers()
    return Peers(worker.mesh.replicas, lambda values: torch.cat(_gathered(values, worker.replica_group)))


def shards_of(worker: Worker) -> Shards:
    """The workers that hold this replica's dictionaries together.

    Tensors travel from the worker's device, wherever they are: its process group may know no other.
    """
    if worker.mesh.shards == 1:
        return Shards()

    def gather(values: Tensor) -> Tensor:
        gathered = _gathered(values.detach().to(worker.device), worker.shard_group)
        return torch.stack(gathered).to(values.device)

    def total(part: Tensor) -> Tensor:
        return _StraightTotal.apply(part, worker)

    def shared(parameter: Tensor) -> Tensor:
        return _SharedParameter.apply(parameter, worker)

    return Shards(worker.mesh.shards, worker.shard, gather, total, shared)


def of_first_worker(number: int, worker: Worker) -> int:
    """The first worker's number, on all; every worker must call it."""
    if worker.mesh.num_workers == 1:
        return number
    agreed = torch.tensor([number], device=worker.device)
    dist.broadcast(agreed, src=0, group=worker.mesh_group)
    return int(agreed)


class _StraightTotal(torch.autograd.Function):
    """A sum over shards whose gradient passes unchanged, as from DTensor's Partial to Replicate."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, worker: Worker) -> Tensor:
        summed = part.detach().to(worker.device, copy=True).contiguous()
        dist.all_reduce(summed, group=worker.shard_group)
        return summed.to(part.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _SharedParameter(torch.autograd.Function):
    """The parameter itself; its gradient is the sum over shards."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, worker: Worker) -> Tensor:
        ctx.worker = worker
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _StraightTotal.apply(grads[0], ctx.worker), None


def _gathered(values: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, values.contiguous(), group=group)
    return gathered
