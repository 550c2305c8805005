"""Samples and images a second of one worker, as they were measured; a rate counts only for what it was measured on.

Nothing is extrapolated from one network, group, dictionary or device to another: a rate that is not there is unknown.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from gc_core.io.json_objects import json_bytes, parse_json
from gc_core.io.typed import record_of
from gc_core.planning.workload import Workload

T = TypeVar("T")

HOW_TO_MEASURE = "measure with the same options and --measure FILE on that device, then plan with --rates FILE"


@dataclass(frozen=True, kw_only=True)
class HarvestRate:
    """Of one worker that harvests."""

    device: str
    """Name of the kind of device, such as `cpu-core` or `L4`: chosen by whoever measured."""
    backbone: str
    layer: str
    group: str
    images_per_s: float
    """Images that are looked at."""
    samples_per_s: float
    stored_share: float
    """Bytes stored as a share of those before compression."""
    where: str
    """Day, machine and command."""


@dataclass(frozen=True, kw_only=True)
class TrainKey:
    """What a rate of training depends on."""

    device: str
    group: str
    channels: int
    rows: int
    """Prototypes, or features with weights of their own."""
    tying: str
    activation: str
    k: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class TrainRate:
    """Of one worker that trains, and watches features fire."""

    key: TrainKey
    samples_per_s: float
    encode_samples_per_s: float
    where: str


@dataclass(frozen=True, kw_only=True)
class Rates:
    """All that was measured."""

    harvest: list[HarvestRate]
    train: list[TrainRate]

    def harvest_of(self, work: Workload, device: str) -> HarvestRate | None:
        """What was measured of this network, layer and group on such a device, the newest; None if nothing was."""
        wanted = (device, work.backbone, work.layer, work.parsed_group.name)
        return _last([each for each in self.harvest if (each.device, each.backbone, each.layer, each.group) == wanted])

    def train_of(self, work: Workload, device: str) -> TrainRate | None:
        """What was measured of such a dictionary on such a device, the newest; None if nothing was."""
        return _last([each for each in self.train if each.key == train_key(work, device)])

    def __or__(self, others: "Rates") -> "Rates":
        """These, and others after them."""
        return Rates(harvest=[*self.harvest, *others.harvest], train=[*self.train, *others.train])


def train_key(work: Workload, device: str) -> TrainKey:
    """What the workload's training is measured by."""
    config = work.resolved
    return TrainKey(
        device=device,
        group=work.parsed_group.name,
        channels=work.channels,
        rows=config.num_rows,
        tying=config.tying,
        activation=config.activation,
        k=config.k,
        batch=config.batch,
    )


def read_rates(path: Path) -> Rates:
    """The rates in a file.

    Raises:
        ValueError: it is no file of rates. OSError: it cannot be read.
    """
    rates = record_of(Rates, parse_json(path.read_bytes(), str(path)), where=str(path))
    for each in (*rates.harvest, *rates.train):
        for name, value in vars(each).items():
            if name.endswith(("_per_s", "_share")) and not value > 0:
                raise ValueError(f"{path}: {name} {value} found, expected more than 0")
    return rates


def write_rates(path: Path, new: Rates) -> None:
    """Add to a file, or make it.

    Raises:
        ValueError: there is another file of that name.
    """
    known = read_rates(path) if path.exists() else Rates(harvest=[], train=[])
    path.write_bytes(json_bytes(asdict(known | new)) + b"\n")


def _last(found: Sequence[T]) -> T | None:
    return found[-1] if found else None
