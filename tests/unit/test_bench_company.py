"""Steps beside busy processes: what is measured ends with the block, and ratios are of one round."""

import os
import time

import pytest

from infra.bench.company import CompanyBench, busy, rows_of, visit


def test_neighbours_keep_cores_busy_until_the_block_ends() -> None:
    with busy(0):
        alone = os.times()
    with busy(2):
        time.sleep(0.5)
    after = os.times()
    assert after.children_user > alone.children_user


def test_ratios_are_medians_of_rounds() -> None:
    rows = rows_of("sparse", {(2, 0): [1.0, 2.0, 4.0], (2, 1): [3.0, 4.0, 4.0], (1, 1): [5.0, 5.0, 5.0]})
    assert [row["times_alone"] for row in rows] == [1.0, 2.0, 1.0]
    assert (rows[1]["step_ms"], rows[1]["fastest_ms"], rows[1]["slowest_ms"]) == (4000, 3000, 4000)


@pytest.mark.parametrize("path", ["sparse", "tied"])
def test_every_meeting_is_measured_in_every_round(path: str) -> None:
    options = CompanyBench(features=512, threads=(1,), neighbours=(0, 1), rounds=2, seconds=0.01)
    found = visit(path, options)
    assert set(found) == {(1, 0), (1, 1)}
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in found.values())
