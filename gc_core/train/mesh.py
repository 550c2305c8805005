"""Workers that split dictionaries among them: their mesh, and one whole crosscoder from their parts.

Letters: S shards, N rows.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh

from gc_core.crosscoder import BY_FEATURE, Crosscoder
from gc_core.train.workers import Worker

PIECE_BYTES = 2**26
"""Of a shard's rows that travel at a time."""


def place_in_mesh(
    *, rank: int, num_workers: int, dict_shards: int, sharded_optimiser: bool = False, device: str = "cpu"
) -> Worker:
    """This worker's place in a mesh of `num_workers / dict_shards` replicas; every worker must call it.

    Raises:
        ValueError: workers cannot be shared out to the shards.
    """
    if num_workers % dict_shards:
        found = f"dict_shards: found {dict_shards}, expected a divisor of the {num_workers} workers"
        raise ValueError(f"{found}; choose another --workers.num-workers or --workers.dict-shards")
    if dict_shards == 1:
        return Worker(rank=rank, num_workers=num_workers, sharded_optimiser=sharded_optimiser, device=device)
    sizes = (num_workers // dict_shards, dict_shards)
    mesh = init_device_mesh(torch.device(device).type, sizes, mesh_dim_names=("replica", "shard"))
    return Worker(
        rank=rank,
        num_workers=num_workers,
        device=device,
        dict_shards=dict_shards,
        sharded_optimiser=sharded_optimiser,
        replica_group=mesh.get_group("replica"),
        shard_group=mesh.get_group("shard"),
    )


def copied(model: Crosscoder) -> Crosscoder:
    """The same crosscoder on the CPU, with float32 products; tensors leave their device one after another."""
    whole = Crosscoder.of(model.shape)
    whole.load_state_dict(model.state_dict())
    return whole


@torch.no_grad()
def assembled(model: Crosscoder, *, keep: bool) -> Crosscoder | None:
    """The whole crosscoder on the CPU, for those that `keep` it, from parts that travel in pieces.

    Every shard must call it; one that keeps nothing holds no more than a piece.
    """
    whole = Crosscoder.of(model.shape) if keep else None
    tensors = whole.state_dict() if whole else {}
    for name, own in model.state_dict().items():
        if name in BY_FEATURE:
            _collect(model, own, tensors.get(name))
        elif whole:
            tensors[name].copy_(own)
    return whole


def _collect(model: Crosscoder, own: torch.Tensor, whole: torch.Tensor | None) -> None:
    step = max(1, PIECE_BYTES // (own[0].numel() * own.element_size()))
    for first in range(0, len(own), step):
        piece_SN = model.shards.gather(own[first : first + step])
        if whole is not None:
            by_shard = whole.unflatten(0, (model.shards.count, len(own)))
            by_shard[:, first : first + step].copy_(piece_SN)
