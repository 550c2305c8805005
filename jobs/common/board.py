"""What workers that train tell whoever started them: metrics, warnings, and errors that no repetition mends.

On a board that all know, an actor of Ray: progress is read from it, and a training that is left early ended through it.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.common import console, interrupt, warned

POLL_S = 0.5
SECONDS_TO_ANSWER = 5


@ray.remote(num_cpus=0)
class Board:
    """The newest metrics by crosscoder, warnings, and an error that no repetition mends, for whoever watches."""

    def __init__(self) -> None:
        self._metrics: dict[str, dict[str, float]] = {}
        self._user_error: str | None = None
        self._warnings: dict[str, bool] = {}
        self._workers: list[Any] = []
        self._at_work: int | None = None

    def join(self, worker: Any) -> None:
        """A worker has started."""
        self._workers.append(worker)

    def workers(self) -> list[Any]:
        return self._workers

    def write(self, metrics: dict[str, dict[str, float]]) -> None:
        self._metrics = metrics

    def read(self) -> dict[str, dict[str, float]]:
        return self._metrics

    def fail(self, error: str) -> None:
        self._user_error = self._user_error or error

    def user_error(self) -> str | None:
        return self._user_error

    def at_work(self, number: int, most: int) -> None:
        """So many workers train from now on, of those wished for; said where it changes, or is fewer."""
        if number != (self._at_work or most):
            self.warn(f"training has {number} of {most} workers since {time.strftime('%H:%M:%S')}")
        self._at_work = number

    def warn(self, line: str) -> None:
        """Each line once, however many workers say it."""
        self._warnings.setdefault(line, False)

    def new_warnings(self) -> list[str]:
        new = [line for line, told in self._warnings.items() if not told]
        self._warnings |= dict.fromkeys(new, True)
        return new


def put_up() -> Any:
    """A new board, on this process's own machine: any other may be lost, and every worker with the board."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Board.options(scheduling_strategy=here).remote()


@contextlib.contextmanager
def shown(board: Any, num_steps: int, done: int) -> Iterator[None]:
    """Progress from the workers' board, until the block ends."""
    stop = threading.Event()
    with console.progress("train", num_steps, "steps", done=done) as meter:

        def follow() -> None:
            with contextlib.suppress(ray.exceptions.RayError):  # who waits for the training is told of it
                while not stop.wait(POLL_S):
                    show()

        def show() -> None:
            for line in ray.get(board.new_warnings.remote()):
                warned.say(line)
            if metrics := ray.get(board.read.remote()):
                meter.set(next(iter(metrics.values()))["step"], progress_note(metrics))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        show()


@contextlib.contextmanager
def ended(board: Any) -> Iterator[None]:
    """A training that is left before its end gives back the CPUs and GPUs of a Ray that goes on: its workers are
    killed, and those that Ray starts in their place find on the board that there is nothing to do. After a signal this
    process ends, and they end with it: parts of Ray may have got it too, and answer no more."""
    try:
        yield
    except BaseException:
        if interrupt.came():
            raise
        with contextlib.suppress(ray.exceptions.RayError):  # Ray may have ended first
            board.fail.remote("interrupted")
            for worker in ray.get(board.workers.remote(), timeout=SECONDS_TO_ANSWER):
                ray.kill(worker)
        raise


def progress_note(metrics: dict[str, dict[str, float]]) -> str:
    """The newest figures of each crosscoder, in one line; by name, where there are several."""
    figures = {
        name: f"FVU {short(row.get('fvu'))}  L0 {row['l0']:.1f}  dead {row['dead_share']:.1%}"
        for name, row in metrics.items()
    }
    if len(figures) == 1:
        return next(iter(figures.values()))
    return " | ".join(f"{name}: {text}" for name, text in figures.items())


def short(share: float | None) -> str:
    """A share of the variance, in three digits."""
    return "undefined" if share is None else f"{share:.3f}"
