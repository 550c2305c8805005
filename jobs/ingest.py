"""Instead of a harvest: activations that you computed yourself, from their files into a run folder.

    python -m jobs.ingest --activations FILE_OR_FOLDER_OR_URL --group D8 --out RUN

Each sample is G blocks of C numbers, in the order of the group's elements: of D_n, block k (0 to n - 1) belongs to the
image turned anticlockwise by k/n of a turn, block n + k to the image mirrored left-right first, then turned.
Continues where an earlier, interrupted run of the same command stopped.
"""

import os
import socket
from dataclasses import dataclass, field
from typing import Annotated

import ray
import tyro

from gc_core import ingest, store
from gc_core.ingest import IngestConfig, IngestPlan
from gc_core.io.run_folder import RunFolder
from jobs.common import cluster, console, warned
from jobs.common.options import Waiting, cli


@dataclass(frozen=True, kw_only=True)
class IngestJob:
    """Check activations that exist already, and store them as a harvest would."""

    out: str
    """The run folder: a path or URL. Made if it does not exist, continued if it does."""
    config: Annotated[IngestConfig, tyro.conf.arg(name="")] = field()
    workers: Waiting = field(default_factory=Waiting)
    dry_run: bool = False
    """Open the files, tell what would be stored, and end."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.ingest`."""
    with console.one_line_errors(remedy="The same command continues where it stopped."):
        job = cli(IngestJob, prog="python -m jobs.ingest", args=args, description=__doc__)
        config = job.config.absolute()
        run = RunFolder.at(job.out)
        plan = ingest.plan_ingest(config, ingest.survey(config), format_version=store.version_of(run))
        if job.dry_run:
            ingest.refuse_other_store(run, config, plan)
            console.summary("would ingest", describe(config, plan))
            return
        with cluster.connect():
            cluster.require_cpu(job.workers)
            console.summary("ingested", run_ingest(run, config, plan))


def run_ingest(run: RunFolder, config: IngestConfig, plan: IngestPlan) -> list[tuple[str, str]]:
    """Store what is missing; rows of the summary.

    Raises:
        IngestError: a number is not finite or does not fit float16; the line says where it stands.
    """
    run.claim()
    ingest.write_manifest(run, config, plan)
    ingest.create_store(run, config, plan)
    ingest_missing(run, config, plan)
    mean = store.finish(run)
    return [
        *describe(config, plan),
        ("mean squared block norm", f"{mean:.4g}"),
        ("manifest", run.manifest.url),
        ("activations", run.activations.url),
    ]


def describe(config: IngestConfig, plan: IngestPlan) -> list[tuple[str, str]]:
    """What is stored; rows of the summary."""
    source, types = plan.source, sorted({piece.dtype for piece in plan.source.pieces})
    gb = store.raw_bytes(plan.num_rows, source.order, source.channels) / 1e9
    images = "each sample its own" if plan.ids_I is None else f"{len(plan.ids_I):,}"
    return [
        ("files", f"{len(source.pieces):,}, of {', '.join(types)}"),
        ("samples", f"{plan.num_rows:,} of {source.order} x {source.channels} numbers, in {plan.num_shards} shards"),
        ("images", images),
        ("to store", f"{gb:.3g} GB {store.SAVED[config.compression]}"),
    ]


def ingest_missing(run: RunFolder, config: IngestConfig, plan: IngestPlan) -> None:
    """Store every shard without a commit record, in parallel tasks."""
    done = store.finished_commits(run)
    missing = [shard for shard in range(plan.num_shards) if shard not in done]
    if not missing:
        return
    rows_done = sum(commit.num_rows for commit in done.values())
    planned = ray.put(plan)
    with console.progress("ingest", plan.num_rows, "samples", done=rows_done) as meter:
        stored = cluster.in_order(
            lambda shard: _ingest_shard.remote(run, config, planned, shard), missing, in_flight=2 * cluster.num_cpus()
        )
        for num_rows in stored:
            rows_done += num_rows
            meter.set(rows_done)


def source_faults(run: RunFolder, config: IngestConfig, plan: IngestPlan, shards: list[int]) -> list[str]:
    """Where some shards differ from their source, read again."""
    planned = ray.put(plan)
    faults: list[str] = []
    with console.progress("origin", len(shards), "shards") as meter:
        checked = cluster.in_order(
            lambda shard: _check_source.remote(run, config, planned, shard), shards, in_flight=2 * cluster.num_cpus()
        )
        for done, fault in enumerate(checked, start=1):
            faults += [fault] if fault else []
            meter.set(done)
    return faults


@ray.remote(max_retries=3, retry_exceptions=cluster.RETRIED)
@warned.telling
def _ingest_shard(run: RunFolder, config: IngestConfig, plan: IngestPlan, shard: int) -> int:
    arrays = ingest.compute_shard(plan, shard, seed=config.seed)
    return store.write_shard(run, shard, arrays, attempt=f"{socket.gethostname()}-{os.getpid()}").num_rows


@ray.remote(max_retries=3, retry_exceptions=cluster.RETRIED)
@warned.telling
def _check_source(run: RunFolder, config: IngestConfig, plan: IngestPlan, shard: int) -> str | None:
    return ingest.fault_of_source(run, plan, shard, seed=config.seed)


if __name__ == "__main__":
    main()
