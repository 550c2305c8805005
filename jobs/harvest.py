"""Stage 1: index pictures, compute the activations of every transformed version of sampled centres, store them.

    python -m jobs.harvest --images PICTURES --out RUN

Continues where an earlier, interrupted run of the same command stopped.
"""

import os
import socket
from dataclasses import dataclass, field
from typing import Annotated, Any

import pyarrow as pa
import ray
import torch
import tyro

from gc_core import backbones, groups, harvest, manifest, store
from gc_core.backbones import Backbone
from gc_core.config import HarvestConfig
from gc_core.harvest.plan import ShardWork
from gc_core.images import ImageRef, list_images, some_images
from gc_core.manifest import ImageRecord
from gc_core.run_folder import RunFolder
from gc_core.shards import ShardPlan
from jobs import cluster, console
from jobs.options import Workers

INDEX_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class HarvestJob:
    """Compute the activations of every transformed version of sampled centres, into chunked Zarr."""

    out: str
    """The run folder: a path or URL. Made if it does not exist, continued if it does."""
    config: Annotated[HarvestConfig, tyro.conf.arg(name="")] = field(default_factory=HarvestConfig)
    workers: Workers = field(default_factory=Workers)
    dry_run: bool = False
    """Index the pictures (kept for the real run), tell what would be computed and stored, and end."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.harvest`."""
    job = tyro.cli(HarvestJob, prog="python -m jobs.harvest", args=args, description=__doc__)
    with console.one_line_errors(remedy="The same command continues where it stopped."), cluster.connect():
        run = RunFolder.at(job.out)
        if job.dry_run:
            console.summary("would harvest", foretell(run, job.config))
        else:
            console.summary("harvested", run_harvest(run, job.config, job.workers))


def run_harvest(run: RunFolder, config: HarvestConfig, workers: Workers) -> list[tuple[str, str]]:
    """Index, plan, compute what is missing; rows of the summary."""
    backbone = backbones.load(config.backbone, layer=config.layer, weights=config.weights)
    table = index(run, config, backbone)
    plan = harvest.plan_rows(config, table, backbone)
    harvest.create_store(run, config, plan, backbone)
    compute_missing(run, config, plan, table, workers)
    mean = store.finish(run)
    blocks = f"{groups.parse(config.group).order} x {backbone.channels} numbers"
    field_px = f"field {backbone.receptive_field_px} px"
    return [
        ("pictures", describe_manifest(table)),
        ("samples", f"{plan.num_rows:,} of {blocks}, in {plan.num_shards} shards"),
        ("layer", f"{backbone.name} {backbone.layer}, {field_px}; mean squared block norm {mean:.4g}"),
        ("manifest", run.manifest),
        ("activations", run.activations),
    ]


def foretell(run: RunFolder, config: HarvestConfig) -> list[tuple[str, str]]:
    """What a harvest would do; rows of the summary."""
    backbone = backbones.load(config.backbone, layer=config.layer, weights=config.weights)
    table = index(run, config, backbone)
    plan = harvest.plan_rows(config, table, backbone)
    done = store.commits(run)
    order, missing = groups.parse(config.group).order, plan.num_shards - len(done)
    rows = plan.num_rows - sum(commit.num_rows for commit in done.values())
    return [
        ("pictures", describe_manifest(table)),
        ("samples", f"{plan.num_rows:,} of {order} x {backbone.channels} numbers, in {plan.num_shards} shards"),
        ("to compute", f"{missing} shards, {rows:,} samples, {rows * order:,} forward passes of a field"),
        ("to store", f"at most {store.raw_bytes(rows, order, backbone.channels) / 1e9:.3g} GB; compressed often half"),
        ("requests", f"about {missing * store.REQUESTS_A_SHARD:,} ({store.REQUESTS_A_SHARD} a shard)"),
    ]


