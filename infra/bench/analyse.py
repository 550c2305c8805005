"""What an analysis takes as features and samples grow, next to the plain way.

    python -m infra.bench analyse [--sizes 1024 4096] [--shards 8 32] [--json FILE]
    python -m infra.bench analyse --sizes 16384 --group D32 --channels 480 --tasks compare

Measured, each visit in a process of its own, plain and ours in turn: `load`, a task's crosscoder: ours maps the file,
the plain way reads it, parses it and copies it into a model, all three held at once; `merge`, what was seen of so many
shards: ours as they come, the plain way when all are there; `compare`, the nearest of every feature among all: ours the
candidates of an exact bound, the plain way every pair at every pose (`infra.bench.compared`); and `random`, the same of
features without structure. Memory is what no file stands for, above what the process had before. Ratios are plain over
ours, medians of rounds. `kept` is the share of neighbours that ours finds.

Letters: F features, G group elements, C channels, T candidates.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load

from gc_core import analyse, groups
from gc_core.analyse import Firing
from gc_core.crosscoder import WEIGHTS, Crosscoder, CrosscoderShape
from gc_core.metrics import VarianceSums
from infra.bench import compared
from infra.bench.machine import device_name
from infra.bench.results import write_results
from infra.bench.visits import Peak, Visit, in_a_fresh_process, measured, show
from jobs.common import console
from jobs.common.options import cli

TOP, SHARD_ROWS = 12, 2048
TASKS = ("load", "merge", "compare", "random")


@dataclass(frozen=True, kw_only=True)
class AnalyseBench:
    """Measure the analysis."""

    sizes: tuple[int, ...] = (1024, 4096)
    """Features of the crosscoders that are loaded and compared."""
    group: str = "D16"
    channels: int = 128
    tasks: tuple[Literal["load", "merge", "compare", "random"], ...] = TASKS
    shards: tuple[int, ...] = (8, 32)
    """Numbers of shards whose findings are merged, for a crosscoder of the first size."""
    rounds: int = 3
    json: Path | None = None
    """Write the results here: a list of flat objects, one a task and size."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench analyse`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(AnalyseBench, prog="python -m infra.bench analyse", args=args, description=__doc__)
        rows = measure(options)
        if options.json is not None:
            write_results(options.json, [{"device": device_name("cpu"), **row} for row in rows])
        show(
            rows,
            f"analysis over {options.group}, {options.channels} channels, {device_name('cpu')}",
            "features or shards",
        )


def measure(options: AnalyseBench) -> list[dict[str, float | str]]:
    """One row a task and size."""
    cases = [(task, size) for task in options.tasks if task != "merge" for size in options.sizes]
    cases += [("merge", count) for count in options.shards if "merge" in options.tasks]
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            _write(Path(folder) / str(size), size, options)

        def visited(task: str, size: int, way: str) -> Visit:
            features = size if task != "merge" else options.sizes[0]
            return in_a_fresh_process(visit, task, size, way, f"{folder}/{features}", options.group)

        rows = measured(cases, rounds=options.rounds, visit=visited)
        for row in rows:
            if row["task"] in ("compare", "random"):
                path = Path(folder) / str(row["size"]) / str(row["task"])
                row["kept"] = in_a_fresh_process(compared.share_kept, path, groups.parse(options.group))
                console.say(f"{row['task']} {row['size']:,}: {row['kept']:.4%} of the neighbours are kept")
        return rows


def visit(task: str, size: int, way: str, folder: str, group: str) -> Visit:
    """One task, one way, in this process."""
    torch.set_num_threads(1)
    peak = Peak()
    if task in ("compare", "random"):
        compare = compared.ours if way == "ours" else compared.plainly
        with peak.watched():
            seconds = compare(Path(folder) / task, groups.parse(group), peak)
        return Visit(seconds=seconds, peak_bytes=peak.num_bytes)
    work: dict[tuple[str, str], Callable[[], None]] = {
        ("load", "ours"): lambda: _load(folder, peak),
        ("load", "plain"): lambda: _load_plainly(folder, peak),
        ("merge", "ours"): lambda: _merge(folder, size, peak),
        ("merge", "plain"): lambda: _merge_plainly(folder, size, peak),
    }
    start = time.perf_counter()
    work[task, way]()
    return Visit(seconds=time.perf_counter() - start, peak_bytes=peak.num_bytes)


def _write(folder: Path, num_features: int, options: AnalyseBench) -> None:
    folder.mkdir()
    for task in set(options.tasks) & {"compare", "random"}:
        group = groups.parse(options.group)
        compared.write_decoder(folder / task, group, options.channels, num_features, random=task == "random")
    if set(options.tasks) <= {"compare", "random"}:
        return
    shape = CrosscoderShape(
        group=groups.parse(options.group),
        channels=options.channels,
        dict_size=num_features,
        reads=(0,),
        activation="topk",
        k=24,
    )
    model = Crosscoder.of(shape)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.W_dec)
    model.save(folder)


def _load(folder: str, peak: Peak) -> None:
    model = Crosscoder.load(folder)
    float(model.W_dec.detach().sum())
    peak.look()


def _load_plainly(folder: str, peak: Peak) -> None:
    content = (Path(folder) / WEIGHTS).read_bytes()
    tensors, model = load(content), Crosscoder.of(Crosscoder.load(folder).shape)
    model.load_state_dict(tensors)
    float(model.W_dec.detach().sum())
    peak.look()


def _seen(folder: str, num_shards: int, peak: Peak) -> Iterator[Firing]:
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
            unexplained=VarianceSums.zeros(shape.group.order, shape.channels),
        )
        peak.look()


def _merge(folder: str, num_shards: int, peak: Peak) -> None:
    image_N = np.arange(num_shards * SHARD_ROWS)
    analyse.merge_firing(_seen(folder, num_shards, peak), image_N, top_examples=TOP)
    peak.look()


def _merge_plainly(folder: str, num_shards: int, peak: Peak) -> None:
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


if __name__ == "__main__":
    main()
