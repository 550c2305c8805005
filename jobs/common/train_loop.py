"""What every training worker of Ray runs: `gc_core.train.train`, and what belongs around it on a cluster."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from gc_core import train as training
from gc_core.config import ResolvedTrainConfig
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.lease import Term, check_all
from gc_core.io.location import Location
from gc_core.io.objects import UnavailableError
from gc_core.io.run_folder import RunFolder
from gc_core.parallel import Mesh, join
from gc_core.train.checkpoint import METRICS, Keep, write_metrics
from gc_core.train.loggers import LoggerName, following, usual
from gc_core.train.recovery import Checkpointing
from jobs.common import warned
from jobs.common.company import Company
from jobs.common.options import Cache


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What a training leaves and tells on its way; none of it changes the result."""

    keep: Keep = field(default_factory=Keep)
    """Which checkpoints stay; one is written every `checkpoint_every` steps."""
    loggers: tuple[LoggerName, ...] = field(default_factory=usual)
    """Where metrics go besides metrics.parquet; TensorBoard, where tensorboardX is installed."""
    cache: Cache = field(default_factory=Cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """All that a worker is told."""

    run: RunFolder
    configs: Mapping[str, ResolvedTrainConfig]
    """Configs by the crosscoders' names."""
    mesh: Mesh
    """Of all workers; while some are missing, those that are there form a smaller one."""
    threads: int
    """Threads of a worker without a GPU."""
    board: Any
    """A handle of `jobs.common.board.Board`."""
    terms: tuple[Term, ...]
    """Leases' terms in which this job may write to the crosscoders' folders."""
    upkeep: Upkeep
    until: int | None = None
    """The step at which all stop for now, unfinished; None for the last."""

    @property
    def last_step(self) -> int:
        """Where this job stops."""
        return self.first.steps if self.until is None else min(self.until, self.first.steps)

    @property
    def first(self) -> ResolvedTrainConfig:
        """Any one: what decides data and steps is the same in all."""
        return next(iter(self.configs.values()))

    @property
    def folders(self) -> dict[str, Location]:
        """Each crosscoder's, by name."""
        return {name: self.run.crosscoder(name) for name in self.configs}


def train_loop(given: dict[str, LoopSettings]) -> None:
    """What every training worker runs, until it ends or the user's data or options are at fault.

    Ray repeats whatever raises. So such an error goes to the board: a lonely worker then simply ends; one of several
    must raise, to free those that wait for it, and all end when they are started again.
    """
    settings = given["settings"]  # Ray hands over a dict
    board = settings.board
    ray.get(board.join.remote(ray.get_runtime_context().current_actor))
    if ray.get(board.user_error.remote()):
        return
    try:
        _train(settings)
    except UnavailableError:
        raise  # another try may succeed
    except (ValueError, FloatingPointError, OSError) as error:
        ray.get(board.fail.remote(str(error)))
        if ray.train.get_context().get_world_size() > 1:
            raise


def _train(settings: LoopSettings) -> None:
    """Metrics are shown by the first worker; what is finished, it writes."""
    worker, before_writing = _worker(settings), partial(check_all, settings.terms)
    if worker is None:  # the lanes cannot be shared out to as many as there are now
        return
    if worker.rank == 0:
        settings.board.at_work.remote(worker.mesh.num_workers, settings.mesh.num_workers)
    data = training.open_data(settings.run, settings.first, cache=settings.upkeep.cache.open())
    loggers = settings.upkeep.loggers if worker.rank == 0 else ()
    with (
        warned.listening(settings.board.warn.remote),
        following(loggers, settings.folders, settings.configs) as log,
    ):
        company = Company(settings.threads if worker.device == "cpu" else 1)

        def report(metrics: list[dict[str, float]]) -> None:
            company.look()
            if worker.rank == 0:
                settings.board.write.remote(dict(zip(settings.configs, metrics, strict=True)))
            log(metrics)

        trainers = training.train(
            list(settings.configs.values()),
            data,
            worker,
            report=report,
            checkpointing=Checkpointing(
                folders=list(settings.folders.values()),
                keep=settings.upkeep.keep,
                before_writing=before_writing,
                urgent=_before_preemption(worker),
            ),
            until=settings.until,
        )
    if settings.last_step < settings.first.steps:
        return
    for folder, trainer in zip(settings.folders.values(), trainers, strict=True):
        _export(folder, trainer, before_writing)


def _before_preemption(worker: training.Worker) -> Callable[[], bool]:
    """Tells once of every set of machines that the cluster is about to lose. Ray asks all of its workers together, so
    where some of them are idle nobody can, and the usual checkpoints must do."""
    if ray.train.get_context().get_world_size() > worker.mesh.num_workers:
        return lambda: False
    told = set[str]()

    def urgent() -> bool:
        info = ray.train.get_preemption_info()
        leaving = set(info.preempted_node_ids) - told if info else set[str]()
        told.update(leaving)
        return bool(leaving)

    return urgent


def _worker(settings: LoopSettings) -> training.Worker | None:
    """This process, as Ray numbers it; on a CPU with its threads. None where the others are enough."""
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(settings.threads)
        training.keep_freed_memory()
    mesh = settings.mesh.within(context.get_world_size(), lanes=settings.first.lanes)
    if mesh is None:
        raise RuntimeError(f"{context.get_world_size()} workers cannot hold the {settings.mesh.shards} shards")
    return join(mesh, rank=context.get_world_rank(), device=str(device))


def _export(folder: Location, trainer: training.Trainer, before_writing: Callable[[], None]) -> None:
    """The finished model in the run folder; `results` in config.json are written last and mean that all is there.

    Every worker must call it; the first one writes.
    """
    model = trainer.exported()  # the parts of all workers
    if trainer.worker.rank > 0 or model is None:
        return
    before_writing()
    hashes = {METRICS: write_metrics(folder, trainer.metrics)}
    model.save(folder)
    results = {"fvu": None, "held_out_fvu": None, **trainer.metrics[-1]}  # what is undefined is null
    about = {"train": trainer.config.to_json(), "results": results, "finished_unix_s": int(time.time())}
    config = read_json(folder, "config.json")
    write_json(folder, "config.json", {**config, **about, "files": {**config["files"], **hashes}})
