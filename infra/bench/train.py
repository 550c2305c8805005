"""Speed of a training step, next to a plain dense one and to what this machine can do at best.

    python -m infra.bench train [--device cuda] [--json FILE] [--only 65536 | --wide] [--paths tied ...] [--quick]

Measured at each size: (a) `reference`, a plain dense step in float32 (infra/bench/plain_training.py); (b) steps of
the `Trainer`, on one worker with reading left out: `sparse`, at the cost of the active features, with Adam over all
rows; `sparse_lazy`, with Adam over the touched rows; `dense_l1`, a penalised crosscoder as large matrix products in
the device's fast type; and `tied`, with as many features in tied poses, next to `reference_all`, the plain step of an
encoder that reads all blocks, as a tied one does. Each visit is a process of its own, one at a time, and visits take
turns, so that whatever else the machine does falls on all; every figure is a median over rounds, and so is every
ratio of two figures of one round, with the smallest and largest beside it and the machine's load. Codes have no
structure: all features are about equally active, the worst case for the rows touched. No feature is dead, so no path
pays for reviving one.
"""

import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table

from infra.bench import machine
from infra.bench.results import write_results
from infra.bench.training import PATHS, Size, Visit, loss_disagreement, visit
from infra.bench.verdict import verdict
from jobs.common import console
from jobs.common.options import cli

SMALL = [Size(group="D8", channels=64, features=features) for features in (4096, 16384, 65536)]
WIDE = Size(group="D32", channels=480, features=16384)
NOT_AT = {True: "dense_l1", False: "reference_all"}
"""Path that is not measured at a size, by whether it is the wide one."""
LEAST_TIED_SPEEDUP, MOST_TIED_MEMORY = 20, 0.1
LEAST_SPEEDUP, MOST_GROWTH, LEAST_MATMUL_SHARE, MOST_DISAGREEMENT = 4, 5, 0.5, 1e-3

Rounds = list[dict[tuple[Size, str], Visit]]


