"""Measurements of which each visit is in a process of its own, plain and ours in turn: seconds, and memory that no file
stands for, above what the process had before. Ratios are plain over ours, medians of rounds.
"""

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from rich.table import Table

from jobs.common import console

WAYS = ("plain", "ours")
WATCH_S = 0.002

Case = tuple[str, int]
"""A task, and how large it is."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What one process measured."""

    seconds: float
    peak_bytes: int


class Peak:
    """The most memory of this process, of what no file stands for, at the moments that it was asked, or watched."""

    def __init__(self) -> None:
        self._before, self.num_bytes = _anonymous_bytes(), 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask every few milliseconds until the block ends."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(WATCH_S):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def look(self) -> None:
        """Ask now."""
        self.num_bytes = max(self.num_bytes, _anonymous_bytes() - self._before)


def measured(
    cases: Sequence[Case], *, rounds: int, visit: Callable[[str, int, str], Visit]
) -> list[dict[str, float | str]]:
    """One row a case; `visit` gets its task, its size and the way."""
    visits: dict[tuple[str, int, str], list[Visit]] = {}
    for number in range(rounds):
        console.say(f"round {number + 1} of {rounds}")
        for task, size in cases:
            for way in WAYS:
                visits.setdefault((task, size, way), []).append(visit(task, size, way))
    return [_row(task, size, *(visits[task, size, way] for way in WAYS)) for task, size in cases]


def in_a_fresh_process(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of a module gives there."""
    context = get_context("forkserver")
    context.set_forkserver_preload([work.__module__])  # imports take longer than small visits
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *args, **kwargs).result()


def show(rows: list[dict[str, float | str]], title: str, sizes: str) -> None:
    """A table, one line a case; `sizes` says what their size is."""
    table = Table(title=title)
    for heading in ("task", sizes, "s", "plain / ours", "MB", "plain / ours"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for row in rows:
        figures = [f"{row[name]:,.2f}" for name in ("seconds", "seconds_ratio", "megabytes", "megabytes_ratio")]
        table.add_row(str(row["task"]), f"{row['size']:,}", *figures)
    console.console.print(table)


def _row(task: str, size: int, plain: list[Visit], ours: list[Visit]) -> dict[str, float | str]:
    def ratio(name: str) -> float:
        return statistics.median(
            max(1, getattr(a, name)) / max(1, getattr(b, name)) if name == "peak_bytes" else a.seconds / b.seconds
            for a, b in zip(plain, ours, strict=True)
        )

    return {
        "task": task,
        "size": size,
        "seconds": statistics.median(each.seconds for each in ours),
        "seconds_ratio": ratio("seconds"),
        "megabytes": statistics.median(each.peak_bytes for each in ours) / 1e6,
        "megabytes_ratio": ratio("peak_bytes"),
    }


def _anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
