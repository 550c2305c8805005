"""The analysis benchmark measures each task both ways, and puts the plain way over ours."""

import json
from pathlib import Path

import pytest

from infra.bench import analyse
from infra.bench.analyse import AnalyseBench, Visit

MB = 10**6


def test_every_task_is_visited_both_ways_at_every_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[tuple[str, int, str]] = []

    def here(task: str, size: int, way: str, folder: str) -> Visit:
        visited.append((task, size, way))
        return analyse.visit(task, size, way, folder)

    monkeypatch.setattr(analyse, "_in_a_fresh_process", here)
    monkeypatch.setattr(analyse, "CHANNELS", 4)
    analyse.main(["--sizes", "8", "24", "--shards", "3", "--rounds", "1", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(row["task"], row["size"]) for row in found] == [
        *(("load", 8), ("load", 24), ("compare", 8), ("compare", 24), ("merge", 3)),
    ]
    assert all(row["seconds"] > 0 and row["seconds_ratio"] > 0 and row["megabytes"] >= 0 for row in found)
    assert visited == [(row["task"], row["size"], way) for row in found for way in ("plain", "ours")]


def test_ratios_are_of_one_round_and_plain_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second round was disturbed: both ways took ten times as long."""
    seconds = {"plain": (2, 20, 3), "ours": (1, 10, 1)}
    met: list[tuple[str, str]] = []

    def planted(task: str, size: int, way: str, folder: str) -> Visit:
        met.append((task, way))
        number = met.count((task, way)) - 1
        return Visit(seconds=seconds[way][number], peak_bytes={"plain": 40, "ours": 20}[way] * MB)

    monkeypatch.setattr(analyse, "_in_a_fresh_process", planted)
    rows = analyse.measure(AnalyseBench(sizes=(8,), shards=(3,)))
    assert rows[-1:] == [
        {"task": "merge", "size": 3, "seconds": 1, "seconds_ratio": 2, "megabytes": 20, "megabytes_ratio": 2}
    ]
