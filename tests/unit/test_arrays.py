"""Records of arrays: nothing is copied on the way to a mapping; some rows, and all of several, stay together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core.arrays import as_arrays, joined, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    name_N: NDArray[np.int64]
    value_NC: NDArray[np.float32]


def record(first: int, last: int) -> Record:
    name_N = np.arange(first, last)
    return Record(name_N=name_N, value_NC=np.stack([name_N, -name_N], 1).astype(np.float32))


def test_a_mapping_holds_the_very_arrays() -> None:
    one = record(0, 3)
    arrays = as_arrays(one)
    assert list(arrays) == ["name_N", "value_NC"]
    assert arrays["name_N"] is one.name_N
    assert arrays["value_NC"] is one.value_NC


def test_rows_of_all_parts_come_one_after_the_other() -> None:
    whole = joined([record(0, 3), record(3, 3), record(3, 5)])
    np.testing.assert_array_equal(whole.name_N, np.arange(5))
    np.testing.assert_array_equal(whole.value_NC, record(0, 5).value_NC)
    assert whole.value_NC.dtype == np.float32


def test_some_rows_are_the_same_ones_of_every_array() -> None:
    some = rows_of(record(0, 5), np.array([4, 1]))
    np.testing.assert_array_equal(some.name_N, [4, 1])
    np.testing.assert_array_equal(some.value_NC, [[4, -4], [1, -1]])
