"""Whether tied poses explain more than untied ones: over training rows, at equal samples seen and at equal time.

    python -m infra.bench tying --run RUN [--rows 500 2000 all] [--steps 300] [--json FILE]

For each number of training rows a tied crosscoder and two untied ones, whose encoders read the untransformed block and
all blocks, take the same number of steps; the untied ones then train once more, for as much processor time as the tied
one took. All are judged by the held-out FVU on the same images, kept apart for this alone. One thread each.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from gc_core.config import TrainConfig
from gc_core.io.run_folder import RunFolder
from gc_core.train import Trainer, TrainingData, Worker, keep_freed_memory, open_data, resolve
from gc_core.train.validation import HeldOutSamples
from infra.bench.results import write_results
from jobs.common import console
from jobs.common.options import cli

WARM_STEPS = 3
"""First steps of each training, whose time is not counted."""
KINDS = {"tied": {}, "untied": {"encoder_reads": "identity"}, "untied, all blocks": {"encoder_reads": "all"}}


@dataclass(frozen=True, kw_only=True)
class TyingBench:
    """Compare tied with untied poses."""

    run: str
    """A run folder whose harvest is finished: a path or URL."""
    rows: tuple[str, ...] = ("500", "1000", "2000", "4000", "all")
    """Training samples, of whole images; `all` for every one that is not held out."""
    held_out: int = 560
    """Samples held out at least, of whole images drawn at random."""
    prototypes: int = 64
    features: int = 1024
    """Features of the untied crosscoders."""
    k: int = 24
    steps: int = 300
    batch: int = 128
    seed: int = 0
    json: Path | None = None
    """Write the results here: a list of flat objects, one a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One training."""

    kind: str
    rows: int
    steps: int
    fvu: float
    """Held out."""
    interval: tuple[float, float] | None
    """95% interval of the held-out FVU, over images."""
    training_fvu: float
    dead_share: float
    seconds: float
    """Processor time, without the first steps."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench tying`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(TyingBench, prog="python -m infra.bench tying", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        whole, outcomes = open_data(RunFolder.at(options.run), TrainConfig()), []
        for rows in options.rows:
            data = cut(whole, None if rows == "all" else int(rows), options.held_out, options.seed)
            for outcome in compare(options, data):
                outcomes.append(outcome)
                console.say(f"{outcome.kind}, {outcome.rows:,} rows, {outcome.steps:,} steps: FVU {outcome.fvu:.3f}")
                if options.json is not None:
                    write_results(options.json, [asdict(each) for each in outcomes])
        show(outcomes)


def cut(data: TrainingData, num_rows: int | None, held_out: int, seed: int) -> TrainingData:
    """Split a store anew: whole images held out at random, and about so many rows of others to train on.

    Raises:
        ValueError: the store has too few samples.
    """
    images = np.random.default_rng([seed, 6]).permutation(np.unique(data.store.image))
    row_N = np.concatenate([np.flatnonzero(data.store.image == image) for image in images])
    image_N = data.store.image[row_N]
    first = _whole_images(image_N, held_out)
    last = len(row_N) if num_rows is None else first + _whole_images(image_N[first:], num_rows)
    return replace(data, held_out_rows=np.sort(row_N[:first]), train_rows=np.sort(row_N[first:last]))


def _whole_images(image_N: NDArray[np.int64], least: int) -> int:
    """How many rows, at least so many, end where an image's do."""
    if len(image_N) < least:
        raise ValueError(f"rows: found {len(image_N):,} samples, expected at least {least:,}; harvest more images")
    ends = np.append(np.flatnonzero(np.diff(image_N)) + 1, len(image_N))
    return int(ends[np.searchsorted(ends, least)])


def compare(options: TyingBench, data: TrainingData) -> list[Outcome]:
    """All kinds at equal samples; then the untied ones at the tied one's time."""
    common: dict[str, Any] = {"k": options.k, "batch": options.batch, "seed": options.seed}
    sizes = {kind: {"dict_size": options.features, "tying": "none"} for kind in KINDS}
    sizes["tied"] = {"prototypes": options.prototypes, "tying": "orbit"}
    configs = {kind: TrainConfig(**common, **sizes[kind], **given) for kind, given in KINDS.items()}
    equal = {kind: trained(kind, replace(config, steps=options.steps), data) for kind, config in configs.items()}
    longer = []
    for kind in ("untied", "untied, all blocks"):
        steps = max(1, round(options.steps * equal["tied"].seconds / equal[kind].seconds))
        longer.append(trained(f"{kind}, equal time", replace(configs[kind], steps=steps), data))
    return [*equal.values(), *longer]


def trained(kind: str, config: TrainConfig, data: TrainingData) -> Outcome:
    """Train to the end in this process, and judge."""
    trainer, seconds = taught(kind, config, data)
    (score,) = HeldOutSamples(data, Worker(), batch=256).score([trainer.result])
    row = trainer.log(score)
    return Outcome(
        kind=kind,
        rows=len(data.train_rows),
        steps=trainer.num_steps,
        fvu=float("nan") if score.fvu is None else score.fvu,
        interval=score.interval,
        training_fvu=row["fvu"],
        dead_share=row["dead_share"],
        seconds=seconds,
    )


def taught(kind: str, config: TrainConfig, data: TrainingData) -> tuple[Trainer, float]:
    """A training at its end, and the processor time that it took, in seconds."""
    config = resolve(replace(config, checkpoint_every=config.steps or 1), data)
    trainer, start = Trainer(config, data, Worker()), time.process_time()
    with closing(trainer.stream()) as stream, console.progress(kind, trainer.num_steps, "steps") as meter:
        while trainer.step < trainer.num_steps:
            if trainer.step == min(WARM_STEPS, trainer.num_steps - 1):
                start = time.process_time()
            trainer.advance(next(stream))
            meter.set(trainer.step)
    return trainer, (time.process_time() - start) * trainer.num_steps / max(1, trainer.num_steps - WARM_STEPS)


def show(outcomes: Sequence[Outcome]) -> None:
    """The table."""
    table = Table(title="held-out FVU")
    for heading in (
        "rows",
        "kind",
        "steps",
        "processor time",
        "held-out FVU (95% over images)",
        "in training",
        "dead",
    ):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for each in outcomes:
        interval = "" if each.interval is None else " ({:.3f} to {:.3f})".format(*each.interval)
        numbers = (f"{each.fvu:.3f}{interval}", f"{each.training_fvu:.3f}", f"{each.dead_share:.1%}")
        table.add_row(f"{each.rows:,}", each.kind, f"{each.steps:,}", f"{each.seconds:.0f} s", *numbers)
    console.console.print(table)
