"""One worker of a mesh, and joining a mesh with torch.distributed."""

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from gc_core.parallel.mesh import Mesh, even_part


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Which worker this is; with more than one, torch.distributed is initialised. `join` makes one for workers that
    split dictionaries."""

    mesh: Mesh = field(default_factory=Mesh)
    rank: int = 0
    """Number of this worker, in [0, mesh.num_workers); the shards of a replica are neighbours."""
    device: str = "cpu"
    """`cpu`, `cuda:0` ..."""
    replica_group: dist.ProcessGroup | None = None
    """The workers that hold the same features and see other samples; None for all that there are."""
    mesh_group: dist.ProcessGroup | None = None
    """The workers of the mesh; None for all that there are."""
    shard_group: dist.ProcessGroup | None = None
    """The workers that hold other features and see the same samples; None where features are not split."""

    @property
    def replica(self) -> int:
        """Which replica this worker belongs to, in [0, mesh.replicas)."""
        return self.rank // self.mesh.shards

    @property
    def shard(self) -> int:
        """Which part of every dictionary is here, in [0, mesh.shards)."""
        return self.rank % self.mesh.shards

    def rows_to_step(self, num_rows: int) -> slice:
        """Rows whose optimiser state this worker keeps, of those that its shard holds.

        Raises:
            ValueError: they cannot be shared out evenly.
        """
        if not self.mesh.sharded_optimiser:
            return slice(0, num_rows)
        own = even_part(num_rows, self.mesh.replicas, self.replica)
        return slice(own.start, own.stop)


def join(mesh: Mesh, *, rank: int, device: str = "cpu") -> Worker | None:
    """This process as a worker of the mesh, or None where others form it; all must call it, torch.distributed
    initialised where there is more than one."""
    ranks = list(range(mesh.num_workers))
    spare = dist.is_initialized() and dist.get_world_size() > mesh.num_workers
    everyone: dist.ProcessGroup | None = None
    if spare:
        made = dist.new_group(ranks)
        everyone = made if isinstance(made, dist.ProcessGroup) else None  # for those outside it is a number
    groups: dict[str, dist.ProcessGroup | None] = {"mesh_group": everyone, "replica_group": everyone}
    if mesh.shards > 1:
        rows = torch.tensor(ranks).view(mesh.replicas, mesh.shards)
        named = DeviceMesh(torch.device(device).type, rows, mesh_dim_names=("replica", "shard"))
        if rank < mesh.num_workers:
            groups |= {"replica_group": named.get_group("replica"), "shard_group": named.get_group("shard")}
    return Worker(mesh=mesh, rank=rank, device=device, **groups) if rank < mesh.num_workers else None
