"""Metrics for those who watch: TensorBoard, Weights & Biases, MLflow. What goes wrong there never stops a training."""

import importlib
import importlib.util
import logging
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from gc_core.config import TrainConfig
from gc_core.io import objects
from gc_core.io.location import Location

LoggerName = Literal["tensorboard", "wandb", "mlflow"]

MOST_WAITING = 1000
"""Rows that wait for a slow logger; more are left out there (metrics.parquet has them all)."""
CLOSE_S = 30.0
"""How long a finished training waits for its loggers."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is logged."""

    folder: Location
    """The crosscoder's folder, a path or URL."""
    name: str
    """The crosscoder's name."""
    config: Mapping[str, Any]
    """Plain values."""


class Logger(Protocol):
    """Takes one row of metrics after another."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def usual() -> tuple[LoggerName, ...]:
    """What is on without being asked for: TensorBoard, where a package that writes its files is installed."""
    return ("tensorboard",) if importlib.util.find_spec("tensorboardX") else ()


def check_installed(names: Iterable[LoggerName]) -> None:
    """Raise ValueError for a logger whose package is not installed."""
    for name in names:
        package = {"tensorboard": "tensorboardX"}.get(name, name)
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"loggers: {name} needs the package {package}, which is not installed; install it, or leave {name} out"
            )


@contextmanager
def following(
    names: Sequence[LoggerName], folders: Mapping[str, Location], configs: Mapping[str, TrainConfig]
) -> Iterator[Callable[[Sequence[Mapping[str, float]]], None]]:
    """Loggers for each crosscoder by name, until the block ends: takes the newest row of metrics of each, in order."""
    with ExitStack() as stack:
        opened = [
            [stack.enter_context(closing(open_logger(logger, subject))) for logger in names]
            for subject in (
                Subject(folder=folders[name], name=name, config=config.to_json()) for name, config in configs.items()
            )
        ]

        def log(rows: Sequence[Mapping[str, float]]) -> None:
            for loggers, row in zip(opened, rows, strict=True):
                for logger in loggers:
                    logger.log(int(row["step"]), {name: value for name, value in row.items() if name != "step"})

        yield log


def open_logger(name: LoggerName, subject: Subject) -> "Guarded":
    """A logger that works in a thread of its own, and whose failures are one warning.

    Raises:
        ValueError: its package is not installed.
    """
    check_installed([name])
    make: dict[LoggerName, Callable[[Subject], Logger]] = {
        "tensorboard": TensorBoard,
        "wandb": WeightsAndBiases,
        "mlflow": MLflow,
    }
    return Guarded(name, lambda: make[name](subject))


class Guarded:
    """Any logger, made and called in its own thread: it may fail or hang, and training goes on."""

    def __init__(self, name: str, make: Callable[[], Logger]) -> None:
        self._name = name
        self._rows: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, args=(make,), name=f"log-{name}", daemon=True)
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand over one row; never waits."""
        if self._thread.is_alive() and not self._rows.full():
            self._rows.put((step, dict(metrics)))

    def close(self) -> None:
        """Let it finish what it was given, for CLOSE_S at most."""
        if self._thread.is_alive() and not self._rows.full():
            self._rows.put(None)
        self._thread.join(CLOSE_S)

    def _work(self, make: Callable[[], Logger]) -> None:
        try:
            with closing(make()) as logger:
                for step, metrics in iter(self._rows.get, None):
                    logger.log(step, metrics)
        except Exception as error:  # theirs may be anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            log.warning(
                "%s stopped (%s); training goes on, metrics.parquet has all rows", self._name, reason, exc_info=True
            )


class TensorBoard:
    """Event files in the crosscoder's folder `tensorboard/`; on object storage uploaded after every row."""

    def __init__(self, subject: Subject) -> None:
        self._url = subject.folder / "tensorboard"
        self._temporary = None if self._url.is_local else tempfile.TemporaryDirectory()
        self._at = Path(self._temporary.name if self._temporary else self._url.local_path)
        self._writer = importlib.import_module("tensorboardX").SummaryWriter(str(self._at))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        self._upload()

    def close(self) -> None:
        self._writer.close()
        if self._temporary:
            self._upload()
            self._temporary.cleanup()

    def _upload(self) -> None:
        for path in self._at.iterdir() if self._temporary else ():
            objects.write(self._url, path.name, path.read_bytes())


class WeightsAndBiases:
    """A run of the project that WANDB_PROJECT names; where it goes, its own settings say."""

    def __init__(self, subject: Subject) -> None:
        wandb = importlib.import_module("wandb")
        # One process may train several dictionaries, each a run of its own.
        self._run = wandb.init(name=subject.name, config=dict(subject.config), reinit="create_new")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of the experiment that MLFLOW_EXPERIMENT_NAME names, at MLFLOW_TRACKING_URI."""

    def __init__(self, subject: Subject) -> None:
        self._mlflow = importlib.import_module("mlflow")
        self._run_id = self._mlflow.start_run(run_name=subject.name).info.run_id
        self._mlflow.log_params(dict(subject.config), run_id=self._run_id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(metrics), step=step, run_id=self._run_id)

    def close(self) -> None:
        self._mlflow.end_run()
