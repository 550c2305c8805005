"""Checkpoints of a training under way: written beside the next steps, thinned out, found again by the next attempt."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

from gc_core.config import ResolvedTrainConfig
from gc_core.io.json_objects import read_json
from gc_core.io.location import Location
from gc_core.parallel.collectives import of_first_worker
from gc_core.parallel.sharded_state import num_parts
from gc_core.parallel.worker import Worker
from gc_core.train.checkpoint import (
    Checkpoint,
    Keep,
    checkpoints,
    delete_older,
    host_copy,
    load,
    name_of,
    save_part,
    write_metrics,
)
from gc_core.train.more_steps import goes_on_from
from gc_core.train.trainer import Trainer

NAMES_ITS_CONFIG = 2
"""Format version of a crosscoder's folder from which on checkpoints say what options they are of."""
CHECKPOINTS = "checkpoints"
"""Folder in a crosscoder's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointing:
    """Where the crosscoders of one stream keep their checkpoints, and which stay."""

    folders: Sequence[Location]
    """Each crosscoder's own, in the order of their configs."""
    keep: Keep = field(default_factory=Keep)
    before_writing: Callable[[], None] = lambda: None
    """May refuse by raising, where the folders are another's by now."""
    urgent: Callable[[], bool] = lambda: False
    """Whether to write checkpoints now, for a machine will soon be gone. Every worker asks after the same steps, and
    all must hear the same."""


def newest(folders: Sequence[Location]) -> list[Checkpoint]:
    """The newest checkpoint of each crosscoder, all of one step; empty if there is no step that all have."""
    by_step = _by_step(folders)
    return [of_step[max(by_step[0])] for of_step in by_step] if by_step[0] else []


class Recovery:
    """Where crosscoders of one stream keep their checkpoints, and their metrics so far. Every worker has one.

    Each worker writes what it alone holds, in a thread of its own; at most one set of checkpoints is on its way. What
    goes wrong there is raised by the next call. As a context it waits at the end until everything is written.
    """

    def __init__(self, kept: Checkpointing, worker: Worker) -> None:
        self._folders, self._worker, self._keep = list(kept.folders), worker, kept.keep
        self._before_writing, self._urgent = kept.before_writing, kept.urgent
        self._attempt = f"{of_first_worker(secrets.randbits(31), worker):08x}"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None
        self._metrics: list[list[dict[str, Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if error is None and self._metrics:
            self._wait()
            of_first_worker(0, self._worker)  # every worker comes here when all its parts are written
            self._before_writing()
            self._delete_others()

    def resume(self, trainers: Sequence[Trainer]) -> None:
        """Put the trainers where the newest checkpoints left off, if there are any.

        Raises:
            ValueError: a checkpoint is damaged, or of other options.
            OSError: a checkpoint cannot be read, or the workers see different ones.
        """
        latest = newest(self._folders)
        step = latest[0].step if latest else 0
        if (first := of_first_worker(step, self._worker)) != step:
            raise OSError(f"{self._folders[0]}: a checkpoint of step {step} found, the first worker's is of {first}")
        for trainer, checkpoint, folder in zip(trainers, latest, self._folders, strict=bool(latest)):
            state = load(checkpoint)
            _refuse_other_config(state, checkpoint, folder, trainer.config)
            trainer.restore(state)

    def save(self, trainers: Sequence[Trainer]) -> None:
        """Copy the states to memory of their own and have them written, once those before are."""
        self._wait()
        states = [host_copy(trainer.state()) if _writes(trainer, self._worker) else None for trainer in trainers]
        self._metrics = [list(trainer.metrics) for trainer in trainers]
        self._under_way = self._thread.submit(self._write, trainers[0].step, states)

    def is_urgent(self) -> bool:
        """Whether checkpoints should be written now; every worker must ask together."""
        return self._urgent()

    def check(self) -> None:
        """Raise what went wrong in writing so far; never waits."""
        if self._under_way and self._under_way.done():
            self._wait()

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way:
            under_way.result()

    def _write(self, step: int, states: list[dict[str, Any] | None]) -> None:
        self._before_writing()
        for folder, state in zip(self._folders, states, strict=True):
            if state is not None:
                save_part(folder / CHECKPOINTS / name_of(step, self._attempt), state)
        if self._worker.rank == 0:
            for folder, metrics in zip(self._folders, self._metrics, strict=True):
                write_metrics(folder, metrics)
            self._delete_others()

    def _delete_others(self) -> None:
        """Leave the newest checkpoints and the best, of those steps that all crosscoders have."""
        by_step = _by_step(self._folders) if self._worker.rank == 0 else []
        for folder, of_step, metrics in zip(self._folders, by_step, self._metrics, strict=bool(by_step)):
            held_out = {row["step"]: row["held_out_fvu"] for row in metrics if "held_out_fvu" in row}
            best = sorted(of_step.keys() & held_out.keys(), key=lambda step: held_out[step])[: self._keep.best]
            last = sorted(of_step)[-self._keep.last :]
            delete_older(folder / CHECKPOINTS, keep=[of_step[step] for step in {*best, *last}])


def _refuse_other_config(
    state: Mapping[str, Any], checkpoint: Checkpoint, folder: Location, config: ResolvedTrainConfig
) -> None:
    """A checkpoint says which options it is of; earlier versions' are believed beside such a version's config.json."""
    remedy = f"choose another --name, or delete {folder / CHECKPOINTS}"
    if "config" in state:
        other = ResolvedTrainConfig.from_json(state["config"])
        if goes_on_from(config, other, state["step"]):
            return
        if changed := config.differences(other):
            raise ValueError(f"{checkpoint.folder}: was trained with other options ({'; '.join(changed)}); {remedy}")
    elif _version_of(folder) >= NAMES_ITS_CONFIG:
        raise ValueError(f"{checkpoint.folder}: an earlier version's, and the config.json beside it is not; {remedy}")


def _version_of(folder: Location) -> int:
    try:
        return int(read_json(folder, "config.json").get("format_version", 1))
    except FileNotFoundError:
        return 1


def _by_step(folders: Sequence[Location]) -> list[dict[int, Checkpoint]]:
    """Each crosscoder's checkpoints, of the steps that all have."""
    by_step = [{each.step: each for each in checkpoints(folder / CHECKPOINTS)} for folder in folders]
    common = set.intersection(*(set(of_step) for of_step in by_step))
    return [{step: of_step[step] for step in common} for of_step in by_step]


def _writes(trainer: Trainer, worker: Worker) -> bool:
    """Whether this worker's part is no copy of another's: with the features split, the first replica's workers."""
    return worker.rank < num_parts(trainer.state())
