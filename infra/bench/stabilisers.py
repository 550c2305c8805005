"""Measures whether the analysis names the stabilisers of dictionaries that were planted, and names none where none is.

    python -m infra.bench stabilisers [--groups D8 D16] [--widths 1.5 2 3 5] [--imperfect 0 0.1 0.2] [--json FILE]

The dictionary is given, nothing is trained. It has the same number of features of every class of subgroups (all of D_n,
C_d, D_d about any axis, and none), smooth over rotation, beside an invariant part with half of the energy. A dictionary
whose changing parts have no symmetry stands beside it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from gc_core import analyse, groups, symmetry
from gc_core.config import AnalyseConfig
from gc_core.groups import Group
from infra.bench.planted_symmetries import planted
from infra.bench.results import write_results
from infra.bench.verdict import verdict
from jobs.common import console
from jobs.common.options import cli

LEAST_ACCURACY, MOST_FALSE_POSITIVES = 0.98, 0.05


@dataclass(frozen=True, kw_only=True)
class StabilisersBench:
    """Name planted stabilisers."""

    groups: tuple[str, ...] = ("D8", "D16", "D32")
    widths: tuple[float, ...] = (1.5, 2.0, 3.0, 5.0)
    """Frequencies at which amplitudes have fallen to 61%: the smaller, the smoother."""
    imperfect: tuple[float, ...] = (0.0, 0.1, 0.2)
    """Share of the changing energy that has no symmetry."""
    channels: int = 128
    directions: int | None = None
    """Directions of the channels that a feature uses; None for all."""
    each: int = 8
    """Features of every class; as many in all have no symmetry in the other dictionary."""
    seed: int = 0
    json: Path | None = None
    """Write the results here: a list of flat objects, one a dictionary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """How the stabilisers of one dictionary were named."""

    group: str
    width: float | None
    imperfect: float
    features: int
    oracle_stabiliser_accuracy: float
    """Share of features whose words are the planted ones."""
    null_false_positive_rate: float
    """Share of as many features without symmetry that are given one."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench stabilisers`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(StabilisersBench, prog="python -m infra.bench stabilisers", args=args, description=__doc__)
        results: list[Named] = []
        for name in options.groups:
            for width in options.widths:
                for imperfect in options.imperfect:
                    results.append(
                        measure(
                            groups.parse(name),
                            width=width,
                            imperfect=imperfect,
                            channels=options.channels,
                            directions=options.directions,
                            each=options.each,
                            seed=options.seed,
                        )
                    )
                    if options.json is not None:
                        write_results(options.json, [asdict(one) for one in results])
        show(results)


def measure(
    group: Group,
    *,
    width: float | None,
    imperfect: float,
    channels: int,
    each: int,
    seed: int,
    directions: int | None = None,
) -> Named:
    """Name the stabilisers of a dictionary with `each` features of every class of subgroups, about axes at random."""
    rng = np.random.default_rng([seed, group.order])
    names = sorted({subgroup.name for subgroup in group.subgroups()})
    members = [[h for h in group.subgroups() if h.name == name] for name in names for _ in range(each)]
    truth = [alike[rng.integers(len(alike))] for alike in members]
    features = torch.cat(
        [
            planted(group, h, 1, rng=rng, channels=channels, directions=directions, width=width, imperfect=imperfect)
            for h in truth
        ]
    )
    none = planted(
        group, group.subgroups()[0], len(truth), rng=rng, channels=channels, directions=directions, width=width
    )
    words, words_of_none = named(features, group), named(none, group)
    return Named(
        group=group.name,
        width=width,
        imperfect=imperfect,
        features=len(truth),
        oracle_stabiliser_accuracy=float(
            np.mean([symmetry.in_words(h, group) == word for h, word in zip(truth, words, strict=True)])
        ),
        null_false_positive_rate=float(np.mean([w not in ("none", symmetry.UNDECIDED) for w in words_of_none])),
    )


def named(features: torch.Tensor, group: Group) -> list[str]:
    """The words of each feature, with the analysis' defaults."""
    config = AnalyseConfig()
    evidence = symmetry.evidence_of(features, group, surrogates=config.surrogates, seed=config.seed)
    return [each.words for each in analyse.judge(evidence, group, config).verdict_F]


def show(results: Sequence[Named]) -> None:
    """The table, and whether each dictionary was named as it should."""
    table = Table(title="planted stabilisers")
    for heading in ("group", "width", "imperfect", "features", "right words", "false positives"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for one in results:
        shares = (f"{one.oracle_stabiliser_accuracy:.3f}", f"{one.null_false_positive_rate:.3f}")
        table.add_row(one.group, str(one.width), f"{one.imperfect:g}", str(one.features), *shares)
    console.console.print(table)
    for one in results:
        right, false = one.oracle_stabiliser_accuracy, one.null_false_positive_rate
        what = f"{one.group}, width {one.width}, imperfect {one.imperfect:g}: right {right:.3f}, false {false:.3f}"
        reached = right >= LEAST_ACCURACY and false <= MOST_FALSE_POSITIVES
        console.console.print(verdict(reached, f"{what}; wanted {LEAST_ACCURACY} and {MOST_FALSE_POSITIVES}"))
