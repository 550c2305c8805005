"""Stage 1: index images, compute the activations of every transformed version of sampled centres, store them.

    python -m jobs.harvest --images IMAGES --out RUN

Continues where an earlier, interrupted run of the same command stopped.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import pyarrow as pa
import ray
import torch
import tyro

from gc_core import harvest, manifest, store
from gc_core.backbones import ModuleBackbone
from gc_core.config import HarvestConfig
from gc_core.harvest.plan import ShardWork
from gc_core.images.moved import Move
from gc_core.io.run_folder import RunFolder
from gc_core.store.shards import ShardPlan
from jobs.common import cluster, console, index, interrupt, metrics, warned
from jobs.common.options import MovedImages, ResolvedWorkers, Workers, cli


@dataclass(frozen=True, kw_only=True)
class HarvestJob(MovedImages):
    """Compute the activations of every transformed version of sampled centres, into chunked Zarr."""

    out: str
    """The run folder: a path or URL. Made if it does not exist, continued if it does."""
    config: Annotated[HarvestConfig, tyro.conf.arg(name="")] = field(default_factory=HarvestConfig)
    workers: Workers = field(default_factory=Workers)
    dry_run: bool = False
    """Index the images (kept for the real run), tell what would be computed and stored, and end."""


@dataclass(frozen=True, slots=True)
class Done:
    """A shard that a worker has committed."""

    shard: int
    seconds: float
    """Since the worker took it."""
    stored_bytes: int


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.harvest`."""
    with console.one_line_errors(remedy="The same command continues where it stopped."):
        job = cli(HarvestJob, prog="python -m jobs.harvest", args=args, description=__doc__)
        with cluster.connect():
            run = RunFolder.at(job.out)
            if job.dry_run:
                console.summary("would harvest", foretell(run, job.config, job.workers))
            else:
                console.summary("harvested", run_harvest(run, job.config, job.workers, job.moves()))


def run_harvest(
    run: RunFolder, config: HarvestConfig, workers: Workers, moves: Sequence[Move] = ()
) -> list[tuple[str, str]]:
    """Index, plan, compute what is missing; rows of the summary."""
    cluster.refuse_impossible(workers)
    cluster.require_cpu(workers)
    backbone = harvest.network_of(config)
    run.claim()
    table = index.manifest_of(run, config, backbone)
    plan = harvest.plan_rows(config, table, backbone, format_version=store.version_of(run))
    config = with_decided_dtype(run, config, workers)
    harvest.create_store(run, config, plan, backbone)
    metrics.count(metrics.BAD_IMAGES, index.num_unused(table))
    start = time.monotonic()
    finished = compute_missing(run, config, plan, manifest.relocated(table, moves), workers)
    health_rows = health(finished, time.monotonic() - start)
    mean = store.finish(run)
    blocks = f"{harvest.group_of(config).order} x {backbone.channels} numbers"
    field_px = f"field {backbone.receptive_field_px} px"
    return [
        *index.describe(table),
        ("samples", f"{plan.num_rows:,} of {blocks}, in {plan.num_shards} shards"),
        ("layer", f"{backbone.name} {backbone.layer}, {field_px}; mean squared block norm {mean:.4g}"),
        *([("units", backbone.evaluation)] if isinstance(backbone, ModuleBackbone) else []),
        ("pixels", backbone.preprocessing),
        *health_rows,
        ("manifest", run.manifest.url),
        ("activations", run.activations.url),
    ]


def foretell(run: RunFolder, config: HarvestConfig, workers: Workers) -> list[tuple[str, str]]:
    """What a harvest would do; rows of the summary.

    Raises:
        StoreError: a store of other options stands there; the differences are listed.
    """
    cluster.refuse_impossible(workers)
    cluster.require_cpu(workers)
    backbone = harvest.network_of(config)
    run.claim()
    table = index.manifest_of(run, config, backbone)
    plan = harvest.plan_rows(config, table, backbone, format_version=store.version_of(run))
    harvest.refuse_other_store(run, with_decided_dtype(run, config, workers), plan, backbone)
    done = store.finished_commits(run)
    order, missing = harvest.group_of(config).order, plan.num_shards - len(done)
    rows = plan.num_rows - sum(commit.num_rows for commit in done.values())
    raw_gb = store.raw_bytes(rows, order, backbone.channels) / 1e9
    return [
        *index.describe(table),
        ("samples", f"{plan.num_rows:,} of {order} x {backbone.channels} numbers, in {plan.num_shards} shards"),
        ("to compute", f"{missing:,} shards, {rows:,} samples, {rows * order:,} transformed fields"),
        ("to store", f"{raw_gb:.3g} GB {store.SAVED[config.compression]}"),
        ("requests", f"about {missing * store.REQUESTS_A_SHARD:,}, {store.REQUESTS_A_SHARD} a shard"),
    ]


def with_decided_dtype(run: RunFolder, config: HarvestConfig, workers: Workers) -> HarvestConfig:
    """The config with `auto` decided once, by the store there or by what workers compute on."""
    if config.dtype != "auto":
        return config
    try:
        return replace(config, dtype=store.open_store(run, unfinished=True).attrs["config"]["dtype"])
    except store.StoreError:
        wanted = workers.resolve(num_cpus=cluster.num_cpus(), num_gpus=cluster.num_gpus())
    dtype = harvest.arithmetic("auto", "cuda" if wanted.gpus_per_worker else "cpu")
    return replace(config, dtype=str(dtype).removeprefix("torch."))


