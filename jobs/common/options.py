"""Command lines, and the options that decide where and how fast a job runs, never what it computes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import ConstructorRegistry

from gc_core import bounds
from gc_core.images import moved
from gc_core.images.moved import Move
from gc_core.io.location import local_path
from gc_core.store import DiskCache

T = TypeVar("T")

INTERNAL = "Not for the command line"
"""How the docstring of a field begins that is no option."""


def cli(
    kind: type[T],
    *,
    prog: str,
    args: Sequence[str] | None,
    description: str | None,
    registry: ConstructorRegistry | None = None,
) -> T:
    """`tyro.cli`, where each field's docstring is one paragraph: tyro keeps the line breaks of indented docstrings.
    Fields that are not for the command line are left out."""
    _join_lines(kind)
    return tyro.cli(kind, prog=prog, args=args, description=description, registry=registry)


def paragraphs(kind: type) -> dict[str, str]:
    """The docstring of each of a record's fields, in one line."""
    told: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if is_dataclass(each):
            parsed = docstring_parser.parse_from_object(each)
            told |= {one.arg_name: " ".join((one.description or "").split()) for one in parsed.params}
    return told


def _join_lines(kind: type) -> None:
    """Join the lines of a record's field docstrings into its help, and of the records inside it."""
    told = paragraphs(kind)
    hints: dict[str, Any] = get_type_hints(kind)
    for each in fields(kind):
        if told.get(each.name):
            each.metadata = MappingProxyType({**each.metadata, "help": told[each.name]})
        if told.get(each.name, "").startswith(INTERNAL):
            kind.__annotations__[each.name] = tyro.conf.Suppress[hints[each.name]]
        for inner in (hints[each.name], *get_args(hints[each.name])):
            if isinstance(inner, type) and is_dataclass(inner):
                _join_lines(inner)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Patience with a cluster that is busy, or that still has to grow."""

    wait_minutes: float = 30
    """How long to wait for CPUs and GPUs of a cluster that others have, or whose machines still have to start; what is
    waited for is said meanwhile."""

    def __post_init__(self) -> None:
        bounds.refuse_numbers(self, {"wait_minutes": bounds.WAIT_MINUTES}, prefix="workers.")


@dataclass(frozen=True, kw_only=True)
class Workers(Waiting):
    """Resources of a stage."""

    num_workers: int | None = None
    """Workers; None for one per GPU of the cluster, or without GPUs one per CPU."""
    gpus_per_worker: float | None = None
    """GPUs of each worker; None for 1 where the cluster has GPUs now, else 0. Give 1 where GPU nodes start on
    demand."""
    cpus_per_worker: float = 1
    """CPUs reserved for each worker."""
    dict_shards: int | None = 1
    """Training only: workers that split each dictionary among them (features and all that belongs to them), for
    dictionaries that one worker cannot hold; divides num_workers. None for the number that the planner recommends."""
    min_workers: int | None = None
    """Training only: the fewest workers to go on with while machines are missing, such as lost spot machines; new ones
    are taken up until there are num_workers. None for num_workers always. Changes no result."""
    grow_every_minutes: float = 5
    """With min_workers: how often a training that lacks workers looks for new machines. It goes back to its last
    checkpoint to take them up."""
    sharded_optimiser: bool = False
    """Training only: workers that hold the same features share out the optimiser's state (ZeRO, stage 1), two thirds
    of what a dictionary takes beside its gradients; costs sending the weights once a step, and changes no result."""

    def __post_init__(self) -> None:
        super().__post_init__()
        resources = {"gpus_per_worker": bounds.GPUS, "cpus_per_worker": bounds.CPUS}
        numbers = dict.fromkeys(("num_workers", "dict_shards", "min_workers"), bounds.WORKERS)
        grow = {"grow_every_minutes": bounds.GROW_MINUTES}
        bounds.refuse_numbers(self, {**numbers, **resources, **grow}, prefix="workers.")

    @property
    def threads(self) -> int:
        """Threads of a worker that computes on its CPUs."""
        return max(1, int(self.cpus_per_worker))

    def resolve(self, *, num_cpus: int, num_gpus: int) -> "ResolvedWorkers":
        """Decide what is left open, for a cluster of this size."""
        gpus = (1.0 if num_gpus else 0.0) if self.gpus_per_worker is None else self.gpus_per_worker
        fitting = num_gpus // gpus if gpus else num_cpus // self.cpus_per_worker
        number = self.num_workers or max(1, int(fitting))
        return ResolvedWorkers(**{**vars(self), "num_workers": number, "gpus_per_worker": gpus})


@dataclass(frozen=True, kw_only=True)
class ResolvedWorkers(Workers):
    """Workers of a cluster that is known; only `dict_shards` may be left to the planner."""

    num_workers: int = field()  # takes away the default that would be inherited
    gpus_per_worker: float = field()


@dataclass(frozen=True, kw_only=True)
class MovedImages:
    """Part of jobs that read a run's images again."""

    images_at: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Where images that moved since they were indexed are now, as OLD=NEW: what lay below the path or s3:// URL OLD
    lies below NEW. May be given several times."""

    def __post_init__(self) -> None:
        self.moves()

    def moves(self) -> tuple[Move, ...]:
        """What `images_at` says."""
        return moved.parse(self.images_at)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A copy of what is read from a remote store, on a fast disk of each worker's machine."""

    folder: str | None = None
    """Where it lies, such as /nvme/cache; None for none. Later epochs and other trainings on the same store use it."""
    gb: float = 100
    """How large it may grow, in 10^9 bytes a machine; what was unused for longest goes first."""

    def __post_init__(self) -> None:
        bounds.refuse_text(self)
        bounds.Bound(0, 1e12, above_least=True).refuse("cache.gb", self.gb)
        if self.folder is not None:
            local_path(self.folder)

    def open(self) -> DiskCache | None:
        """The cache; every process that calls this shares it with the others of its machine."""
        return None if self.folder is None else DiskCache(local_path(self.folder), round(self.gb * 1e9))
