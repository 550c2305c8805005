"""How linear is the action of rotations and mirrors on activations, and does interpolation make it look so?

    for layer in conv1 conv3 inception3a inception3b; do
        python -m jobs.harvest --images photographs --group D8 --layer $layer --out RUNS/$layer
        python -m jobs.harvest --images photographs --group D8 --layer $layer --out RUNS/$layer-all --resample-all
    done
    python -m infra.bench linear --runs RUNS/* [--json FILE]

Of every run's own samples, block e is a(x) and block g is a(g.x). Told of each element, on images kept apart, R^2 (1
perfect, 0 no better than the training samples' mean, 95% intervals over images) of

- *own*: a matrix for each element;
- *powers*: one matrix for the smallest rotation (and one for the mirror), applied as often as needed, as adaptively
  equivariant autoencoders assume; fitted to one step, or *refined* to all elements together;
- *same*: a(x) itself;
- *dealt*, the control: a matrix for each element, of pairs of different samples.

Quarter turns and mirrors are exact, all other elements are resampled, which blurs. In a run of `--resample-all` all are
resampled alike: what exact elements have more there than others is no matter of interpolation.

Letters: N samples, G group elements, C channels, I images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups
from gc_core.config import TrainConfig
from gc_core.evaluate import linear_action
from gc_core.groups import Group
from gc_core.io.run_folder import RunFolder
from gc_core.metrics import ImageSums
from gc_core.stream import read_rows
from gc_core.train import TrainingData, keep_freed_memory, open_data
from infra.bench.results import write_results
from infra.bench.tables import number, show_table
from infra.bench.tying import cut
from jobs.common import console
from jobs.common.options import cli

KINDS = ("own", "powers", "refined", "same", "dealt")


@dataclass(frozen=True, kw_only=True)
class LinearBench:
    """Measure how linear the group's action is."""

    runs: tuple[str, ...]
    """Run folders whose harvests are finished, one a layer: paths or URLs."""
    group: str | None = None
    """None for the store's, or a group inside it."""
    held_out: int = 500
    """Samples held out at least, of whole images drawn at random."""
    sources: Literal["identity", "all"] = "identity"
    """Blocks that are a(x) while matrices for each element are fitted: `identity`, or `all` in turn, which gives |G|
    times as many pairs, as of turned images. Judged is the untransformed block in any case."""
    seed: int = 0
    json: Path | None = None
    """Write the results here: a list of flat objects, one an element of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How well one element's blocks are told from the untransformed ones."""

    run: str
    layer: str
    resample_all: bool
    turn_deg: float
    mirrored: bool
    exact: bool
    """Whether it needs no interpolation; with `resample_all` it is interpolated as all others are."""
    rows: int
    channels: int
    own: float
    own_interval: tuple[float, float] | None
    """95%, over images; None where it is undefined."""
    powers: float
    refined: float
    refined_interval: tuple[float, float] | None
    same: float
    dealt: float


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench linear`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(LinearBench, prog="python -m infra.bench linear", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        rows: list[Told] = []
        for run in options.runs:
            rows += measure(run, options)
            console.say(f"{run}: done")
            if options.json is not None:
                write_results(options.json, [asdict(each) for each in rows])
        show(rows)


def measure(url: str, options: LinearBench) -> list[Told]:
    """All elements but the identity of one run.

    Raises:
        ValueError: the run has too few samples.
    """
    run = RunFolder.at(url)
    data = cut(open_data(run, TrainConfig(group=options.group)), None, options.held_out, options.seed)
    group = groups.of_the_plane(data.store.group) if options.group is None else groups.parse(options.group)
    train_NGC, test_NGC = _by_image(data, data.train_rows, options.seed), data.read(data.held_out_rows)
    _, image_N = np.unique(data.store.image[data.held_out_rows], return_inverse=True)
    found = dict(predictions(train_NGC, test_NGC, group, options))
    config = data.store.attrs["config"]
    return [
        Told(
            run=run.url.rsplit("/", 1)[-1],
            layer=str(data.store.attrs.get("layer", "")),
            resample_all=bool(config.get("resample_all", False)),
            turn_deg=360 * float(group.turns[g]) / group.n,
            mirrored=bool(group.mirrored[g]),
            exact=4 * int(group.turns[g]) % group.n == 0,
            rows=len(train_NGC),
            channels=data.channels,
            **{kind: r2(*found[kind], g) for kind in KINDS},
            own_interval=interval(*found["own"], g, image_N),
            refined_interval=interval(*found["refined"], g, image_N),
        )
        for g in range(1, group.order)
    ]


def predictions(
    train_NGC: Tensor, test_NGC: Tensor, group: Group, options: LinearBench
) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Squared errors and deviations (N, G) on samples kept apart, by kind."""
    mean_GC = train_NGC.mean(0)
    sources = tuple(range(group.order)) if options.sources == "all" else (0,)
    order_N = torch.from_numpy(np.random.default_rng([options.seed, 8]).permutation(len(train_NGC)))
    predictors = {
        "own": lambda: linear_action.fit_elements(train_NGC, group, sources=sources),
        "powers": lambda: linear_action.fit_generators(train_NGC, group),
        "refined": lambda: linear_action.fit_generators(train_NGC, group, refined=True, seed=options.seed),
        "same": lambda: linear_action.identity_action(train_NGC),
        "dealt": lambda: linear_action.fit_elements(torch.cat([train_NGC[:, :1], train_NGC[order_N, 1:]], 1), group),
    }
    for kind in KINDS:
        yield kind, linear_action.squared_errors(predictors[kind](), test_NGC, mean_GC)


def r2(error_NG: Tensor, deviation_NG: Tensor, element: int) -> float:
    """1 less the share of the variance about the training samples' mean that is not told."""
    error, deviation = (float(each[:, element].sum(dtype=torch.float64)) for each in (error_NG, deviation_NG))
    return 1 - error / deviation if deviation > 0 else float("nan")


def interval(
    error_NG: Tensor, deviation_NG: Tensor, element: int, image_N: NDArray[np.int64]
) -> tuple[float, float] | None:
    """95%, over images."""
    sums = ImageSums.zeros(int(image_N.max()) + 1)
    sums.add(torch.from_numpy(image_N), error_NG[:, element], deviation_NG[:, element])
    ends = sums.interval()
    return None if ends is None else (1 - ends[1], 1 - ends[0])


def _by_image(data: TrainingData, rows: NDArray[np.int64], seed: int) -> Tensor:
    """(N, G, C) of images in an order drawn at random, so that the last fifth are other images than the rest."""
    images, image_N = np.unique(data.store.image[rows], return_inverse=True)
    place_I = np.random.default_rng([seed, 9]).permutation(len(images))
    order_N = np.argsort(place_I[image_N], kind="stable")
    return data.scaled(torch.from_numpy(read_rows(data.store, rows[order_N], data.blocks)))


def show(rows: Sequence[Told]) -> None:
    """Means over exact and resampled rotations and mirrors of each run, and every element."""
    lines = []
    for run in dict.fromkeys(each.run for each in rows):
        for mirrored in (False, True):
            for exact in (True, False):
                some = [each for each in rows if (each.run, each.mirrored, each.exact) == (run, mirrored, exact)]
                if some:
                    what = f"{'mirrors' if mirrored else 'rotations'}, {'exact' if exact else 'others'}"
                    means = [number(float(np.mean([getattr(each, kind) for each in some])), 3) for kind in KINDS]
                    lines.append([run, some[0].layer, "yes" if some[0].resample_all else "", what, *means])
    headings = ("run", "layer", "all resampled", "elements", *KINDS)
    show_table("R² of a(g.x), told from a(x): means over elements", headings, lines, left=headings[:4])
    lines = [
        [each.run, f"{each.turn_deg:g}°{', mirrored' if each.mirrored else ''}",
         f"{each.own:.3f} {_ends(each.own_interval)}", number(each.powers, 3),
         f"{each.refined:.3f} {_ends(each.refined_interval)}", number(each.same, 3), number(each.dealt, 3)]
        for each in rows
    ]  # fmt: skip
    show_table("... of every element (95% over images)", ("run", "element", *KINDS), lines, left=("run", "element"))


def _ends(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"({ends[0]:.3f} to {ends[1]:.3f})"
