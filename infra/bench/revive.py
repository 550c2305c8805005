"""How many features of a dictionary die, and what each way to revive them does about it.

    python -m infra.bench revive --run RUN [--group D32] [--dict-size 2048] [--steps 300] [--seeds 0 1] [--json FILE]

The ways train side by side on one pass over the data, on one thread, from the same first weights: `none`, and `auxk`,
the auxiliary loss of Gao et al. 2024 (the default). Two counts tell how many are dead: by the counter that training
keeps, of features that did not fire in the last tenth of the run; and of those that fire on no sample of one more pass
over the store, with the last weights.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from rich.table import Table

from gc_core.config import TrainConfig
from infra.bench.dictionaries import resolved_for, train_side_by_side
from infra.bench.results import write_results
from infra.bench.verdict import verdict
from jobs.common import console
from jobs.common.options import cli

WAYS: dict[str, dict[str, Any]] = {
    "none": {"aux_k": 0},
    "auxk": {},
}
MOST_DEAD, MOST_ABOVE_NONE = 0.05, 0.01


@dataclass(frozen=True, kw_only=True)
class ReviveBench:
    """Compare ways to revive dead features."""

    run: str
    """A run folder whose harvest is finished: a path or URL."""
    group: str = "D32"
    """Group of the crosscoders, inside the store's."""
    dict_size: int = 2048
    """Features."""
    activation: Literal["topk", "batchtopk"] = "topk"
    encoder: str = "identity"
    ways: tuple[Literal["none", "auxk"], ...] = ("none", "auxk")
    steps: int | None = None
    """Steps of each training; None for the default length."""
    seeds: tuple[int, ...] = (0,)
    json: Path | None = None
    """Write the results here: a list of flat objects, one a training."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench revive`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(ReviveBench, prog="python -m infra.bench revive", args=args, description=__doc__)
        rows: list[dict[str, Any]] = []
        for seed in options.seeds:
            console.say(f"seed {seed}")
            rows += measure(options, seed)
            if options.json is not None:
                write_results(options.json, rows)
        show(rows)


def measure(options: ReviveBench, seed: int) -> list[dict[str, Any]]:
    """One flat object a way."""
    config = TrainConfig(
        group=options.group,
        dict_size=options.dict_size,
        activation=options.activation,
        encoder_reads=options.encoder,
        steps=options.steps,
        checkpoint_every=10**9,
        seed=seed,
    )
    data, configs = resolved_for(options.run, [replace(config, **WAYS[way]) for way in options.ways])
    about = {name: getattr(configs[0], name) for name in ("group", "dict_size", "activation", "encoder_reads", "steps")}
    measured = train_side_by_side(data, configs)
    return [
        {"way": way, "seed": seed, **about, **asdict(each)} for way, each in zip(options.ways, measured, strict=True)
    ]


def means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over seeds, by way."""
    names = ("dead_share", "never_share", "twin_share", "fvu", "held_out_fvu")
    ways = dict.fromkeys(row["way"] for row in rows)
    return {way: {name: mean(row[name] for row in rows if row["way"] == way) for name in names} for way in ways}


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The table, and whether the default way does what it should."""
    table = Table(title=f"{rows[0]['dict_size']:,} features over {rows[0]['group']}, {rows[0]['steps']} steps")
    for heading in ("way", "seed", "dead", "never fire", "twins", "FVU", "held-out FVU"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for row in rows:
        shares = [f"{row[name]:.1%}" for name in ("dead_share", "never_share", "twin_share")]
        table.add_row(row["way"], str(row["seed"]), *shares, f"{row['fvu']:.4f}", f"{row['held_out_fvu']:.4f}")
    console.console.print(table)
    for line in verdicts(means(rows)):
        console.console.print(line)


def verdicts(by_way: dict[str, dict[str, float]]) -> list[str]:
    """What the default way was to reach, and whether it did."""
    if "auxk" not in by_way:
        return []
    default, lines = by_way["auxk"], []
    for name in ("dead_share", "never_share"):
        what = f"{name} {default[name]:.1%}, wanted at most {MOST_DEAD:.0%}"
        lines.append(verdict(default[name] <= MOST_DEAD, what))
    if "none" in by_way:
        for name in ("fvu", "held_out_fvu"):
            above = default[name] / by_way["none"][name] - 1
            what = f"{name} {above:+.1%} next to none, wanted at most {MOST_ABOVE_NONE:+.0%}"
            lines.append(verdict(above <= MOST_ABOVE_NONE, what))
    return lines