@dataclass(frozen=True, kw_only=True)
class TrainBench:
    """Measure training steps."""

    device: Literal["cpu", "cuda"] | None = None
    """What computes; None for CUDA where there is one."""
    only: int | None = None
    """Number of features: of the sizes with 1,024 numbers a feature, measure this one only."""
    wide: bool = False
    """Only the size of D32 and 480 channels."""
    paths: tuple[Literal["reference", "sparse", "sparse_lazy", "dense_l1", "reference_all", "tied"], ...] = PATHS
    """What is measured; ratios need the references."""
    quick: bool = False
    """One round of the smallest size."""
    rounds: int = 3
    """Visits to every path at every size."""
    seconds: float = 2
    """About how long a visit measures; it takes one step at least."""
    json: Path | None = None
    """Write the results here: a list of flat objects, one a path and size."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench train`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(TrainBench, prog="python -m infra.bench train", args=args, description=__doc__)
        device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        disagreement = loss_disagreement()
        number = 1 if options.quick else options.rounds
        rounds = measure(sizes(options), device, rounds=number, seconds=options.seconds, paths=options.paths)
        if options.json is not None:
            write_results(options.json, as_json(rounds, machine.device_name(device)))
        show(rounds, machine.device_name(device), disagreement)


def sizes(options: TrainBench) -> list[Size]:
    """What the options ask for.

    Raises:
        ValueError: `only` is no size of the table.
    """
    if options.quick:
        return SMALL[:1]
    if options.wide:
        return [WIDE]
    if options.only is None:
        return [*SMALL, WIDE]
    chosen = [size for size in SMALL if size.features == options.only]
    if not chosen:
        known = ", ".join(str(size.features) for size in SMALL)
        raise ValueError(f"--only: found {options.only}, expected one of {known}")
    return chosen


def measure(chosen: list[Size], device: str, *, rounds: int, seconds: float, paths: Sequence[str] = PATHS) -> Rounds:
    """Every path at every size, in turn."""
    measured: Rounds = []
    for number in range(rounds):
        console.say(f"round {number + 1} of {rounds}")
        measured.append({})
        for size in chosen:
            for path in PATHS:
                if path in paths and path != NOT_AT.get(size == WIDE):
                    measured[-1][size, path] = _in_a_fresh_process(size, path, seconds, device)
    return measured


def as_json(rounds: Rounds, device: str) -> list[dict[str, Any]]:
    """Flat objects, for machines."""
    return [
        {
            "path": path,
            "features": size.features,
            "group_order": size.group_order,
            "channels": size.channels,
            "batch": size.batch,
            "k": size.k,
            "samples_per_s": size.batch / statistics.median(measured[size, path].step_s for measured in rounds),
            "slowest_samples_per_s": size.batch / max(measured[size, path].step_s for measured in rounds),
            "fastest_samples_per_s": size.batch / min(measured[size, path].step_s for measured in rounds),
            "load": statistics.median(measured[size, path].load for measured in rounds),
            "peak_rss_bytes": max(measured[size, path].peak_bytes for measured in rounds),
            "matmul_share": _median_share([measured[size, path].matmul_share for measured in rounds]),
            "bandwidth_share": _median_share([measured[size, path].bandwidth_share for measured in rounds]),
            "device": device,
        }
        for size, path in rounds[0]
    ]


def show(rounds: Rounds, device: str, disagreement: dict[str, float]) -> None:
    """The table and, line by line, what was to be reached and was."""
    table = Table(title=f"a training step on {device}")
    names = ("G", "C", "F", "path", "samples/s", "x reference", "over rounds", "load", "peak MB")
    for heading in (*names, "matmul share", "bandwidth share"):
        table.add_column(heading, justify="left" if heading == "path" else "right")
    for (size, path), row in zip(rounds[0], as_json(rounds, device), strict=True):
        shares = [f"{row[name]:.0%}" if row[name] else "" for name in ("matmul_share", "bandwidth_share")]
        times = ratios(rounds, (size, "reference"), (size, path)) if (size, "reference") in rounds[0] else []
        against = [f"{statistics.median(times):.2f}", f"{min(times):.2f} to {max(times):.2f}"] if times else ["", ""]
        place = [str(row[name]) for name in ("group_order", "channels", "features", "path")]
        machine_row = [f"{row['load']:.1f}", f"{row['peak_rss_bytes'] / 1e6:.0f}"]
        table.add_row(*place, f"{row['samples_per_s']:.3g}", *against, *machine_row, *shares)
    console.console.print(table)
    for line in verdicts(rounds, disagreement):
        console.console.print(line)


def verdicts(rounds: Rounds, disagreement: dict[str, float]) -> list[str]:
    """What was to be reached at the sizes that were measured, and whether it was."""
    measured, lines = rounds[0], []
    for size in (WIDE, SMALL[-1]):
        if (size, "sparse") in measured and (size, "reference") in measured:
            times = ratio(rounds, (size, "reference"), (size, "sparse"))
            what = f"sparse {times:.1f} x reference at G={size.group_order}, C={size.channels}, F={size.features}"
            lines.append(verdict(times >= LEAST_SPEEDUP, f"{what}, wanted {LEAST_SPEEDUP}"))
    if (WIDE, "tied") in measured and (WIDE, "reference_all") in measured:
        lines += _verdicts_of_tied(rounds)
    ends = [(size, "sparse_lazy") for size in (SMALL[-1], SMALL[0])]
    if all(end in measured for end in ends):
        growth = ratio(rounds, *ends)
        what = f"lazy step {growth:.1f} x as long with 16 x the features, wanted at most {MOST_GROWTH}"
        lines.append(verdict(growth <= MOST_GROWTH, what))
    for size in SMALL:
        if (size, "dense_l1") in measured:
            share = _median_share([figures[size, "dense_l1"].matmul_share for figures in rounds]) or 0.0
            what = f"dense_l1 at {share:.0%} of the matrix rate, optimiser included, F={size.features}"
            lines.append(verdict(share >= LEAST_MATMUL_SHARE, f"{what}, wanted {LEAST_MATMUL_SHARE:.0%}"))
    what = f"losses of sparse and reference differ by {disagreement['sparse']:.1e} at most over 200 steps"
    lines.append(verdict(disagreement["sparse"] <= MOST_DISAGREEMENT, f"{what}, wanted {MOST_DISAGREEMENT:.0e}"))
    return lines


def _verdicts_of_tied(rounds: Rounds) -> list[str]:
    plain, tied = (WIDE, "reference_all"), (WIDE, "tied")
    times = ratio(rounds, plain, tied)
    share = max(figures[tied].peak_bytes for figures in rounds) / max(figures[plain].peak_bytes for figures in rounds)
    what = f"tied {times:.1f} x the dense step that reads all blocks at F={WIDE.features}, wanted {LEAST_TIED_SPEEDUP}"
    memory = f"tied takes {share:.1%} of its memory, wanted at most {MOST_TIED_MEMORY:.0%}"
    return [verdict(times >= LEAST_TIED_SPEEDUP, what), verdict(share <= MOST_TIED_MEMORY, memory)]


def ratio(rounds: Rounds, slow: tuple[Size, str], fast: tuple[Size, str]) -> float:
    """Median, over rounds, of one step's time over another's."""
    return statistics.median(ratios(rounds, slow, fast))


def ratios(rounds: Rounds, slow: tuple[Size, str], fast: tuple[Size, str]) -> list[float]:
    """One step's time over another's, of each round."""
    return [measured[slow].step_s / measured[fast].step_s for measured in rounds]


def _median_share(shares: list[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return statistics.median(known) if known else None


def _in_a_fresh_process(size: Size, path: str, seconds: float, device: str) -> Visit:
    """So that peak memory is this path's, and no path finds another's memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(visit, size, path, seconds, device).result()
