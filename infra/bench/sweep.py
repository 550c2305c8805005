"""Whether the default learning rate is near the best one, for each encoder, activation and size.

    python -m infra.bench sweep --run RUN [--sizes 256 1024] [--rates 0.25 0.5 1 2 4] [--steps 300] [--json FILE]

Every rate is a multiple of the default. All rates of one encoder, activation and size train side by side on one pass
over the data, on one thread. Judged is the held-out FVU; where the number of active features is not given (l1,
jumprelu) a slow rate leaves more of them active and wins by that, so the loss itself is judged there: all that is
minimised, over all samples of the last fifty steps.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from gc_core.config import TrainConfig
from infra.bench.dictionaries import resolved_for, train_side_by_side
from infra.bench.results import write_results
from infra.bench.verdict import verdict
from jobs.common import console
from jobs.common.options import cli

MOST_ABOVE_BEST = 0.05
GIVEN_L0 = ("topk", "batchtopk")
ABOUT = ("activation", "group", "steps", "seed")

Case = tuple[str, str, int]
"""Encoder, activation, size."""


@dataclass(frozen=True, kw_only=True)
class SweepBench:
    """Compare learning rates."""

    run: str
    """A run folder whose harvest is finished: a path or URL."""
    group: str = "D8"
    """Group of the crosscoders, inside the store's."""
    encoders: tuple[str, ...] = ("identity", "all")
    """What untied features read; `tied` for prototypes, which read all blocks."""
    activations: tuple[Literal["topk", "batchtopk", "jumprelu", "l1"], ...] = ("topk", "batchtopk", "jumprelu", "l1")
    sizes: tuple[int, ...] = (256, 1024)
    """Features; of tied ones, prototypes."""
    rates: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Multiples of the default learning rate; 1 must be among them."""
    steps: int = 300
    """Steps of each training."""
    seed: int = 0
    json: Path | None = None
    """Write the results here: a list of flat objects, one a training."""

    def __post_init__(self) -> None:
        if 1 not in self.rates:
            raise ValueError(f"rates: found {self.rates}, expected 1 (the default rate) among them")


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench sweep`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(SweepBench, prog="python -m infra.bench sweep", args=args, description=__doc__)
        rows = []
        for encoder, activation, size in product(options.encoders, options.activations, options.sizes):
            console.say(f"{encoder}, {activation}, {size:,} features")
            rows += measure(options, encoder, activation, size)
            if options.json is not None:
                write_results(options.json, rows)
        show(rows)


def measure(options: SweepBench, encoder: str, activation: str, size: int) -> list[dict[str, Any]]:
    """One flat object a rate."""
    tied = {"tying": "orbit", "prototypes": size}
    untied = {"tying": "none", "encoder_reads": encoder, "dict_size": size}
    given = {"activation": activation, "group": options.group, **(tied if encoder == "tied" else untied)}
    given |= {"steps": options.steps, "checkpoint_every": options.steps, "seed": options.seed}
    config = TrainConfig.from_json({**TrainConfig().to_json(), **given})
    data, (default,) = resolved_for(options.run, [config])
    configs = [replace(default, learning_rate=rate * default.learning_rate) for rate in options.rates]
    measured = train_side_by_side(data, configs)
    about = {"encoder": encoder, "dict_size": size} | {name: given[name] for name in ABOUT}
    return [
        {**about, "rate": rate, "learning_rate": config.learning_rate, **asdict(each)}
        for rate, config, each in zip(options.rates, configs, measured, strict=True)
    ]


def judged(row: dict[str, Any]) -> float:
    """What the rates of one case are compared by; less is better."""
    return row["held_out_fvu"] if row["activation"] in GIVEN_L0 else row["loss"]


def above_best(rows: Sequence[dict[str, Any]]) -> dict[Case, float]:
    """Excess of the default rate's figure over the best one's, as a share of the best, in each case."""
    by_case: dict[Case, dict[float, float]] = defaultdict(dict)
    for row in rows:
        by_case[row["encoder"], row["activation"], row["dict_size"]][row["rate"]] = judged(row)
    return {case: by_rate[1.0] / min(by_rate.values()) - 1 for case, by_rate in by_case.items()}


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The table, and for each case whether its default is near the best."""
    names = ("encoder", "activation", "dict_size", "rate", "learning_rate", "held_out_fvu", "fvu", "loss", "l0")
    table = Table(title="learning rates, as multiples of the default")
    for heading in (*names, "dead_share"):
        table.add_column(heading, justify="left" if heading in names[:2] else "right")
    for row in rows:
        numbers = [f"{row[name]:.4g}" for name in names[3:]]
        table.add_row(*(str(row[name]) for name in names[:3]), *numbers, f"{row['dead_share']:.1%}")
    console.console.print(table)
    for (encoder, activation, size), above in above_best(rows).items():
        what = f"{encoder}, {activation}, {size:,} features: default {above:.1%} above the best"
        console.console.print(verdict(above <= MOST_ABOVE_BEST, f"{what}, wanted at most {MOST_ABOVE_BEST:.0%}"))
