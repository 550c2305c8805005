"""The mesh that a training runs on: every choice with its memory and traffic, shown before any worker starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import ray
import torch

from gc_core.config import ResolvedTrainConfig, TrainConfig
from gc_core.parallel.mesh import Mesh
from gc_core.train.data import DataShape
from gc_core.train.planner import Plan, demand_of, obstacle, plan, plans, recommend, refuse_too_large
from jobs.common import cluster, console
from jobs.common.options import ResolvedWorkers


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The meshes that some workers could form, and which of them is to be."""

    every: Sequence[Plan]
    obstacles: Mapping[Mesh, str | None]
    """Why a mesh cannot be, whatever memory there is."""
    memory_bytes: int | None
    """Memory of one worker; None where no node is there yet."""
    best: Plan | None
    """The recommended one of those that fit; None where none does."""
    taken: Plan | None
    """The one asked for, or the best."""

    @property
    def possible(self) -> list[Plan]:
        """Those without an obstacle, whether they fit or not."""
        return [one for one in self.every if self.obstacles[one.mesh] is None]


def decide(configs: Sequence[ResolvedTrainConfig], workers: ResolvedWorkers, data: DataShape) -> Mesh:
    """The mesh that the workers form, after all were shown.

    Raises:
        ValueError: the mesh asked for, or every one, does not fit into memory or does not divide lanes and features.
    """
    choice = choose(configs, sharing_lanes(configs, workers), data)
    show(choice)
    known = choice.memory_bytes
    taken = choice.taken or recommend(choice.possible, known or 0)  # raises, with the numbers
    if known is not None:
        refuse_too_large(taken, known)
    return taken.mesh


def choose(configs: Sequence[ResolvedTrainConfig], workers: ResolvedWorkers, data: DataShape) -> Choice:
    """Every mesh of that many workers, and the one to take.

    Raises:
        ValueError: the mesh asked for, or every one, does not divide lanes and features.
    """
    demand = demand_of(configs, data, on_host=not workers.gpus_per_worker)
    every = plans(demand, workers.num_workers, sharded_optimiser=workers.sharded_optimiser)
    obstacles = {one.mesh: obstacle(configs, one.mesh) for one in every}
    possible = [one for one in every if obstacles[one.mesh] is None]
    asked_for = _asked_for(configs, workers, workers.dict_shards) if workers.dict_shards else None
    if asked_for is None and not possible:
        raise ValueError(obstacles[every[0].mesh])
    memory_bytes = memory_of_worker(workers)
    fitting = [one for one in possible if memory_bytes is None or one.memory_bytes <= memory_bytes]
    best = recommend(fitting, memory_bytes or max(one.memory_bytes for one in fitting)) if fitting else None
    return Choice(
        every=every,
        obstacles=obstacles,
        memory_bytes=memory_bytes,
        best=best,
        taken=plan(demand, asked_for) if asked_for else best,
    )


def fewest_workers(
    configs: Sequence[ResolvedTrainConfig], workers: ResolvedWorkers, mesh: Mesh, data: DataShape
) -> int:
    """Workers that a training on this mesh needs to start: all, or as few as it may go on with.

    Raises:
        ValueError: as few cannot hold the dictionaries, or do not fit into memory.
    """
    if workers.min_workers is None or workers.min_workers >= mesh.num_workers:
        return mesh.num_workers
    memory_bytes, demand = memory_of_worker(workers), demand_of(configs, data, on_host=not workers.gpus_per_worker)
    for number in range(workers.min_workers, mesh.num_workers):
        smaller = mesh.within(number, lanes=configs[0].lanes)
        reason = f"{mesh.shards} dict_shards need as many" if smaller is None else obstacle(configs, smaller)
        if smaller is None or reason:
            raise ValueError(f"min_workers: found {workers.min_workers}, and {number} worker(s) will not do ({reason})")
        if memory_bytes is not None:
            refuse_too_large(plan(demand, smaller), memory_bytes)
    return workers.min_workers


