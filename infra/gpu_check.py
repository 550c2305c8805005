"""Whether everything that runs on a GPU does so here, with the CPU's numbers, and how fast.

    python -m infra.gpu_check [--json FILE] [--seconds 5]

For a machine with a CUDA device, to be run once before its results are trusted. In turn: the tests of `tests/gpu`;
numbers of the harvest, of training steps (losses and gradients of every kind of crosscoder) and of the analysis next to
the CPU's; what memory and products can do; rates of harvest and steps; peak memory next to the planner's. A part that
fails ends itself and no other. The exit code is 0 where all that is judged passed, 1 where something did not, 2 where
there is no CUDA device.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gc_core.bounds import Bound
from infra import gpu_parts
from infra.bench import machine
from infra.bench.results import collected
from infra.bench.training import Size
from infra.gpu_parts import Finding
from jobs.common import console
from jobs.common.errors import in_one_line
from jobs.common.options import cli

ROOT = Path(__file__).parents[1]
SMALL = Size(group="D8", channels=64, features=1024, batch=128, k=16)
"""What numbers are compared at, for a CPU computes them too."""
WIDE = Size(group="D32", channels=480, features=16384)
"""What rates are measured at."""

Part = Callable[[], Iterator[Finding]]


class PartError(Exception):
    """What ended a part, in one line."""


@dataclass(frozen=True, kw_only=True)
class GpuCheck:
    """Check the GPU paths."""

    json: Path | None = None
    """Write the findings here, a list of flat objects, whenever one is known."""
    seconds: float = 5
    """About how long each rate is measured."""

    def __post_init__(self) -> None:
        Bound(0, 3600).refuse("seconds", self.seconds)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.gpu_check`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(GpuCheck, prog="python -m infra.gpu_check", args=args, description=__doc__)
        if not torch.cuda.is_available():
            console.say("gpu_check: no CUDA device found, expected one that PyTorch sees; see `nvidia-smi`")
            sys.exit(2)
        found = collected(findings({"tests": own_tests, **parts("cuda", SMALL, WIDE, options.seconds)}), options.json)
        show(found, machine.device_name("cuda"))
        sys.exit(exit_code(found))


def parts(device: str, small: Size, wide: Size, seconds: float) -> dict[str, Part]:
    """What is compared and measured on a device, beside the tests."""
    return {
        "harvest": lambda: gpu_parts.harvest_agrees(device),
        "step": lambda: gpu_parts.steps_agree(device, small),
        "analysis": lambda: gpu_parts.analysis_agrees(device, small),
        "limits": lambda: gpu_parts.limits(device),
        "rate of the harvest": lambda: gpu_parts.harvest_rate(device, seconds),
        "rate of steps": lambda: gpu_parts.step_rates(device, wide, seconds),
    }


def findings(of: Mapping[str, Part]) -> Iterator[Finding]:
    """All parts, one after the other; one that raises an error ends with a finding that did not pass."""
    for name, part in of.items():
        console.say(f"{name} ...")
        try:
            yield from _found(part)
        except PartError as error:
            yield Finding(part=name, what=str(error), found=None, expected="no error", passed=False)


def own_tests(paths: Sequence[str] = ("tests/gpu",)) -> Iterator[Finding]:
    """The project's tests for a GPU, in a process of their own; one that is skipped did not pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-rs", "-p", "no:cacheprovider", *paths]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = (ended.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    passed = ended.returncode == 0 and "skipped" not in last
    yield Finding(part="tests", what=last, found=ended.returncode, unit="exit code", expected="all pass", passed=passed)


def show(found: Sequence[Finding], device: str) -> None:
    """The table, and one line for all of it."""
    rows = [[each.part, each.what, number(each), each.expected, verdict(each)] for each in found]
    console.table(f"GPU check on {device}", ["part", "what", "found", "expected", ""], rows)
    failed = sum(each.passed is False for each in found)
    judged = sum(each.passed is not None for each in found)
    console.say(f"{failed} of {judged} checks failed" if failed else f"all {judged} checks passed")


def number(finding: Finding) -> str:
    """With its unit."""
    return "" if finding.found is None else f"{finding.found:.4g} {finding.unit}".rstrip()


def verdict(finding: Finding) -> str:
    """What the last column says."""
    return {None: "", True: "passed", False: "FAILED"}[finding.passed]


def exit_code(found: Sequence[Finding]) -> int:
    """0 where something was judged and all of that passed, else 1."""
    judged = [each.passed for each in found if each.passed is not None]
    return 0 if judged and all(judged) else 1


def _found(part: Part) -> Iterator[Finding]:
    try:
        yield from part()
    except Exception as error:  # whatever a device or its compiler raises: the other parts are still to be known
        raise PartError(in_one_line(error)) from error


if __name__ == "__main__":
    main()
