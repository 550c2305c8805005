"""Check a run's activations: every shard is there, whole and finite, and some rows are what their images give.

python -m jobs.verify RUN             reads only; ends with code 1 where something is wrong
python -m jobs.verify RUN --repair    computes again what is damaged or missing
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import ray
import tyro

from gc_core import bounds, harvest, ingest, manifest, store
from gc_core.analyse import faults_of_artefacts, not_protected
from gc_core.backbones import AnyBackbone
from gc_core.backbones.networks import runs_code
from gc_core.config import HarvestConfig
from gc_core.harvest.plan import ShardWork
from gc_core.images.moved import Move
from gc_core.ingest import IngestConfig, IngestPlan
from gc_core.io.run_folder import RunFolder
from gc_core.store import StoreError
from jobs.common import cluster, console, warned
from jobs.common.options import MovedImages, Workers, cli
from jobs.harvest import compute_missing
from jobs.ingest import ingest_missing, source_faults

TOLD = 10
"""Faults that are told in full."""
IMAGES_A_SHARD = 3


@dataclass(frozen=True, kw_only=True)
class VerifyJob(MovedImages):
    """Check a run's activations, and with --repair compute again what is damaged."""

    run: tyro.conf.Positional[str]
    """The run folder: a path or URL. Nothing is written there without --repair."""
    repair: bool = False
    """Compute again from the images, or read again from the files that were ingested, what is damaged or missing."""
    sample: int = 4
    """Shards of which some rows are computed again and compared; 0 for none."""
    workers: Workers = field(default_factory=Workers)

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds.Bound(0, bounds.SAMPLES.most).refuse("sample", self.sample)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.verify`."""
    with console.one_line_errors(remedy="Nothing was lost; run the same command again."):
        job = cli(VerifyJob, prog="python -m jobs.verify", args=args, description=__doc__)
        with cluster.connect():
            sound = run_verify(job)
        if not sound:
            sys.exit(1)


def run_verify(job: VerifyJob) -> bool:
    """Check, tell, and repair if asked; whether the run is sound at the end."""
    cluster.require_cpu(job.workers)
    run = RunFolder.at(job.run)
    opened = store.open_store(run, unfinished=True)
    kind = IngestConfig if ingest.is_ingested(opened.attrs) else HarvestConfig
    config = kind.from_json(opened.attrs["config"])
    faults = _shard_faults(run, range(opened.num_shards))
    _tell(list(faults.values()))
    if faults and job.repair:
        if code := _own_code(config):
            said = f"{run.url}: its samples need {code}, code that is not run because a store names it"
            raise ValueError(f"{said}; delete the records of damaged shards in commits/ and run its jobs.harvest again")
        _repair(run, config, job, faults)
        faults = _shard_faults(run, sorted(faults))
        _tell(list(faults.values()))
    numbers = _number_faults(run, opened, shards_sound=not faults, mend=job.repair and not faults)
    _tell(numbers)
    sound = [shard for shard in range(opened.num_shards) if shard not in faults]
    strange = [] if numbers or _own_code(config) else _origin_faults(run, config, sound, job)
    _tell(strange)
    artefacts = list(faults_of_artefacts(run))
    _tell(artefacts)
    if job.repair and not faults:
        store.finish(run)
    unfinished = None if faults else _unfinished(run)
    _tell([unfinished] if unfinished else [])
    wrong = bool(faults or numbers or strange or artefacts or unfinished)
    rows = _rows(run, opened.num_shards, faults, strange, job.sample)
    rows += [
        ("numbers", f"{len(numbers)} faults in the mean and the manifest"),
        ("results", f"{len(artefacts)} faults"),
        *_bare(run, opened),
    ]
    console.summary("wrong" if wrong else "sound", rows)
    return not wrong


def _number_faults(run: RunFolder, opened: store.Store, *, shards_sound: bool, mend: bool) -> list[str]:
    """What is wrong outside the shards: the mean, recomputed of the shards' sums if they are sound, else they are told
    and say nothing of it; and the manifest and its splits. With `mend`, what can be told from parts that are sound is
    written anew."""
    faults = mean_faults(run, mend=mend) if shards_sound else []
    sha256 = opened.attrs.get(store.MANIFEST)
    try:
        table = manifest.load_table(run.manifest)
    except FileNotFoundError:
        return [*faults, f"{run.manifest}: not found; images cannot be found again without it"]
    except ValueError as error:
        return [*faults, str(error)]
    fault = manifest.fault_of_splits(run.manifest, table)
    if fault and mend and manifest.mend_splits(run.manifest, table, sha256):
        fault = None
    if fault is None and sha256 not in (None, manifest.digest_of(run.manifest)):
        fault = f"{run.manifest}: is not the one that the store was made with, or is damaged; restore it from a copy"
    return [*faults, *([fault] if fault else [])]


def mean_faults(run: RunFolder, *, mend: bool) -> list[str]:
    """Faults of the mean; or that a shard, which was sound before, has changed since."""
    try:
        fault = store.fault_of_mean(run)
        if fault and mend:
            store.finish(run)
            fault = store.fault_of_mean(run)
    except StoreError as error:
        return [str(error)]
    return [fault] if fault else []


def _bare(run: RunFolder, opened: store.Store) -> list[tuple[str, str]]:
    """What nothing could be compared with, in a row of its own if there is any."""
    paths = [*(() if store.MANIFEST in opened.attrs else ["manifest.parquet"]), *not_protected(run)]
    more = f" and {len(paths) - TOLD} more" if len(paths) > TOLD else ""
    told = f"{', '.join(paths[:TOLD])}{more}: written before hashes were recorded; damage to them would go unnoticed"
    return [("not protected", told)] if paths else []


def _rows(run: RunFolder, num_shards: int, faults: dict[int, str], strange: list[str], sample: int) -> list[Any]:
    return [
        ("run", run.url),
        ("shards", f"{num_shards - len(faults):,} of {num_shards:,} whole, with the checksums of their records"),
        (
            "origin",
            f"{len(strange)} differences in {min(sample, num_shards - len(faults))} shards computed in part again",
        ),
    ]


def _shard_faults(run: RunFolder, shards: Any) -> dict[int, str]:
    """What is wrong, by shard."""
    faults: dict[int, str] = {}
    with console.progress("verify", len(shards), "shards") as meter:
        checked = cluster.in_order(
            lambda shard: _check_shard.remote(run, shard), shards, in_flight=2 * cluster.num_cpus()
        )
        for done, (shard, fault) in enumerate(zip(shards, checked, strict=True), start=1):
            if fault:
                faults[shard] = fault
            meter.set(done)
    return faults


def _own_code(config: HarvestConfig | IngestConfig) -> str:
    """Code of a user's own that makes the samples: a stranger's store could name any; empty where there is none."""
    if isinstance(config, IngestConfig):
        return ""
    if config.is_own_group:
        return config.group
    return config.backbone if runs_code(config.backbone) else ""


def _origin_faults(run: RunFolder, config: HarvestConfig | IngestConfig, sound: list[int], job: VerifyJob) -> list[str]:
    chosen = sorted(np.random.default_rng(config.seed).permutation(sound)[: job.sample].tolist())
    if not chosen:
        return []
    if isinstance(config, IngestConfig):
        return source_faults(run, config, _ingest_plan(run, config), chosen)
    plan, table = _plan(run, config, job.moves())
    work = [harvest.shard_work(plan, table, shard) for shard in chosen]
    with console.progress("origin", len(work), "shards") as meter:
        checked = cluster.in_order(
            lambda item: _check_origin.remote(run, item, config), work, in_flight=cluster.num_cpus()
        )
        faults: list[str] = []
        for done, fault in enumerate(checked, start=1):
            faults += [fault] if fault else []
            meter.set(done)
    return faults


def _repair(run: RunFolder, config: HarvestConfig | IngestConfig, job: VerifyJob, faults: dict[int, str]) -> None:
    for shard in faults:
        store.discard_commit(run, shard)
    if isinstance(config, IngestConfig):
        ingest_missing(run, config, _ingest_plan(run, config))
        return
    plan, table = _plan(run, config, job.moves())
    compute_missing(run, config, plan, table, job.workers)


def _plan(run: RunFolder, config: HarvestConfig, moves: Sequence[Move]) -> tuple[Any, Any]:
    """The harvest's own plan, and its images where they are now.

    Raises:
        StoreError: the manifest is not the one of this store.
    """
    try:
        table = manifest.load_table(run.manifest)
    except FileNotFoundError:
        raise StoreError(f"{run.manifest}: not found; images cannot be found again without it") from None
    opened = store.open_store(run, unfinished=True)
    plan = harvest.plan_rows(config, table, _backbone(config), format_version=opened.attrs["format_version"])
    if (plan.num_rows, plan.shard_rows) != (opened.num_rows, opened.shard_rows):
        found = f"{plan.num_rows} samples planned from it, the store has {opened.num_rows}"
        raise StoreError(f"{run.manifest}: does not belong to this store ({found}); restore both from one copy")
    return plan, manifest.relocated(table, moves)


def _ingest_plan(run: RunFolder, config: IngestConfig) -> IngestPlan:
    """The plan of the files as they are now.

    Raises:
        ValueError: they cannot be read, or are others than those that were ingested.
    """
    plan = ingest.plan_ingest(config, ingest.survey(config), format_version=store.version_of(run))
    ingest.refuse_other_store(run, config, plan)
    return plan


def _unfinished(run: RunFolder) -> str | None:
    try:
        store.open_store(run)
    except StoreError as error:
        return str(error)
    return None


def _tell(faults: list[str]) -> None:
    for fault in faults[:TOLD]:
        console.say(fault)
    if len(faults) > TOLD:
        console.say(f"... and {len(faults) - TOLD} more")


@lru_cache(maxsize=1)
def _backbone(config: HarvestConfig) -> AnyBackbone:
    return harvest.network_of(config)


@lru_cache(maxsize=1)
def _computing(config: HarvestConfig) -> AnyBackbone:
    """Loaded once by each worker."""
    return harvest.load_backbone(config, "cpu")


@ray.remote(max_retries=3, retry_exceptions=cluster.RETRIED)
@warned.telling
def _check_shard(run: RunFolder, shard: int) -> str | None:
    return harvest.fault_of_shard(run, shard)


@ray.remote(max_retries=3, retry_exceptions=cluster.RETRIED)
@warned.telling
def _check_origin(run: RunFolder, work: ShardWork, config: HarvestConfig) -> str | None:
    return harvest.fault_of_origin(run, work, config, _computing(config), num_images=IMAGES_A_SHARD)


if __name__ == "__main__":
    import_module("jobs.verify").main()  # workers find the caches of this module by its name, which is not __main__
