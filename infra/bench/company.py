"""What other work on the same cores does to a training step, by number of threads.

    python -m infra.bench company [--json FILE] [--paths sparse tied] [--neighbours 0 1 2] [--rounds 3]

Neighbours are processes that do nothing but keep a core busy. Each path has a process of its own, in which every number
of threads meets every number of neighbours in turn, round after round: figures are medians of rounds, with the smallest
and the largest beside them. `of its own time alone` is how much longer a step takes than without neighbours; where
neighbours and threads share cores fairly, n threads beside m neighbours on c cores must take (n + m) / c times as
long, where that is above 1, and what is above that is lost in waiting.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table
from torch import Tensor

from gc_core.train import keep_freed_memory
from infra.bench import machine
from infra.bench.results import write_results
from infra.bench.training import PLAIN, Size, make_step, random_batches
from infra.bench.visits import in_a_fresh_process
from jobs.common import console
from jobs.common.options import cli

Meeting = tuple[int, int]
"""Threads and neighbours."""
SETTLE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class CompanyBench:
    """Measure training steps beside busy processes."""

    features: int = 16384
    """Of D8 and 64 channels, in batches of 512."""
    paths: tuple[Literal["reference", "sparse", "sparse_lazy", "tied"], ...] = ("reference", "sparse", "tied")
    threads: tuple[int, ...] = (2, 1)
    neighbours: tuple[int, ...] = (0, 1, 2)
    """Busy processes."""
    rounds: int = 3
    seconds: float = 2
    """About how long each measurement takes; it takes three steps at least."""
    json: Path | None = None
    """Write the results here: a list of flat objects, one a path, number of threads and number of neighbours."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench company`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(CompanyBench, prog="python -m infra.bench company", args=args, description=__doc__)
        rows: list[dict[str, Any]] = []
        for path in options.paths:
            console.say(f"{path}: {options.rounds} rounds")
            rows += rows_of(path, in_a_fresh_process(visit, path, options))
        if options.json is not None:
            write_results(options.json, rows)
        show(rows)


def visit(path: str, options: CompanyBench) -> dict[Meeting, list[float]]:
    """Seconds of a step, of each round, by threads and neighbours."""
    size = Size(group="D8", channels=64, features=options.features)
    if path not in PLAIN:
        keep_freed_memory()
    step, pool_NBGC = make_step(size, path, "cpu"), random_batches(size, "cpu")
    for acts_BGC in pool_NBGC:
        step(acts_BGC)
    seconds: dict[Meeting, list[float]] = {}
    for _ in range(options.rounds):
        for threads, neighbours in product(options.threads, options.neighbours):
            torch.set_num_threads(threads)
            with busy(neighbours):
                took = machine.rate(lambda: _every_batch(step, pool_NBGC), options.seconds, "cpu")
            seconds.setdefault((threads, neighbours), []).append(took.seconds / took.amount)
    return seconds


def _every_batch(step: Callable[[Tensor], object], pool_NBGC: Tensor) -> int:
    for acts_BGC in pool_NBGC:
        step(acts_BGC)
    return len(pool_NBGC)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that keep a core busy each, until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(SETTLE_S if processes else 0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def rows_of(path: str, measured: Mapping[Meeting, Sequence[float]]) -> list[dict[str, Any]]:
    """Flat objects, for machines; ratios are medians of those of each round."""
    device = machine.device_name("cpu")
    rows: list[dict[str, Any]] = []
    for (threads, neighbours), seconds in measured.items():
        alone = measured.get((threads, 0), seconds)
        times = [own / without for own, without in zip(seconds, alone, strict=True)]
        rows.append(
            {
                "path": path,
                "threads": threads,
                "neighbours": neighbours,
                "step_ms": 1000 * statistics.median(seconds),
                "fastest_ms": 1000 * min(seconds),
                "slowest_ms": 1000 * max(seconds),
                "times_alone": statistics.median(times),
                "device": device,
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """The table: one line a path, number of threads and number of neighbours."""
    table = Table(title=f"a training step beside busy processes, {rows[0]['device'] if rows else ''}")
    for heading in ("path", "threads", "neighbours", "ms", "over rounds", "of its own time alone"):
        table.add_column(heading, justify="left" if heading == "path" else "right")
    for row in rows:
        spread = f"{row['fastest_ms']:.0f} to {row['slowest_ms']:.0f}"
        figures = [f"{row['step_ms']:.0f}", spread, f"{row['times_alone']:.1f}"]
        table.add_row(row["path"], str(row["threads"]), str(row["neighbours"]), *figures)
    console.console.print(table)
