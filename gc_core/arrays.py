"""Records whose fields are arrays with one row for each of the same things: as a mapping, some rows, several joined."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def as_arrays(record: Any) -> dict[str, NDArray[Any]]:
    """The record's arrays by name; not copied, as `dataclasses.asdict` would."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def rows_of(record: T, rows: Any) -> T:
    """A record of some rows, as numpy indexes them."""
    return type(record)(**{name: array[rows] for name, array in as_arrays(record).items()})


def joined(parts: Sequence[T]) -> T:
    """The rows of all parts, one after the other; at least one part."""
    every = [as_arrays(part) for part in parts]
    return type(parts[0])(**{name: np.concatenate([each[name] for each in every]) for name in every[0]})
