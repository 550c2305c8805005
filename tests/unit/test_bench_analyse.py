"""The analysis benchmark measures each task both ways, and puts the plain way over ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gc_core.symmetry import spectrum
from infra.bench import analyse, scale
from infra.bench.visits import Visit, measured

MB = 10**6


def test_every_task_is_visited_both_ways_at_every_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[tuple[str, int, str]] = []

    def here(work: Callable[..., Any], *args: Any) -> Any:
        if work is analyse.visit:
            visited.append(args[:3])
        return work(*args)

    monkeypatch.setattr(analyse, "in_a_fresh_process", here)
    small = ["--sizes", "8", "24", "--shards", "3", "--rounds", "1", "--group", "D4", "--channels", "4"]
    analyse.main([*small, "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(row["task"], row["size"]) for row in found] == [
        *(("load", 8), ("load", 24), ("compare", 8), ("compare", 24), ("random", 8), ("random", 24), ("merge", 3)),
    ]
    assert all(row["seconds"] > 0 and row["seconds_ratio"] > 0 and row["megabytes"] >= 0 for row in found)
    assert all(row["kept"] == 1 for row in found if row["task"] in ("compare", "random"))
    assert visited == [(row["task"], row["size"], way) for row in found for way in ("plain", "ours")]


def test_ratios_are_of_one_round_and_plain_over_ours() -> None:
    """The second round was disturbed: both ways took ten times as long."""
    seconds = {"plain": (2, 20, 3), "ours": (1, 10, 1)}
    met: list[tuple[str, str]] = []

    def known(task: str, size: int, way: str) -> Visit:
        met.append((task, way))
        number = met.count((task, way)) - 1
        return Visit(seconds=seconds[way][number], peak_bytes={"plain": 40, "ours": 20}[way] * MB)

    rows = measured([("load", 8), ("merge", 3)], rounds=3, visit=known)
    assert rows[-1:] == [
        {"task": "merge", "size": 3, "seconds": 1, "seconds_ratio": 2, "megabytes": 20, "megabytes_ratio": 2}
    ]


def test_what_grows_is_visited_both_ways_and_both_do_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "in_a_fresh_process", lambda work, *args: work(*args))
    options = ["--rows", "16384", "--features", "40", "--rounds", "1", "--json", str(tmp_path / "found.json")]
    scale.main(options)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(row["task"], row["size"]) for row in found] == [
        ("held-out", 16_384), ("export", 40), ("spectrum", 40), ("score", 40), ("match", 40),
    ]  # fmt: skip
    assert all(row["seconds"] > 0 and row["seconds_ratio"] > 0 for row in found)


def test_the_plain_spectrum_is_ours() -> None:
    decoder_FGC = torch.randn(5, scale.GROUP.order, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scale.plain_spectrum(decoder_FGC), spectrum(decoder_FGC, scale.GROUP))