def compute_missing(
    run: RunFolder, config: HarvestConfig, plan: ShardPlan, table: pa.Table, workers: Workers
) -> list[Done]:
    """Deal every shard without a commit record to the workers; what they did."""
    done = store.finished_commits(run)
    missing = [shard for shard in range(plan.num_shards) if shard not in done]
    if not missing:
        return []
    rows_before = sum(commit.num_rows for commit in done.values())
    wanted = workers.resolve(num_cpus=cluster.num_cpus(), num_gpus=cluster.num_gpus())
    cluster.require(wanted, 1)  # the others join when they come
    with (
        _actors(run, config, wanted, at_most=len(missing)) as actors,
        console.progress("harvest", plan.num_rows, "samples", done=rows_before) as meter,
    ):
        counter = _Counter(actors)
        work = (harvest.shard_work(plan, table, shard) for shard in missing)

        def submit(actor: Any, item: ShardWork) -> ray.ObjectRef[Any]:
            return actor.harvest.remote(item)

        places = actors * harvest.Pipeline.SHARDS_AT_ONCE  # each actor once before any actor twice
        finished = list(cluster.deal(places, work, submit, poll=lambda: meter.set(rows_before + counter.poll())))
        meter.set(plan.num_rows)
    return finished


def health(finished: Sequence[Done], seconds: float) -> list[tuple[str, str]]:
    """Rows of the summary: how a harvest went that took so long; none where nothing was left to do."""
    if not finished:
        return []
    stored_mb, slowest = sum(each.stored_bytes for each in finished) / 1e6, max(finished, key=lambda each: each.seconds)
    return [
        ("stored now", f"{len(finished):,} shards, {stored_mb:,.1f} MB, {stored_mb / max(seconds, 1e-9):,.1f} MB/s"),
        ("slowest shard", f"number {slowest.shard:,}, {slowest.seconds:,.1f} s from taken to committed"),
    ]


@ray.remote(
    max_restarts=8,
    max_task_retries=8,
    max_concurrency=harvest.Pipeline.SHARDS_AT_ONCE,
    concurrency_groups={"progress": 1},
)
class Harvester:
    """Keeps the network on its device; computes one shard while it writes the one before."""

    def __init__(self, run: RunFolder, config: HarvestConfig, num_threads: int) -> None:
        warned.listen()
        self._num_threads = num_threads
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        backbone = harvest.load_backbone(config, device)
        attempt = f"{socket.gethostname()}-{os.getpid()}"
        self._pipeline = harvest.Pipeline(run, config, backbone, attempt=attempt)
        self._rows: dict[int, int] = {}

    @ray.method(retry_exceptions=cluster.RETRIED)
    def harvest(self, work: ShardWork) -> Done:
        """Compute, write and commit."""
        torch.set_num_threads(self._num_threads)  # a setting of each thread, and Ray chooses the thread
        self._rows[work.shard], start = 0, time.monotonic()
        with metrics.counting_failures():
            commit = self._pipeline.harvest(work, tick=lambda count: self._add(work.shard, count))
        done = Done(work.shard, time.monotonic() - start, sum(commit.object_bytes.values()))
        for name, amount in ((metrics.SHARDS, 1), (metrics.BYTES, done.stored_bytes), (metrics.SECONDS, done.seconds)):
            metrics.count(name, amount)
        return warned.beside(done)

    @ray.method(concurrency_group="progress")
    def rows_done(self) -> int:
        """Samples computed since this worker started."""
        return sum(list(self._rows.values()))

    def _add(self, shard: int, count: int) -> None:
        self._rows[shard] += count
        metrics.count(metrics.SAMPLES, count)


@contextlib.contextmanager
def _actors(run: RunFolder, config: HarvestConfig, workers: ResolvedWorkers, *, at_most: int) -> Iterator[list[Any]]:
    """Workers, killed where the block fails: those that a traceback still holds would keep their CPUs and GPUs from all
    that comes after them. After a signal this process ends, and they end with it."""
    number = min(workers.num_workers, at_most)
    options = {"num_cpus": workers.cpus_per_worker, "num_gpus": workers.gpus_per_worker}
    actors = [Harvester.options(**options).remote(run, config, workers.threads) for _ in range(number)]
    try:
        yield actors
    except BaseException:
        for actor in () if interrupt.came() else actors:
            ray.kill(actor)
        raise


class _Counter:
    """Rows computed by all workers, asked for without ever waiting for one that is busy starting."""

    def __init__(self, actors: list[Any]) -> None:
        self._asked = {actor.rows_done.remote(): actor for actor in actors}
        self._rows: dict[Any, int] = {}

    def poll(self) -> int:
        answered, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for answer in answered:
            actor = self._asked.pop(answer)
            self._rows[actor] = ray.get(answer)
            self._asked[actor.rows_done.remote()] = actor
        return sum(self._rows.values())


if __name__ == "__main__":
    main()
