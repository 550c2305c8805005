"""What the planner says of large tied dictionaries on GPUs: memory and traffic of each worker. Arithmetic alone.

    python -m infra.bench plans [--prototypes 1024 16384] [--gpus 1 4 8] [--memory-gb 80]

No store, no cluster and no GPU is needed: what `jobs.train` shows before it starts, of workers that are not there.
"""

from dataclasses import dataclass

from gc_core import groups
from gc_core.train.planner import Demand, Plan, plans, recommend
from gc_core.train.validation import MAX_HELD_OUT_ROWS
from jobs.common import console
from jobs.common.options import cli

BUFFER_ROWS = 4096
"""Rows of the shuffle buffer, as training has them by default."""
GB = 10**9


@dataclass(frozen=True, kw_only=True)
class PlansBench:
    """Print plans."""

    prototypes: tuple[int, ...] = (256, 1024, 4096, 16_384)
    """P; features are |G| times as many."""
    gpus: tuple[int, ...] = (1, 4, 8)
    memory_gb: float = 80.0
    """Memory of one GPU."""
    group: str = "D32"
    channels: int = 480
    batch: int = 512
    k: int = 32
    sharded_optimiser: bool = False
    """Whether replicas share out the optimiser's state."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench plans`."""
    with console.one_line_errors(remedy="Run the same command again."):
        options = cli(PlansBench, prog="python -m infra.bench plans", args=args, description=__doc__)
        order = groups.parse(options.group).order
        columns = ["prototypes", "features", "GPUs", "replicas x shards", "weights", "gradients", "optimiser",
                   "memory a GPU", "sent a step"]  # fmt: skip
        rows = [
            [f"{size:,}", f"{size * order:,}", str(gpus), *_said(planned(options, size, gpus))]
            for size in options.prototypes
            for gpus in options.gpus
        ]
        console.table(f"tied poses, {options.group}, {options.memory_gb:g} GB a GPU", columns, rows)


def planned(options: PlansBench, prototypes: int, gpus: int) -> Plan | None:
    """Plan of the mesh that `jobs.train` would recommend; None where none fits."""
    order = groups.parse(options.group).order
    demand = Demand(
        dict_sizes=(prototypes,),
        num_elements=order,
        channels=options.channels,
        num_reads=order,
        batch=options.batch,
        k=options.k,
        by_row=True,
        buffer_blocks=(BUFFER_ROWS + MAX_HELD_OUT_ROWS) * order,
        on_host=False,
    )
    every = plans(demand, gpus, sharded_optimiser=options.sharded_optimiser)
    try:
        return recommend(every, int(options.memory_gb * GB))
    except ValueError:
        return None


def _said(one: Plan | None) -> list[str]:
    if one is None:
        return ["none fits", *[""] * 5]
    numbers = (one.weights_bytes, one.gradient_bytes, one.optimiser_bytes, one.memory_bytes, one.sent_bytes)
    return [str(one.mesh), *(f"{number / GB:.2f} GB" for number in numbers)]
