"""One worker's place among all, and sums over them.

Workers form a mesh of replicas x shards (`gc_core.train.planner`): the samples of a step are dealt over the replicas,
the features of each dictionary over the shards of a replica, which all see the same samples.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gc_core.crosscoder.activation_functions import Peers, Shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Which worker this is; with more than one, torch.distributed is initialised. `gc_core.train.mesh` makes one for
    workers that split dictionaries."""

    rank: int = 0
    """In [0, num_workers); the shards of a replica are neighbours."""
    num_workers: int = 1
    device: str = "cpu"
    """`cpu`, `cuda:0` ..."""
    dict_shards: int = 1
    """Workers that hold a dictionary together; divides num_workers."""
    sharded_optimiser: bool = False
    """Whether replicas share out the optimiser's state of the features that they hold alike."""
    replica_group: dist.ProcessGroup | None = None
    """The workers that hold the same features and see other samples; None for all."""
    shard_group: dist.ProcessGroup | None = None
    """The workers that hold other features and see the same samples; None where features are not split."""

    @property
    def num_replicas(self) -> int:
        """Workers, or groups of them, that see different samples."""
        return self.num_workers // self.dict_shards

    @property
    def replica(self) -> int:
        """Which of them, in [0, num_replicas)."""
        return self.rank // self.dict_shards

    @property
    def shard(self) -> int:
        """Which part of every dictionary is here, in [0, dict_shards)."""
        return self.rank % self.dict_shards

    def rows_to_step(self, num_features: int) -> slice:
        """Of the features that are here, those whose optimiser state this worker keeps.

        Raises:
            ValueError: they cannot be shared out evenly.
        """
        if not self.sharded_optimiser:
            return slice(0, num_features)
        if num_features % self.num_replicas:
            found = f"sharded_optimiser: found {num_features:,} features on each shard"
            raise ValueError(f"{found}, expected a multiple of {self.num_replicas} replicas")
        count = num_features // self.num_replicas
        return slice(self.replica * count, (self.replica + 1) * count)


def sum_over_replicas(tensor: Tensor, worker: Worker) -> Tensor:
    """The tensor itself, after each element was replaced by its sum over all replicas. Every worker must call it."""
    if worker.num_replicas > 1:
        dist.all_reduce(tensor, group=worker.replica_group)
    return tensor


def peers_of(worker: Worker) -> Peers:
    """The replicas as `batchtopk` sees them. Every worker must gather together."""
    if worker.num_replicas == 1:
        return Peers()
    return Peers(worker.num_replicas, lambda values: torch.cat(_gathered(values, worker.replica_group)))


def shards_of(worker: Worker) -> Shards:
    """The workers that hold this replica's dictionaries together.

    Tensors travel from the worker's device, wherever they are: its process group may know no other.
    """
    if worker.dict_shards == 1:
        return Shards()

    def gather(values: Tensor) -> Tensor:
        found = _gathered(values.detach().to(worker.device), worker.shard_group)
        return torch.stack(found).to(values.device)

    def total(part: Tensor) -> Tensor:
        return _StraightTotal.apply(part, worker)

    def shared(parameter: Tensor) -> Tensor:
        return _SharedParameter.apply(parameter, worker)

    return Shards(worker.dict_shards, worker.shard, gather, total, shared)


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
    found = [torch.empty_like(values) for _ in range(dist.get_world_size(group))]
    dist.all_gather(found, values.contiguous(), group=group)
    return found
