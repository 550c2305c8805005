"""Is each of many manifolds told by one unit of a dictionary? The toy of Fel et al. 2026 (arXiv 2606.25234) again.

    python -m infra.bench manifolds [--peer PYTHON_WITH_SAE_LENS] [--seeds 0 1] [--json FILE]

Group crosscoders, tied and untied, see samples under every element of a cyclic group that turns circle, disk, sphere,
torus and Moebius strip; autoencoders and a plain block-sparse featurizer see the untransformed block alone, and of all
only that block is scored. A unit is a family as `jobs.analyse` finds it (`r2`), one row of the dictionary
(`row_r2`), or all rows that somebody who knows the factors would put together (`grouped_r2`); of the block-sparse
featurizer and the oracles always a block. `pursuit` is given the factors' spaces, `oracle` also which are active.
Controls that must fail: `untrained`, and `shuffled`, where each sample is said to hold the factors of another.

Letters: B samples, A active factors, I factors, R rows of a dictionary, U units, G group elements, C channels.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from gc_core.train import keep_freed_memory
from infra.bench.manifolds_kinds import HELD_OUT, Dictionary, Training, made
from infra.bench.manifolds_scores import PartSums, matched_r2, nearest_factor, together
from infra.bench.manifolds_world import Batch, Truth, batches, plant
from infra.bench.results import collected
from jobs.common import console
from jobs.common.options import cli

KINDS = ("oracle", "pursuit", "untrained", "blocks", "sae", "saelens", "tied", "untied")
SCORED_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class ManifoldBench(Training):
    """Tell factors apart."""

    kinds: tuple[str, ...] = KINDS
    sae_ks: tuple[int, ...] = (4, 12)
    """Active features of the autoencoders, one training each: as many as there are factors, and as many as those have
    dimensions."""
    held_out: int = 8192
    """Samples that all are scored on."""
    seeds: tuple[int, ...] = (0,)
    json: Path | None = None
    """Write the results here: a list of flat objects, one a dictionary."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ValueError(f"kinds: found {unknown[0][:20]!r}, expected some of {' '.join(KINDS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One dictionary; each figure is a mean over factors of the share of variance that a unit tells, 0 to 1."""

    kind: str
    k: int
    seed: int
    r2: float
    row_r2: float
    grouped_r2: float
    shuffled_r2: float
    """Of the same units where each sample is said to hold another's factors: the control."""
    shapes: dict[str, float]
    """`r2` by shape."""
    units: int
    living: int
    fvu: float
    """Of the untransformed block, held out."""
    seconds: float


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench manifolds`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(ManifoldBench, prog="python -m infra.bench manifolds", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        rows = (row for seed in options.seeds for row in measure(options, seed))
        show(collected(rows, options.json))


def measure(options: ManifoldBench, seed: int) -> Iterator[Row]:
    """Every kind that is asked for."""
    truth = plant(options, seed)
    for kind in options.kinds:
        several = kind in ("sae", "saelens")
        for k in options.sae_ks if several else (options.k,):
            if kind == "saelens" and options.peer is None:
                continue
            start = time.perf_counter()
            dictionary = made(kind, k, options, truth, seed)
            row = score(dictionary, options, truth, seed)
            yield replace(row, kind=kind, k=k, seconds=time.perf_counter() - start)


def score(dictionary: Dictionary, options: ManifoldBench, truth: Truth, seed: int) -> Row:
    """All figures of one dictionary, over samples that nothing was trained on."""
    rows = np.arange(len(dictionary.row_RGC))
    grouped = rows if dictionary.whole else nearest_factor(dictionary.row_RGC, truth.used_frame_IDC)
    labels = {"r2": dictionary.label_R, "row_r2": rows, "grouped_r2": grouped}
    sums = {name: _sums(label_R, truth, options) for name, label_R in labels.items()}
    control, seen = _sums(dictionary.label_R, truth, options), _Seen()
    for batch in _held_out(truth, options, seed):
        row_BRC = dictionary.parts(batch)
        seen.add(row_BRC, batch.acts_BGC[:, 0] - dictionary.bias_C)
        for name, label_R in labels.items():
            sums[name].add(batch.factor_BA, batch.part_BAC, together(row_BRC, label_R))
        unit_BUC = together(row_BRC, dictionary.label_R)
        control.add(batch.factor_BA.roll(1, 0), batch.part_BAC.roll(1, 0), unit_BUC)
    told = {name: matched_r2(each.r2()) for name, each in sums.items()}
    shapes = {
        shape: float(np.mean([r2 for r2, other in zip(told["r2"], truth.shape_I, strict=True) if other == shape]))
        for shape in dict.fromkeys(truth.shape_I)
    }
    return Row(
        kind="", k=0, seed=seed, shapes=shapes, units=len(np.unique(dictionary.label_R)), seconds=0.0,
        living=seen.living(), fvu=seen.fvu(), shuffled_r2=float(matched_r2(control.r2()).mean()),
        **{name: float(each.mean()) for name, each in told.items()},
    )  # fmt: skip


class _Seen:
    """Which rows were ever active, and what the reconstruction misses."""

    def __init__(self) -> None:
        self.active_R: Tensor | None = None
        self.missed, self.samples, self.squares, self.sum_C = 0.0, 0, 0.0, torch.zeros(1, dtype=torch.float64)

    def add(self, row_BRC: Tensor, target_BC: Tensor) -> None:
        active_R = row_BRC.square().sum((0, 2)) > 0
        self.active_R = active_R if self.active_R is None else self.active_R | active_R
        self.missed += float((row_BRC.sum(1) - target_BC).double().square().sum())
        self.samples += len(target_BC)
        self.squares += float(target_BC.double().square().sum())
        self.sum_C = self.sum_C + target_BC.double().sum(0)

    def living(self) -> int:
        return 0 if self.active_R is None else int(self.active_R.sum())

    def fvu(self) -> float:
        return self.missed / (self.squares - float(self.sum_C.square().sum()) / self.samples)


def _sums(label_R: NDArray[np.int64], truth: Truth, options: ManifoldBench) -> PartSums:
    return PartSums(len(truth.shape_I), int(label_R.max(initial=-1)) + 1, options.channels)


def _held_out(truth: Truth, options: ManifoldBench, seed: int) -> Iterator[Batch]:
    return batches(truth, options, SCORED_AT_ONCE, options.held_out // SCORED_AT_ONCE, HELD_OUT, seed)


def show(rows: Sequence[Row]) -> None:
    """The tables: all figures, then by shape."""
    figures = Table(title="variance of a factor told by one unit (R², mean over factors)")
    for heading in ("", "families", "rows", "grouped by truth", "shuffled", "units", "living rows", "FVU"):
        figures.add_column(heading, justify="right" if heading else "left")
    shapes = Table(title="families, by shape")
    for heading in ("", *(rows[0].shapes if rows else ())):
        shapes.add_column(heading, justify="right" if heading else "left")
    for each in rows:
        name = f"{each.kind}, k {each.k}, seed {each.seed}"
        told = (each.r2, each.row_r2, each.grouped_r2, each.shuffled_r2)
        figures.add_row(name, *(f"{r2:.3f}" for r2 in told), f"{each.units}", f"{each.living}", f"{each.fvu:.3f}")
        shapes.add_row(name, *(f"{r2:.2f}" for r2 in each.shapes.values()))
    console.console.print(figures, shapes)