def index(run: RunFolder, config: HarvestConfig, backbone: Backbone) -> pa.Table:
    """The manifest: read if it is there and of these pictures, else made by tasks that each look at some pictures."""
    window_px = harvest.field_window_px(groups.parse(config.group), backbone, config.interpolation)
    source = {
        "images": config.images,
        "resize_px": config.resize_px,
        "window_px": window_px,
        "max_stimuli": config.max_stimuli,
        "max_images": config.max_images,
    }
    if (known := manifest.load_if_of(run.manifest, source)) is not None:
        return known
    refs = list_images(config.images, stimulus_px=window_px, max_stimuli=config.max_stimuli)
    refs = some_images(refs, config.max_images, config.seed)
    batches = [refs[i : i + INDEX_BATCH] for i in range(0, len(refs), INDEX_BATCH)]
    records: list[ImageRecord] = []
    with console.progress("index", len(refs), "pictures") as meter:

        def submit(batch: list[ImageRef]) -> ray.ObjectRef[Any]:
            return _inspect.remote(batch, config.resize_px, window_px)

        for found in cluster.in_order(submit, batches, in_flight=2 * cluster.num_cpus()):
            records += found
            meter.set(len(records))
    table = manifest.build(records, source)
    manifest.write(run.manifest, table)
    return table


def compute_missing(run: RunFolder, config: HarvestConfig, plan: ShardPlan, table: pa.Table, workers: Workers) -> None:
    """Deal every shard without a commit record to the workers."""
    done = store.commits(run)
    missing = [shard for shard in range(plan.num_shards) if shard not in done]
    if not missing:
        return
    rows_before = sum(commit.num_rows for commit in done.values())
    wanted = workers.resolve(num_cpus=cluster.num_cpus(), num_gpus=cluster.num_gpus())
    actors = _start_actors(run, config, wanted, at_most=len(missing))
    with console.progress("harvest", plan.num_rows, "samples", done=rows_before) as meter:
        counter = _Counter(actors)
        work = (harvest.shard_work(plan, table, shard) for shard in missing)

        def submit(actor: Any, item: ShardWork) -> ray.ObjectRef[Any]:
            return actor.harvest.remote(item)

        for _ in cluster.deal(actors, work, submit, poll=lambda: meter.set(rows_before + counter.poll())):
            pass
        meter.set(plan.num_rows)


def describe_manifest(table: pa.Table) -> str:
    """`781 used, 19 small, 0 bad` with an example of each reason."""
    counts = {
        row["status"]: row["image_count"]
        for row in table.group_by("status").aggregate([("image", "count")]).to_pylist()
    }
    text = ", ".join(
        f"{counts.get(status, 0):,} {word}" for status, word in (("ok", "used"), ("small", "too small"), ("bad", "bad"))
    )
    reasons = table.filter(pa.compute.not_equal(table["status"], "ok")).slice(0, 1).to_pylist()
    return text + (f" (reasons in the manifest, such as: {reasons[0]['error']})" if reasons else "")


@ray.remote(max_retries=3, retry_exceptions=[OSError])
def _inspect(refs: list[ImageRef], resize_px: int, window_px: int) -> list[ImageRecord]:
    return [manifest.inspect(ref, resize_px=resize_px, window_px=window_px) for ref in refs]


@ray.remote(max_restarts=8, max_task_retries=8, concurrency_groups={"progress": 1})
class Harvester:
    """Keeps the network on its device and computes one shard at a time."""

    def __init__(self, run: RunFolder, config: HarvestConfig, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        self._backbone = harvest.load_backbone(config, device)
        self._run, self._config, self._rows = run, config, 0
        self._attempt = f"{socket.gethostname()}-{os.getpid()}"

    @ray.method(retry_exceptions=[OSError])
    def harvest(self, work: ShardWork) -> int:
        """Compute, write and commit; the shard's number."""
        before = self._rows
        harvest.harvest_shard(self._run, work, self._config, self._backbone, attempt=self._attempt, tick=self._add)
        self._rows = before + work.num_rows  # also right where another attempt had committed
        return work.shard

    @ray.method(concurrency_group="progress")
    def rows_done(self) -> int:
        """Samples computed since this worker started."""
        return self._rows

    def _add(self, count: int) -> None:
        self._rows += count


def _start_actors(run: RunFolder, config: HarvestConfig, workers: Workers, *, at_most: int) -> list[Any]:
    number = min(workers.num_workers or 1, at_most)
    options = {"num_cpus": workers.cpus_per_worker, "num_gpus": workers.gpus_per_worker}
    return [
        Harvester.options(**options).remote(run, config, max(1, int(workers.cpus_per_worker))) for _ in range(number)
    ]


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