def sharing_lanes(configs: Sequence[TrainConfig], workers: ResolvedWorkers) -> ResolvedWorkers:
    """Keep as many workers as the lanes are shared out to evenly: the result depends on lanes, and not on workers.

    Raises:
        ValueError: the workers cannot split the dictionaries as asked for.
    """
    number, lanes = workers.num_workers, configs[0].lanes
    if workers.dict_shards is None:
        return workers  # some split of the dictionaries may take all
    most = Mesh.of(number, workers.dict_shards).replicas
    replicas = next(count for count in range(most, 0, -1) if lanes % count == 0)
    taken = replicas * workers.dict_shards
    if taken < number:
        console.say(
            f"training takes {taken} of {number} workers, to which its {lanes} lanes are shared out evenly; a number of"
            f" lanes that {most} divides takes them all (option lanes, another result)"
        )
    return replace(workers, num_workers=taken)


def show(choice: Choice) -> None:
    """A table of meshes, replicas x shards; of a single worker, one line."""
    every, taken, known = choice.every, choice.taken, choice.memory_bytes
    if len(every) == 1 and taken and known is not None and taken.memory_bytes <= known:
        console.say(f"memory   {_gb(taken.memory_bytes)} needed by the one worker, {_gb(known)} found")
        return
    rows = [
        [
            str(one.mesh),
            *map(_gb, (one.weights_bytes, one.optimiser_bytes, one.memory_bytes, one.sent_bytes)),
            _remark(one, choice),
        ]
        for one in every
    ]
    memory = "memory unknown until nodes start" if known is None else f"{_gb(known)} found for each worker"
    columns = ["replicas x shards", "weights", "optimiser", "memory a worker", "sent a step", "remark"]
    console.table(f"meshes of {every[0].mesh.num_workers} worker(s), {memory}", columns, rows)


def memory_of_worker(workers: ResolvedWorkers) -> int | None:
    """Bytes that one worker may use: of its GPU, or its share of the smallest node; None where no node is there yet."""
    if gpus := workers.gpus_per_worker:
        if cluster.num_gpus() < gpus:
            return None
        return int(ray.get(gpu_bytes_task.options(num_gpus=gpus).remote()) * min(1.0, gpus))
    return memory_share(
        [node["Resources"] for node in ray.nodes() if node["Alive"]], workers.num_workers, workers.cpus_per_worker
    )


def memory_here() -> int | None:
    """Bytes of the node that this process runs on; None where it is none of the cluster's."""
    own = ray.get_runtime_context().get_node_id()
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] == own]
    return (
        int(resources[0].get("memory", 0) + resources[0].get("object_store_memory", 0)) or None if resources else None
    )


def memory_of_task(cpus: float) -> int | None:
    """Bytes that the largest node lends to a task, as Ray counts them; None where no node is there that takes it."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max((int(node.get("memory", 0)) for node in nodes if node.get("CPU", 0) >= cpus), default=None)


def memory_share(nodes: Sequence[dict[str, float]], num_workers: int, cpus_per_worker: float) -> int | None:
    """Least bytes that a node has for each of the workers that it may get; None where no node takes any.

    What Ray sets aside for its object store counts too: training keeps nothing there.
    """
    shares = [
        (node.get("memory", 0) + node.get("object_store_memory", 0)) / min(num_workers, fitting)
        for node in nodes
        if (fitting := int(node.get("CPU", 0) // cpus_per_worker))
    ]
    return int(min(shares)) if shares else None


@ray.remote(num_cpus=0, max_retries=3)
def gpu_bytes_task() -> int:
    """Memory of the GPU that the task is given."""
    return torch.cuda.get_device_properties(0).total_memory


def _asked_for(configs: Sequence[ResolvedTrainConfig], workers: ResolvedWorkers, shards: int) -> Mesh:
    mesh = Mesh.of(workers.num_workers, shards, sharded_optimiser=workers.sharded_optimiser)
    if reason := obstacle(configs, mesh):
        raise ValueError(f"{reason}; choose another --workers.dict-shards, or None for the recommended one")
    return mesh


def _remark(one: Plan, choice: Choice) -> str:
    if reason := choice.obstacles[one.mesh]:
        return reason
    marks = ["recommended"] if one == choice.best else []
    marks += ["chosen"] if one == choice.taken else []
    marks += ["too large"] if choice.memory_bytes is not None and one.memory_bytes > choice.memory_bytes else []
    return ", ".join(marks)


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
