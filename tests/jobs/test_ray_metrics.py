"""Counts for Prometheus: named once, drawn once, told in the documents' words; and how a harvest went, in two rows."""

import json
import re
from pathlib import Path
from unittest import mock

import pytest

from jobs import harvest
from jobs.common import metrics
from jobs.harvest import Done

ROOT = Path(__file__).parents[2]


def test_the_dashboard_draws_every_count_and_no_other() -> None:
    board = json.loads((ROOT / "infra/grafana-harvest.json").read_text())
    expressions = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    assert set(re.findall(r"ray_(gc_\w+)", expressions)) == set(metrics.TOLD)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_count_has_a_name_that_prometheus_takes_as_it_is() -> None:
    assert all(re.fullmatch(r"gc_[a-z_]+_total", name) for name in metrics.TOLD)


def test_failures_are_counted_and_passed_on() -> None:
    with mock.patch.object(metrics, "count") as counted:
        with metrics.counting_failures():
            pass
        counted.assert_not_called()
        with pytest.raises(OSError, match="gone"), metrics.counting_failures():
            raise OSError("gone")
        counted.assert_called_once_with(metrics.FAILURES, 1)


def test_a_harvest_tells_what_it_stored_and_its_slowest_shard() -> None:
    assert harvest.health([], 3.0) == []
    rows = dict(harvest.health([Done(0, 2.0, 30_000_000), Done(7, 5.5, 10_000_000)], 4.0))
    assert rows == {
        "stored now": "2 shards, 40.0 MB, 10.0 MB/s",
        "slowest shard": "number 7, 5.5 s from taken to committed",
    }
