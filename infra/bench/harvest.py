"""Speed of the harvest, next to the plain way and to what this machine can do at best.

    python -m infra.bench harvest [--device cuda] [--backbone inceptionv1 --weights random:0] [--json FILE]

A sample is one centre under all 64 elements of D_32. Measured are, in turn and several times, so that whatever else
the machine does falls on all of them: (a) the plain way (turn the whole image, run the whole network, read one unit),
(b) the harvest's way in float32, (c) the same in the fast type, (d) for networks that are traced also the network
itself on a canvas, the network's forward pass alone, matrix products in
both types, the decoding of JPEG files, and the whole job: files decoded, blocks computed, written and committed. The
job is the loop that a worker runs, without Ray around it. Every rate is a median, and so is every ratio of two rates
of one round. On a CPU one process of one thread runs on each core, and then one alone, whose rate is per second of its
own CPU time: that hardly depends on what else the machine does. On CUDA one process does all.
"""

import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table

from infra.bench.machine import Rate
from infra.bench.results import write_results
from infra.bench.verdict import verdict
from infra.bench.workload import MOST_SHARDS, SHARD_ROWS, Spec, Workload
from jobs.common import console
from jobs.common.options import cli

ROUNDS = 3
SLICES_A_ROUND = 10
"""Into how many equal parts a round's time is cut; the plain way may take longer than its part."""

