"""Planted truth: are families, symmetries and poses found that are known, by the whole chain, and none where none is?

    python -m infra.bench planted [--seeds 0 1] [--json FILE]
    python -m infra.bench planted --kinds tied sae --curve noise 0.2 0.5 channels 64 32 --json FILE
    python -m infra.bench planted --stabilisers C1 D1 D16 --invariant-prototypes 8

Samples are made of families whose features, stabilisers and poses are known (the difficulties are options); tied and
untied crosscoders are trained on them and analysed as `jobs.train` and `jobs.analyse` do, and an SAE on the
untransformed block beside them. `given` is the analysis of the planted dictionary itself. The null store has families
without any symmetry, all else alike; what is learned of it and given a symmetry is a false positive.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from gc_core.train import keep_freed_memory
from infra.bench import planted_chain as chain
from infra.bench import planted_scores as scores
from infra.bench.planted_chain import Described, Found, Training
from infra.bench.planted_world import Samples, Truth, World, plant, sample
from infra.bench.results import write_results
from infra.bench.verdict import verdict
from jobs.common import console
from jobs.common.options import cli

KINDS = ("given", *chain.TRAINED)
NULL_STABILISERS = ("C1",)
TARGETS = {
    "family_ari": 0.99,
    "stabiliser_accuracy": 0.95,
    "median_pose_error_steps": 0.5,
    "null_false_positive_rate": 0.05,
    "oracle_stabiliser_accuracy": 0.98,
}
"""At least; errors and false positives at most."""
SUMMARY = {
    "family_ari": ("tied", "family_ari"),
    "stabiliser_accuracy": ("tied", "stabiliser_accuracy"),
    "median_pose_error_steps": ("tied", "median_pose_error_steps"),
    "null_false_positive_rate": ("tied", "null_false_positive_rate"),
    "mean_max_cosine": ("tied", "mean_max_cosine"),
    "untied_family_ari": ("untied", "family_ari"),
    "untied_stabiliser_accuracy": ("untied", "stabiliser_accuracy"),
    "untied_median_pose_error_steps": ("untied", "median_pose_error_steps"),
    "untied_null_false_positive_rate": ("untied", "null_false_positive_rate"),
    "untied_mean_max_cosine": ("untied", "mean_max_cosine"),
    "sae_family_ari": ("sae", "family_ari"),
    "sae_best_family_ari": ("sae", "best_family_ari"),
    "sae_mean_max_cosine": ("sae", "mean_max_cosine"),
    "oracle_family_ari": ("given", "family_ari"),
    "oracle_stabiliser_accuracy": ("given", "stabiliser_accuracy"),
}
"""Where each figure of the summary stands: mean over the seeds of the world that the options give."""

COLUMNS = {
    "": None,
    "changed": None,
    "families (ARI)": "family_ari",
    "stabilisers": "stabiliser_accuracy",
    "axes": "axis_accuracy",
    "pose off, steps (mean)": "mean_pose_error_steps",
    "false positives": "null_false_positive_rate",
    "cosine": "mean_max_cosine",
    "living": "living",
    "held-out FVU": "held_out_fvu",
}
"""Headings of the table, and the figures below them."""


@dataclass(frozen=True, kw_only=True)
class PlantedBench(World, Training):
    """Find what was planted."""

    kinds: tuple[str, ...] = KINDS
    """Which of given, tied, untied and sae."""
    curve: tuple[str, ...] = ()
    """Options above, each with further values of it, such as `noise 0.1 0.3 channels 64`: the same is done once more
    for each, all else being as given."""
    null: bool = True
    """Train on a null store too, for false positives."""
    seeds: tuple[int, ...] = (0,)
    json: Path | None = None
    """Write the results here: one object with the summary, and under `rows` one a training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ValueError(f"kinds: found {unknown[0][:20]!r}, expected some of {' '.join(KINDS)}")
        points(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Found):
    """One dictionary."""

    difficulty: str
    """Option that was changed, empty for the world that the options give."""
    value: Any
    kind: str
    seed: int
    planted_features: int
    features_per_channel: float
    median_pose_error_steps: float | None = None
    mean_pose_error_steps: float | None = None
    null_false_positive_rate: float | None = None
    null_living: int | None = None
    """Learned ones of the null store, of which that is a share."""
    best_family_ari: float | None = None
    """`family_ari` of an SAE at the bound of similarity that suits it best: more than anybody could know."""
    invariant_cosine: float | None = None
    """`mean_max_cosine` of planted families with equal blocks to prototypes that have them too."""
    held_out_fvu: float | None = None
    seconds: float
    processor_s: float
    """Of all threads together: what `seconds` would be on one core without others beside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A world and samples of it."""

    truth: Truth
    train_NGC: Tensor
    held_out: Samples


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench planted`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(PlantedBench, prog="python -m infra.bench planted", args=args, description=__doc__)
        keep_freed_memory()
        rows: list[Row] = []
        for name, value, world in points(options):
            for seed in options.seeds:
                store = stored(world, seed)
                null = stored(replace(world, stabilisers=NULL_STABILISERS), seed) if options.null else None
                for kind in options.kinds:
                    rows.append(measure(kind, world, store, null, seed, name, value))
                    if options.json is not None:
                        write_results(options.json, {**summary(rows), "rows": [asdict(each) for each in rows]})
        show(rows)


def points(options: PlantedBench) -> list[tuple[str, Any, PlantedBench]]:
    """The world that the options give, then those of the curves: what is changed, to what, and the options with it.

    Raises:
        ValueError: there is no such option, or it cannot have that value.
    """
    known = [each.name for each in fields(World) + fields(Training) if each.name != "stabilisers"]
    worlds: list[tuple[str, Any, PlantedBench]] = [("", None, options)]
    name = ""
    for word in options.curve:
        if word in known:
            name = word
        elif not name:
            raise ValueError(f"curve: found {word[:20]!r}, expected one of {' '.join(known)}")
        else:
            value = _value(name, word)
            worlds.append((name, value, replace(options, curve=(), **{name: value})))
    return worlds


def _value(name: str, text: str) -> Any:
    """The text as a value of an option.

    Raises:
        ValueError: it is none.
    """
    usual = getattr(PlantedBench(), name)
    if text == "None" and name in ("width", "learning_rate"):
        return None
    kind = float if usual is None else type(usual)
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"curve: found {text[:20]!r}, expected a value of {name} such as {usual}") from error


def stored(options: PlantedBench, seed: int) -> Store:
    """Plant, and draw samples; the last ones are held out."""
    truth = plant(options, seed)
    drawn = sample(truth, options, options.rows + options.held_out, np.random.default_rng([seed, 2]))
    behind = slice(options.rows, None)
    held_out = Samples(
        acts_NGC=drawn.acts_NGC[behind], family_NA=drawn.family_NA[behind], pose_NA=drawn.pose_NA[behind]
    )
    return Store(truth=truth, train_NGC=drawn.acts_NGC[: options.rows], held_out=held_out)


def measure(
    kind: str, options: PlantedBench, store: Store, null: Store | None, seed: int, difficulty: str, value: Any
) -> Row:
    """Train, analyse and score one kind; of `given` the planted dictionary is analysed."""
    start, busy = time.perf_counter(), time.process_time()
    truth, more = store.truth, dict[str, Any]()
    if kind == "given":
        about = chain.describe(truth.dictionary(), truth.group)
        if null is not None:
            more |= _false_positives(chain.describe(null.truth.prototype_PGC, truth.group))
    else:
        model = chain.train(kind, options, options.active, store.train_NGC, truth.group, seed)
        about, seen = chain.learned(model, store.held_out.acts_NGC)
        more["held_out_fvu"] = seen.fvu
        if kind == "sae":
            more["best_family_ari"] = chain.best_family_ari(about, truth)
        else:
            errors = chain.pose_errors(about, seen, truth, store.held_out)
            more |= _pose_errors(errors) | {"invariant_cosine": chain.invariant_cosine(model, truth)}
        if null is not None and kind != "sae":
            other = chain.train(kind, options, options.active, null.train_NGC, truth.group, seed)
            more |= _false_positives(chain.learned(other, null.held_out.acts_NGC)[0])
    return Row(
        **asdict(chain.score(about, truth)), difficulty=difficulty, value=value, kind=kind, seed=seed,
        planted_features=len(truth.features[0]), features_per_channel=len(truth.features[0]) / options.channels,
        seconds=time.perf_counter() - start,
        processor_s=time.process_time() - busy, **more,
    )  # fmt: skip


def _pose_errors(error_N: NDArray[np.int64]) -> dict[str, float]:
    if not len(error_N):
        return {}
    return {
        "median_pose_error_steps": float(np.median(error_N)),
        "mean_pose_error_steps": float(np.mean(error_N)),
    }


def _false_positives(about: Described) -> dict[str, Any]:
    words = [each.words for each in about.verdict_R]
    return {"null_false_positive_rate": scores.false_positive_rate(words), "null_living": len(words)}


def summary(rows: Sequence[Row]) -> dict[str, float | None]:
    """The figures of the world that the options give, mean over seeds; None where there are none yet."""
    return {name: _mean(rows, kind, figure) for name, (kind, figure) in SUMMARY.items()}


def _mean(rows: Sequence[Row], kind: str, figure: str) -> float | None:
    known = [getattr(each, figure) for each in rows if each.kind == kind and not each.difficulty]
    return float(np.mean(known)) if known and None not in known else None


def verdicts(figures: dict[str, float | None]) -> list[str]:
    """Whether each target is met, of those that were measured."""
    lines = []
    for name, target in TARGETS.items():
        if (figure := figures[name]) is not None:
            most = name.endswith(("steps", "rate"))
            what = f"{name} {figure:.3f}; wanted at {'most' if most else 'least'} {target:g}"
            lines.append(verdict(figure <= target if most else figure >= target, what))
    return lines


def show(rows: Sequence[Row]) -> None:
    """The table, and the targets."""
    table = Table(title="planted families")
    for heading in COLUMNS:
        table.add_column(heading, justify="right" if COLUMNS[heading] else "left")
    for each in rows:
        world = f"{each.difficulty} {each.value}" if each.difficulty else ""
        figures = [_shown(getattr(each, name)) for name in COLUMNS.values() if name]
        table.add_row(f"{each.kind}, seed {each.seed}", world, *figures)
    console.console.print(table)
    for line in verdicts(summary(rows)):
        console.console.print(line)


def _shown(figure: float | None) -> str:
    return "" if figure is None else f"{figure:,}" if isinstance(figure, int) else f"{figure:.3f}"
