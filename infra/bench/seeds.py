"""Do two seeds find the same features, tied and untied? Shares of features with a partner in the other dictionary.

    python -m infra.bench seeds --run RUN [--steps 300 1200] [--group D8] [--json FILE]

A tied crosscoder and untied ones with equal k train from two seeds, each as many steps on the same samples, and every
prototype (feature) is compared with all of the other seed's: the largest cosine of whole decoders, over all poses. One
thread each.

Letters: R rows of the weights: prototypes, or features where poses are not tied.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from gc_core.config import TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.evaluate.stability import cosine_rows
from gc_core.io.run_folder import RunFolder
from gc_core.train import TrainingData, Worker, keep_freed_memory, open_data
from gc_core.train.validation import HeldOutSamples
from infra.bench.results import write_results
from infra.bench.tying import cut, taught
from jobs.common import console
from jobs.common.options import cli

SEEDS = (0, 1)
KINDS: dict[str, dict[str, Any]] = {
    "tied": {"tying": "orbit"},
    "untied": {"tying": "none", "encoder_reads": "identity"},
    "untied-all": {"tying": "none", "encoder_reads": "all"},
}


@dataclass(frozen=True, kw_only=True)
class SeedsBench:
    """Compare dictionaries of two seeds."""

    run: str
    """A run folder whose harvest is finished: a path or URL."""
    steps: tuple[int, ...] = (300, 1200)
    """Steps of each training, one after another."""
    kinds: tuple[Literal["tied", "untied", "untied-all"], ...] = ("tied", "untied")
    """`untied` reads the untransformed block, `untied-all` all of them."""
    group: str | None = None
    """None for the store's, or a group inside it."""
    held_out: int = 560
    """Samples held out at least, of whole images drawn at random."""
    prototypes: int = 64
    features: int = 1024
    """Features of the untied crosscoders."""
    k: int = 24
    batch: int = 128
    json: Path | None = None
    """Write the results here: a list of flat objects, one a pair of trainings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Similarity of a pair of dictionaries, both ways together."""

    kind: str
    steps: int
    rows: int
    """Prototypes, or features."""
    share_above_90: float
    """Share of rows with a partner of a cosine above 0.9."""
    share_above_80: float
    share_above_70: float
    mean_max_cosine: float
    fvu: float
    """Held out, mean of the two."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench seeds`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(SeedsBench, prog="python -m infra.bench seeds", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        whole = open_data(RunFolder.at(options.run), TrainConfig(group=options.group))
        likenesses: list[Likeness] = []
        for likeness in compare(options, cut(whole, None, options.held_out, seed=0)):
            likenesses.append(likeness)
            console.say(f"{likeness.kind}, {likeness.steps:,} steps: mean {likeness.mean_max_cosine:.3f}")
            if options.json is not None:
                write_results(options.json, [asdict(each) for each in likenesses])
        show(likenesses)


def compare(options: SeedsBench, data: TrainingData) -> Iterator[Likeness]:
    """Each kind after each number of steps."""
    common: dict[str, Any] = {"k": options.k, "batch": options.batch, "group": options.group}
    for steps in options.steps:
        for kind in options.kinds:
            size: dict[str, Any] = (
                {"prototypes": options.prototypes} if kind == "tied" else {"dict_size": options.features}
            )
            config = TrainConfig(**common, **size, **KINDS[kind], steps=steps)
            trainers = [taught(f"{kind}, seed {seed}", replace(config, seed=seed), data)[0] for seed in SEEDS]
            scores = HeldOutSamples(data, Worker(), batch=256).score([trainer.result for trainer in trainers])
            fvu = float(np.mean([np.nan if score.fvu is None else score.fvu for score in scores]))
            yield likeness_of(kind, steps, trainers[0].result, trainers[1].result, fvu)


def likeness_of(kind: str, steps: int, one: Crosscoder, other: Crosscoder, fvu: float) -> Likeness:
    """Compare two dictionaries of equal size."""
    nearest_R = _nearest(one, other)
    above = {f"share_above_{bound}": float((nearest_R > bound / 100).mean()) for bound in (90, 80, 70)}
    rows, mean = one.shape.num_rows, float(nearest_R.mean())
    return Likeness(kind=kind, steps=steps, rows=rows, mean_max_cosine=mean, fvu=fvu, **above)


def _nearest(one: Crosscoder, other: Crosscoder) -> NDArray[np.float32]:
    """(2 R,) the largest cosine of each row, over all poses, with any of the other dictionary; both ways."""
    cosine_RR = np.concatenate(list(cosine_rows(one.W_dec.detach(), other.W_dec.detach(), one)))
    return np.concatenate([cosine_RR.max(1), cosine_RR.max(0)])


def show(likenesses: Sequence[Likeness]) -> None:
    """The table."""
    table = Table(title="prototypes (features) with a partner in the other seed's dictionary, up to pose")
    for heading in ("steps", "kind", "rows", "above 0.9", "0.8", "0.7", "mean of the largest cosine", "held-out FVU"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for each in likenesses:
        shares = (f"{each.share_above_90:.1%}", f"{each.share_above_80:.1%}", f"{each.share_above_70:.1%}")
        table.add_row(
            f"{each.steps:,}", each.kind, f"{each.rows:,}", *shares, f"{each.mean_max_cosine:.3f}", f"{each.fvu:.3f}"
        )
    console.console.print(table)