LEAST_SPEEDUP_FP32, MOST_ERROR_FP32 = 25, 1e-4
LEAST_SPEEDUP_FAST, LEAST_COSINE_FAST, LEAST_FORWARD_SHARE = 100, 0.9995, 0.25
LEAST_JOB_SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class HarvestBench:
    """Measure the harvest."""

    device: Literal["cpu", "cuda"] | None = None
    """What computes; None for CUDA where there is one."""
    backbone: str = "googlenet"
    """A network as a harvest names it; of those that are not written down by hand the evaluation on a canvas is
    measured too."""
    layer: str | None = None
    """Its layer; None for the network's default."""
    weights: str | None = None
    """Weights of the backbone, as in a harvest; `random:0` where there are none: the speed is the same."""
    seconds: float = 120
    """About how long to measure, beside the start."""
    json: Path | None = None
    """Write the results here, as one flat object."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured. Rates are medians over rounds, of all cores together."""

    rounds: list[dict[str, float]]
    peak_rss_bytes: int
    largest_error: float
    fast_median_cosine: float
    device: str
    fast_dtype: str
    backbone: str

    def rate(self, name: str) -> float:
        """Median rate of one phase."""
        return statistics.median(measured[name] for measured in self.rounds)

    def ratio(self, name: str, other: str) -> float:
        """Median, over rounds, of one phase's rate over another's."""
        return statistics.median(measured[name] / measured[other] for measured in self.rounds)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench harvest`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(HarvestBench, prog="python -m infra.bench harvest", args=args, description=__doc__)
        result = measure(options)
        if options.json is not None:
            write_results(options.json, as_json(result))
        show(result)


def measure(options: HarvestBench) -> Result:
    """All phases, ROUNDS times.

    Raises:
        ValueError: the float32 blocks are not those of the plain way.
    """
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    processes = (os.cpu_count() or 1) if device == "cpu" else 1
    spec = Spec(
        backbone=options.backbone, weights=options.weights, device=device, processes=processes, layer=options.layer
    )
    with ExitStack() as stack:
        crew = [stack.enter_context(_process(spec)) for _ in range(processes)]
        slice_s = options.seconds / ROUNDS / SLICES_A_ROUND
        console.say(f"loading {options.backbone} in {processes} processes ...")
        warm_per_s = _together(crew, "ours_fast", 1.0) / processes
        shards = min(MOST_SHARDS, max(1, round(3 * slice_s * warm_per_s / SHARD_ROWS[device])))
        _together(crew, "job", shards)
        peak_rss_bytes = max(_ask(crew, "peak_rss_bytes"))  # before the plain way, which holds more
        error = _ask(crew[:1], "largest_error")[0]
        if not error < MOST_ERROR_FP32:
            raise ValueError(f"blocks differ from the plain way's by {error:.1e} of their norm: nothing to compare")
        rounds: list[dict[str, float]] = []
        for number in range(ROUNDS):
            console.say(f"round {number + 1} of {ROUNDS}")
            rounds.append(_one_round(crew, spec, slice_s, shards))
        return Result(
            rounds=rounds,
            peak_rss_bytes=peak_rss_bytes,
            largest_error=error,
            fast_median_cosine=_ask(crew[:1], "fast_median_cosine")[0],
            device=_ask(crew[:1], "device_name")[0],
            fast_dtype=str(spec.fast_dtype).removeprefix("torch."),
            backbone=options.backbone,
        )


def as_json(result: Result) -> dict[str, Any]:
    """One flat object, for machines."""
    return {
        "device": result.device,
        "backbone": result.backbone,
        "fast_dtype": result.fast_dtype,
        "plain_fp32_samples_per_s": result.rate("plain_fp32"),
        "ours_fp32_samples_per_s": result.rate("ours_fp32"),
        "ours_fast_samples_per_s": result.rate("ours_fast"),
        "fast_median_cosine": result.fast_median_cosine,
        "forward_fast_gflops": result.rate("forward_fast"),
        "matmul_fast_gflops": result.rate("matmul_fast"),
        "decode_images_per_s": result.rate("decode"),
        **({"canvas_fp32_samples_per_s": result.rate("canvas_fp32")} if "canvas_fp32" in result.rounds[0] else {}),
        "job_samples_per_s": result.rate("job"),
        "peak_rss_bytes": result.peak_rss_bytes,
    }


def show(result: Result) -> None:
    """The table and, line by line, what was to be reached and was."""
    table = Table(title=f"harvest of {result.backbone}, D_32, on {result.device}")
    for heading in ("", "unit", "all cores", "x plain way", "one core", "x plain way"):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    ways = {
        "plain_fp32": "(a) plain way, float32",
        "ours_fp32": "(b) ours, float32",
        "ours_fast": f"(c) ours, {result.fast_dtype}",
        **({"canvas_fp32": "(d) ours on a canvas, float32"} if "canvas_fp32" in result.rounds[0] else {}),
        "job": "whole job: decode, compute, write",
    }
    for name, title in ways.items():
        together = [f"{result.rate(name):.3g}", f"{result.ratio(name, 'plain_fp32'):.1f}"]
        table.add_row(
            title, "samples/s", *together, *(_alone(result, name) if f"{name}_alone" in result.rounds[0] else [])
        )
    table.add_row(f"forward pass alone, {result.fast_dtype}", "GFLOP/s", f"{result.rate('forward_fast'):.3g}")
    table.add_row(f"matrix product, {result.fast_dtype}", "GFLOP/s", f"{result.rate('matmul_fast'):.3g}")
    if result.fast_dtype != "float32":
        table.add_row("matrix product, float32", "GFLOP/s", f"{result.rate('matmul_fp32'):.3g}")
    table.add_row("decoding, JPEG 500 x 375 px", "images/s", f"{result.rate('decode'):.3g}")
    table.add_row("peak memory of a worker", "MB", f"{result.peak_rss_bytes / 1e6:.0f}")
    console.console.print(table)
    for line in verdicts(result):
        console.console.print(line)


def verdicts(result: Result) -> list[str]:
    """What was to be reached, whether it was, and if not why where that is known."""
    fp32, fast = result.ratio("ours_fp32", "plain_fp32"), result.ratio("ours_fast", "plain_fp32")
    forward, job = result.ratio("forward_fast", "matmul_fast"), result.ratio("job", "ours_fast")
    why = "" if result.fast_dtype != "float32" else "; on CPUs a harvest computes in float32"
    return [
        verdict(fp32 >= LEAST_SPEEDUP_FP32, f"(b) {fp32:.1f} x (a), wanted {LEAST_SPEEDUP_FP32}")
        + f"; blocks equal to {result.largest_error:.1e} of their norm, wanted {MOST_ERROR_FP32:.0e}",
        verdict(fast >= LEAST_SPEEDUP_FAST, f"(c) {fast:.1f} x (a), wanted {LEAST_SPEEDUP_FAST}{why}"),
        verdict(
            result.fast_median_cosine >= LEAST_COSINE_FAST,
            f"median cosine of {result.fast_dtype} to float32 {result.fast_median_cosine:.6f},"
            f" wanted {LEAST_COSINE_FAST}",
        ),
        verdict(
            forward >= LEAST_FORWARD_SHARE,
            f"forward pass at {forward:.0%} of the {result.fast_dtype} matrix rate, wanted {LEAST_FORWARD_SHARE:.0%}",
        ),
        verdict(job >= LEAST_JOB_SHARE, f"whole job at {job:.0%} of computing alone, wanted {LEAST_JOB_SHARE:.0%}"),
    ]


def _alone(result: Result, name: str) -> list[str]:
    """One core's rate, and how many times the plain way's that is."""
    return [f"{result.rate(f'{name}_alone'):.3g}", f"{result.ratio(f'{name}_alone', 'plain_fp32_alone'):.1f}"]


def _one_round(crew: list[ProcessPoolExecutor], spec: Spec, slice_s: float, shards: int) -> dict[str, float]:
    """Every phase once, on all cores; then the ways themselves on one core while the others rest."""
    half, cuda = spec.fast_dtype != torch.float32, spec.device == "cuda"
    seconds = {"ours_fp32": slice_s, "ours_fast": slice_s, "forward_fast": slice_s / 2, "plain_fp32": slice_s}
    seconds |= {"matmul_fp32": slice_s / 4, "matmul_fast": slice_s / 4, "decode": slice_s / 4}
    seconds |= {"canvas_fp32": slice_s / 2} if spec.has_canvas else {}
    same = {"ours_fast": "ours_fp32", "matmul_fast": "matmul_fp32"} if not half else {}
    rates = {name: _together(crew, name, length) for name, length in seconds.items() if name not in same}
    rates["job"] = _together(crew, "job", shards)
    for name in ("plain_fp32", "ours_fp32", "ours_fast"):
        if name not in same:
            alone: Rate = _ask(crew[:1], name, slice_s / 2)[0]
            rates[f"{name}_alone"] = alone.per_s if cuda else alone.per_cpu_s
    rates |= {name: rates[other] for name, other in same.items()}
    return rates | ({} if half else {"ours_fast_alone": rates["ours_fp32_alone"]})


def _process(spec: Spec) -> ProcessPoolExecutor:
    """One process that holds a workload. Where it computes on a core, it must not start threads on others."""
    if spec.device == "cpu":
        os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_load, initargs=(spec,))


_loaded: list[Workload] = []


def _load(spec: Spec) -> None:
    _loaded.append(Workload(spec))


def _call(name: str, *arguments: float) -> Any:
    return getattr(_loaded[0], name)(*arguments)


def _ask(crew: list[ProcessPoolExecutor], name: str, *arguments: float) -> list[Any]:
    """What each process answers, all working at the same time."""
    return [answer.result() for answer in [process.submit(_call, name, *arguments) for process in crew]]


def _together(crew: list[ProcessPoolExecutor], name: str, *arguments: float) -> float:
    """The rate of all processes together."""
    rates: list[Rate] = _ask(crew, name, *arguments)
    return sum(rate.per_s for rate in rates)
