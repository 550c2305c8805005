"""Memory and time from neighbours to families where the analysis is started, at the most neighbours there can be.

    python -m infra.bench grouping [--features 16384] [--json FILE]

Nothing is learned and nothing compared: features are dealt to families of `--neighbours` and one, so that each has as
many neighbours as are kept, all of them mutual; similarities are random. Stages are those of `jobs.analyse`: joining
the neighbours of all blocks and keeping mutual pairs, communities, places on the map, and pairs of each family. Memory
is what no file stands for, above what the process had before; beside it what the plan of an analysis counts for it.

Letters: F features, M members of a family, E pairs.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gc_core import families
from gc_core.analyse.plan import NEIGHBOUR_BYTES
from gc_core.families import MOST_NEIGHBOURS, Neighbours
from infra.bench.results import write_results
from infra.bench.visits import Peak
from jobs.common import console
from jobs.common.options import cli

RESOLUTION = 0.5
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class GroupingBench:
    """Measure the way from neighbours to families."""

    features: int = 16_384
    neighbours: int = MOST_NEIGHBOURS
    """Neighbours of each feature."""
    seed: int = 0
    json: Path | None = None
    """Write the results here: a list of flat objects, one a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage; memory at its peak."""

    stage: str
    seconds: float
    peak_bytes: int
    planned_bytes: int


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench grouping`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(GroupingBench, prog="python -m infra.bench grouping", args=args, description=__doc__)
        stages = measure(options)
        if options.json is not None:
            write_results(options.json, [asdict(each) for each in stages])
        rows = [
            [
                each.stage,
                f"{each.seconds:.1f} s",
                f"{each.peak_bytes / MB:,.0f} MB",
                f"{each.planned_bytes / MB:,.0f} MB",
            ]
            for each in stages
        ]
        title = f"{options.features:,} features, {options.neighbours} neighbours each"
        console.table(title, ["stage", "time", "peak", "planned"], rows)


def measure(options: GroupingBench) -> list[Stage]:
    """The stages, in their order.

    Raises:
        ValueError: families of that size are larger than the dictionary.
    """
    if not 1 <= options.neighbours < options.features:
        raise ValueError(f"--neighbours: found {options.neighbours}, expected 1 to {options.features - 1}")
    _through(GroupingBench(features=4, neighbours=1), lambda _, work: work())  # what libraries keep is counted apart
    peak, stages = Peak(), list[Stage]()
    planned = NEIGHBOUR_BYTES * options.features * options.neighbours

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        with peak.watched():
            done = work()
        seconds = time.perf_counter() - start
        stages.append(Stage(stage=stage, seconds=seconds, peak_bytes=peak.num_bytes, planned_bytes=planned))
        peak.num_bytes = 0
        console.say(f"{stage:12} {seconds:.1f} s, {stages[-1].peak_bytes / MB:,.0f} MB")
        return done

    _through(options, timed)
    return stages


def _through(options: GroupingBench, timed: Callable[[str, Callable[[], Any]], Any]) -> None:
    """All stages, each as `timed` does it."""
    count = options.features
    pairs = timed("mutual pairs", lambda: families.mutual(Neighbours.joined(dealt(options)), count))
    members = timed("communities", lambda: families.communities(pairs, count, resolution=RESOLUTION))
    timed("map", lambda: families.placed(pairs, count))
    timed("families", lambda: families.within(members, pairs, count))


def dealt(options: GroupingBench) -> list[Neighbours]:
    """Neighbours of every feature, block by block as tasks give them; of a last family, which may be smaller, fewer."""
    rng = np.random.default_rng(options.seed)
    dealt_F = rng.permutation(options.features)
    family_F = np.empty(options.features, np.int64)
    family_F[dealt_F] = np.arange(options.features) // (options.neighbours + 1)
    members = np.split(np.argsort(family_F, kind="stable"), np.flatnonzero(np.diff(np.sort(family_F))) + 1)
    return [_of_block(block, family_F, members, rng) for block in families.blocks(options.features)]


def _of_block(
    block: range, family_F: NDArray[np.int64], members: list[NDArray[np.int64]], rng: np.random.Generator
) -> Neighbours:
    first_E = np.concatenate([np.full(len(members[family_F[row]]) - 1, row, np.int64) for row in block])
    second_E = np.concatenate([members[family_F[row]][members[family_F[row]] != row] for row in block])
    similarity_E = rng.uniform(RESOLUTION, 1, len(first_E)).astype(np.float32)
    return Neighbours(
        first_E=first_E, second_E=second_E, similarity_E=similarity_E, pose_E=np.zeros(len(first_E), np.int64)
    )
