"""What an analysis takes as features and samples grow, next to the plain way.

    python -m infra.bench analyse [--sizes 1024,4096] [--shards 8,32] [--json FILE]

Measured, each visit in a process of its own, plain and ours in turn: `load`, a task's crosscoder: ours maps the file,
the plain way reads it, parses it and copies it into a model, all three held at once; `merge`, what was seen of so many
shards: ours as they come, the plain way when all are there; `compare`, every living feature with every other: ours in
square tiles, each pair once, the plain way in tasks of 128 features that transform all others again. Memory is what no
file stands for, above what the process had before. Ratios are plain over ours, medians of rounds.

Letters: F features, G group elements, C channels, T candidates.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from safetensors.torch import load

from gc_core import analyse, groups
from gc_core.analyse import Firing
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import WEIGHTS, Crosscoder, CrosscoderShape
from gc_core.families import family_similarity
from gc_core.metrics import VarianceSums
from infra.bench.machine import device_name
from infra.bench.results import write_results
from jobs import console
from jobs.options import cli

GROUP, CHANNELS, TOP, SHARD_ROWS = "D16", 128, 12, 2048
PLAIN_ROWS = 128
WAYS = ("plain", "ours")
CONFIG = AnalyseConfig(top_examples=TOP).resolved(tied=False)


@dataclass(frozen=True, kw_only=True)
class AnalyseBench:
    """Measure the analysis."""

    sizes: tuple[int, ...] = (1024, 4096)
    """Features of the crosscoders that are loaded and compared."""
    shards: tuple[int, ...] = (8, 32)
    """Of a crosscoder of the first size."""
    rounds: int = 3
    json: Path | None = None
    """Write the results here: a list of flat objects, one a task and size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What one process measured."""

    seconds: float
    peak_bytes: int


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench analyse`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(AnalyseBench, prog="python -m infra.bench analyse", args=args, description=__doc__)
        rows = measure(options)
        if options.json is not None:
            write_results(options.json, [{"device": device_name("cpu"), **row} for row in rows])
        show(rows)


def measure(options: AnalyseBench) -> list[dict[str, float | str]]:
    """One row a task and size."""
    tasks: list[tuple[str, int]] = [(task, size) for task in ("load", "compare") for size in options.sizes]
    tasks += [("merge", count) for count in options.shards]
    found: dict[tuple[str, int, str], list[Visit]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            _write(f"{folder}/{size}", size)
        for number in range(options.rounds):
            console.say(f"round {number + 1} of {options.rounds}")
            for task, size in tasks:
                for way in WAYS:
                    place = f"{folder}/{size if task != 'merge' else options.sizes[0]}"
                    found.setdefault((task, size, way), []).append(_in_a_fresh_process(task, size, way, place))
    return [_row(task, size, *(found[task, size, way] for way in WAYS)) for task, size in tasks]


def visit(task: str, size: int, way: str, folder: str) -> Visit:
    """One task, one way, in this process."""
    torch.set_num_threads(1)
    peak = _Peak()
    work: dict[tuple[str, str], Callable[[], None]] = {
        ("load", "ours"): lambda: _load(folder, peak),
        ("load", "plain"): lambda: _load_plainly(folder, peak),
        ("merge", "ours"): lambda: _merge(folder, size, peak),
        ("merge", "plain"): lambda: _merge_plainly(folder, size, peak),
        ("compare", "ours"): lambda: _compare(folder, peak),
        ("compare", "plain"): lambda: _compare_plainly(folder, peak),
    }
    start = time.perf_counter()
    work[task, way]()
    return Visit(seconds=time.perf_counter() - start, peak_bytes=peak.num_bytes)


def show(rows: list[dict[str, float | str]]) -> None:
    """A table, one line a task and size."""
    table = Table(title=f"analysis over {GROUP}, {CHANNELS} channels, {device_name('cpu')}")
    for heading in ("task", "features or shards", "s", "plain / ours", "MB", "plain / ours"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for row in rows:
        figures = [f"{row[name]:,.2f}" for name in ("seconds", "seconds_ratio", "megabytes", "megabytes_ratio")]
        table.add_row(str(row["task"]), f"{row['size']:,}", *figures)
    console.console.print(table)


class _Peak:
    """The most memory of this process, of what no file stands for, at the moments that it was asked."""

    def __init__(self) -> None:
        self._before, self.num_bytes = _anonymous_bytes(), 0

    def look(self) -> None:
        self.num_bytes = max(self.num_bytes, _anonymous_bytes() - self._before)


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


def _write(folder: str, num_features: int) -> None:
    shape = CrosscoderShape(group=GROUP, channels=CHANNELS, dict_size=num_features, reads=(0,), activation="topk", k=24)
    model = Crosscoder.of(shape)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.W_dec)
    model.save(folder)


def _load(folder: str, peak: _Peak) -> None:
    model = Crosscoder.load(folder)
    float(model.W_dec.detach().sum())
    peak.look()


def _load_plainly(folder: str, peak: _Peak) -> None:
    content = (Path(folder) / WEIGHTS).read_bytes()
    tensors, model = load(content), Crosscoder.of(Crosscoder.load(folder).shape)
    model.load_state_dict(tensors)
    float(model.W_dec.detach().sum())
    peak.look()


def _seen(folder: str, num_shards: int, peak: _Peak) -> Iterator[Firing]:
    """What tasks send; random."""
    shape, candidates = Crosscoder.load(folder).shape, 4 * TOP
    for shard in range(num_shards):
        rng = np.random.default_rng(shard)
        value_FT = rng.exponential(size=(shape.dict_size, candidates)).astype(np.float32)
        yield Firing(
            num_rows=SHARD_ROWS,
            fired_F=rng.integers(0, SHARD_ROWS, shape.dict_size),
            top_value_FT=-np.sort(-value_FT, axis=1),
            top_row_FT=rng.integers(0, SHARD_ROWS, value_FT.shape) + shard * SHARD_ROWS,
            top_pose_FT=np.zeros(value_FT.shape, np.int16),
            pose_count_FG=np.zeros((shape.dict_size, 0), np.int64),
            unexplained=VarianceSums.zeros(groups.parse(GROUP).order, CHANNELS),
        )
        peak.look()


def _merge(folder: str, num_shards: int, peak: _Peak) -> None:
    image_N = np.arange(num_shards * SHARD_ROWS)
    analyse.merge_firing(_seen(folder, num_shards, peak), image_N, top_examples=TOP)
    peak.look()


def _merge_plainly(folder: str, num_shards: int, peak: _Peak) -> None:
    parts = list(_seen(folder, num_shards, peak))
    value = np.concatenate([part.top_value_FT for part in parts], axis=1)
    row = np.concatenate([part.top_row_FT for part in parts], axis=1)
    order = np.argsort(-value, axis=1, kind="stable")[:, : 4 * TOP]
    peak.look()
    merged = Firing(
        num_rows=sum(part.num_rows for part in parts),
        fired_F=np.sum([part.fired_F for part in parts], axis=0),
        top_value_FT=np.take_along_axis(value, order, 1),
        top_row_FT=np.take_along_axis(row, order, 1),
        top_pose_FT=np.zeros(order.shape, np.int16),
        pose_count_FG=np.zeros((len(order), 0), np.int64),
        unexplained=parts[0].unexplained,
    )
    analyse.merge_firing([merged], np.arange(num_shards * SHARD_ROWS), top_examples=TOP)
    peak.look()


def _compare(folder: str, peak: _Peak) -> None:
    model = Crosscoder.load(folder)
    alive = np.arange(model.shape.dict_size)
    for rows in analyse.bands(len(alive)):
        band = analyse.band_of_similarities(model, alive, rows, CONFIG)
        peak.look()
        del band


@torch.no_grad()
def _compare_plainly(folder: str, peak: _Peak) -> None:
    decoder_FGC, group = Crosscoder.load(folder).W_dec.detach(), groups.parse(GROUP)
    for mine_FGC in decoder_FGC.split(PLAIN_ROWS):
        others_JGC = decoder_FGC[torch.arange(len(decoder_FGC))]
        rows = family_similarity(mine_FGC, others_JGC, group, invariant_share=CONFIG.invariant_share)
        peak.look()
        del rows


def _anonymous_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def _in_a_fresh_process(task: str, size: int, way: str, folder: str) -> Visit:
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imports take longer than small visits
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(visit, task, size, way, folder).result()


if __name__ == "__main__":
    main()
