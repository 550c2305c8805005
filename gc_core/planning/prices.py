"""The price table: a JSON file that is made for editing, with the day and the source of its numbers."""

import re
from dataclasses import dataclass
from pathlib import Path

from gc_core.io.json_objects import parse_json
from gc_core.io.typed import record_of


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A kind of machine."""

    usd_per_hour: float
    workers: int
    """Workers that one such machine holds: its GPUs, or its cores."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What things cost, in US dollars."""

    as_of: str
    """Day of the numbers, YYYY-MM-DD."""
    source: str
    """Where they are from, and how far to trust them."""
    instances: dict[str, Instance]
    head: str
    """The instance that the driver runs on, all the time."""
    storage_usd_per_gb_month: float
    put_usd_per_1000: float
    """Puts and lists."""
    get_usd_per_1000: float

    def instance(self, name: str) -> Instance:
        """A machine of the table.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in self.instances:
            raise ValueError(
                f"instance: {name} found, expected one of {', '.join(self.instances)}; add it to a copy of the price "
                "table, and give that with --prices"
            )
        return self.instances[name]


def read_prices(path: Path) -> Prices:
    """The table in a file.

    Raises:
        ValueError: it is no price table, a number is below zero, or the head is no instance of it. OSError: it cannot
            be read.
    """
    prices = record_of(Prices, parse_json(path.read_bytes(), str(path)), where=str(path))
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", prices.as_of):
        raise ValueError(f"{path}: as_of {prices.as_of!r} found, expected the day of the prices, such as 2026-12-01")
    dollars = {name: value for name, value in vars(prices).items() if "_usd_" in name}
    dollars |= {f"instances.{name}.usd_per_hour": each.usd_per_hour for name, each in prices.instances.items()}
    for name, value in dollars.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{path}: {name} {value} found, expected at least 0")
    for name, each in prices.instances.items():
        if each.workers < 1:
            raise ValueError(f"{path}: instances.{name}.workers {each.workers} found, expected at least 1")
    if prices.head not in prices.instances:
        raise ValueError(f"{path}: head {prices.head!r} found, expected one of {sorted(prices.instances)}")
    return prices
