"""What a training will need, before it starts: memory of each worker, bytes sent in a step, and the mesh to choose.

Workers form a mesh of `replicas` x `shards`: the samples of a step are dealt over the replicas, the features of the
dictionary over the shards. Replicas exchange gradients, shards exchange reconstructions. Integers in, integers out.
Gradients that stay in factors (topk, batchtopk) are B G C numbers for replicas to exchange, whatever F is; then
features are split for their memory, not for the traffic.

Letters: B samples, G group elements, C channels, F features, K active features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gc_core.config import ResolvedTrainConfig
from gc_core.parallel import Mesh
from gc_core.train.data import DataShape
from gc_core.train.recipe import touches_active_rows
from gc_core.train.validation import MAX_HELD_OUT_ROWS

FLOAT32 = 4
FLOAT16 = 2
INDEX = 8
WORK_COPIES_OF_SAMPLES = 4
"""float32 tensors of the size of a batch at the same time: activations, reconstruction, error, its gradient."""
COPIES_OF_DENSE_GRADIENT = 4
"""Gradients from the products and from the penalty's norms, a temporary of those, and gaps between them."""
COPIES_OF_DENSE_CODES = 6
"""Codes, their gradients and masks, and gaps."""
COPIES_AT_EXPORT = 3
"""Copies of a whole dictionary's weights on the first worker: a crosscoder of its own, and twice the bytes of its
file. Measured: 3.0 times 187 MB."""
OVERHEAD_BYTES = 850_000_000
"""Python, torch, its libraries and what the allocator keeps, with torch 2.15 on a CPU.

Measured at the peak, and planned: 32,768 features of 33 blocks of 64 channels, batches of 128, topk 1.69 and 1.73 GB,
l1 2.91 to 3.45 and 2.95 GB; 65,536 features of 16 blocks, batches of 512, topk 1.79 and 1.85 GB, l1 3.21 to 3.70 and
3.66 GB: freed memory that is kept does not fit together alike every time. Those were steps alone, without checkpoints.
Not planned for is the auxiliary loss while most features are dead: it then takes up to three times the decoder's
weights more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a training is, as far as memory and traffic depend on it."""

    dict_sizes: tuple[int, ...]
    """Features of each dictionary that trains on the same stream; prototypes where poses are tied."""
    num_elements: int
    """G"""
    channels: int
    """C"""
    num_reads: int
    """Blocks that the encoder sees."""
    batch: int
    """Samples that are in memory at once, over all replicas."""
    k: int | None
    """Active features a sample; None where every feature may be (dense codes)."""
    state_bytes: int = FLOAT32
    """Size of one number of the optimiser's state."""
    by_row: bool = False
    """Whether gradients of the dictionary stay in factors (`gc_core.sparse`)."""
    averaged: bool = False
    """Whether an average of the weights is kept too."""
    buffer_blocks: int = 0
    """Blocks of all samples in the shuffle buffers of all replicas together, and of the held-out samples, float16."""
    on_host: bool = True
    """Whether what checkpoints and the export copy lies in the workers' own memory, and not beside their GPU's."""

    @property
    def row_values(self) -> int:
        """Weights of one feature: decoder, encoder, bias."""
        return self.factor_values + 1

    @property
    def factor_values(self) -> int:
        """Numbers that one sample adds to a gradient in factors: errors of its blocks, and what the encoder read."""
        return (self.num_elements + self.num_reads) * self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one mesh would need."""

    mesh: Mesh
    weights_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    samples_bytes: int
    """Activations, reconstructions, codes and buffers."""
    checkpoint_bytes: int
    """The copy that is written while training goes on."""
    export_bytes: int
    """Memory of the export after the last step, where only weights and optimiser are left beside it."""
    gradients_sent_bytes: int
    """Gradients that each worker sends to other replicas in a step."""
    weights_sent_bytes: int
    """Weights that each worker sends to other replicas in a step; none where each moves all its weights itself."""
    reconstructions_sent_bytes: int
    """Reconstructions that each worker sends to other shards in a step."""

    @property
    def memory_bytes(self) -> int:
        """Memory of one worker, at its fullest."""
        steps = self.gradient_bytes + self.samples_bytes + self.checkpoint_bytes
        return self.weights_bytes + self.optimiser_bytes + max(steps, self.export_bytes) + OVERHEAD_BYTES

    @property
    def sent_bytes(self) -> int:
        """Bytes that one worker sends in a step."""
        return self.gradients_sent_bytes + self.weights_sent_bytes + self.reconstructions_sent_bytes


def plan(demand: Demand, mesh: Mesh) -> Plan:
    """What each worker of this mesh needs.

    A ring all-reduce of n bytes among w workers sends 2 (w - 1) / w n bytes from each, a ring that gathers n bytes of
    each sends (w - 1) n.
    """
    samples = -(-demand.batch // mesh.replicas)
    features = [-(-size // mesh.shards) for size in demand.dict_sizes]
    weights = FLOAT32 * sum(own * demand.row_values for own in features)
    dense = FLOAT32 * max(own * demand.row_values for own in features)  # one dictionary after another
    factors = FLOAT32 * samples * demand.factor_values
    values = samples * demand.num_elements * demand.channels
    codes = FLOAT32 * samples * max(features) * (COPIES_OF_DENSE_CODES if demand.k is None else 1)
    buffers = FLOAT16 * demand.buffer_blocks * demand.channels // mesh.replicas
    sent = factors * len(features) * (mesh.replicas - 1) if demand.by_row else _reduced(weights, mesh.replicas)
    steppers = mesh.replicas if mesh.sharded_optimiser else 1
    held = weights * (2 if demand.averaged else 1)
    moments = 2 * weights // FLOAT32 * demand.state_bytes // steppers
    exported = COPIES_AT_EXPORT * FLOAT32 * max(demand.dict_sizes) * demand.row_values
    candidates = 0 if demand.k is None else (FLOAT32 + INDEX) * samples * demand.k * len(features)
    return Plan(
        mesh=mesh,
        weights_bytes=held,
        gradient_bytes=factors * mesh.replicas if demand.by_row else COPIES_OF_DENSE_GRADIENT * dense,
        optimiser_bytes=moments,
        samples_bytes=FLOAT32 * values * WORK_COPIES_OF_SAMPLES + codes + 2 * buffers,
        checkpoint_bytes=held // steppers + moments if demand.on_host else 0,
        export_bytes=exported if demand.on_host else 0,
        gradients_sent_bytes=sent,
        weights_sent_bytes=(steppers - 1) * weights // steppers,
        reconstructions_sent_bytes=_reduced(FLOAT32 * values * len(features), mesh.shards)
        + candidates * (mesh.shards - 1),
    )


def demand_of(configs: Sequence[ResolvedTrainConfig], data: DataShape, *, on_host: bool = True) -> Demand:
    """What configs that train on one stream need together; where they differ, the hungriest one counts."""
    order = data.num_elements
    dense = any(config.activation in ("l1", "jumprelu") for config in configs)
    return Demand(
        dict_sizes=tuple(config.num_rows for config in configs),
        num_elements=order,
        channels=data.channels,
        num_reads=max(len(config.elements_read(order)) for config in configs),
        batch=configs[0].batch // min(config.accumulate for config in configs),
        k=None if dense else max(config.k for config in configs),
        state_bytes=max(FLOAT16 if config.optimiser_state == "bfloat16" else FLOAT32 for config in configs),
        by_row=all(touches_active_rows(config, order) for config in configs),
        averaged=any(config.average_decay > 0 for config in configs),
        buffer_blocks=configs[0].buffer_rows * (data.stored_group.order if configs[0].augment else order)
        + MAX_HELD_OUT_ROWS * order,
        on_host=on_host,
    )


def obstacle(configs: Sequence[ResolvedTrainConfig], mesh: Mesh) -> str | None:
    """Why configs cannot train on a mesh, however much memory it has; None if they can."""
    for config in configs:
        rows = {"prototypes" if config.tying == "orbit" else "dict_size": config.num_rows}
        if reason := mesh.obstacle(lanes=config.lanes, features=rows):
            return reason
    return None


def plans(demand: Demand, num_workers: int, *, sharded_optimiser: bool = False) -> list[Plan]:
    """Plans of every mesh of that many workers, from all replicas to all shards."""
    meshes = [
        Mesh.of(num_workers, shards, sharded_optimiser=sharded_optimiser)
        for shards in range(1, num_workers + 1)
        if num_workers % shards == 0
    ]
    return [plan(demand, mesh) for mesh in meshes]


def recommend(candidates: list[Plan], memory_bytes: int) -> Plan:
    """The mesh that sends least among those whose workers fit into their memory.

    Raises:
        ValueError: none fits; with the numbers of the mesh that needs least.
    """
    fitting = [one for one in candidates if one.memory_bytes <= memory_bytes]
    if not fitting:
        raise ValueError(_too_large(min(candidates, key=lambda one: one.memory_bytes), memory_bytes))
    return min(fitting, key=lambda one: one.sent_bytes)


def refuse_too_large(chosen: Plan, memory_bytes: int) -> None:
    """Refuse a mesh that somebody chose if a worker's memory cannot hold it.

    Raises:
        ValueError: it does not fit.
    """
    if chosen.memory_bytes > memory_bytes:
        raise ValueError(_too_large(chosen, memory_bytes))


def _too_large(least: Plan, memory_bytes: int) -> str:
    parts = (
        f"weights {_gb(least.weights_bytes)}, gradients {_gb(least.gradient_bytes)}, "
        f"optimiser {_gb(least.optimiser_bytes)}, samples {_gb(least.samples_bytes)}, "
        f"checkpoint {_gb(least.checkpoint_bytes)} or export {_gb(least.export_bytes)}"
    )
    shareable = least.mesh.replicas > 1 and not least.mesh.sharded_optimiser
    shared = ", --workers.sharded-optimiser" if shareable else ""
    return (
        f"memory: mesh {least.mesh} needs {_gb(least.memory_bytes)} a worker ({parts}), found {_gb(memory_bytes)}; "
        f"lower dict_size or prototypes, batch or buffer_rows, take --optimiser-state bfloat16{shared}, or more workers"
    )


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB"


def _reduced(num_bytes: int, workers: int) -> int:
    return 2 * (workers - 1) * num_bytes // workers
