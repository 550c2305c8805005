"""A benchmark's file of results takes the place of its own earlier one, and of nothing else."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.bench.results import collected, write_results


@dataclass(frozen=True)
class Measured:
    number: int


ROW = {"rate": 1.0, "held_out_fvu": 0.5}


@pytest.mark.parametrize("results", [ROW, [ROW, {**ROW, "rate": 2.0}]])
def test_a_benchmark_replaces_its_own_results(tmp_path: Path, results: Any) -> None:
    path = tmp_path / "found.json"
    write_results(path, [{**ROW, "rate": 9.0}] if isinstance(results, list) else {**ROW, "rate": 9.0})
    write_results(path, results)
    assert json.loads(path.read_text()) == results


@pytest.mark.parametrize("results", [ROW, [ROW]])
@pytest.mark.parametrize(
    "mine",
    [
        b'{"name": "my-package", "version": "1.0.0"}',
        b'[{"title": "my list"}]',
        b'[["a row of mine"]]',
        b'{"rate": 1.0}',
        b"{}",
        b"null",
        b"12",
        b'"rate"',
        b"plain text",
        b"\xff\xfe",
        b"[" * 50_000,
    ],
)
def test_no_file_of_others_is_replaced(tmp_path: Path, results: Any, mine: bytes) -> None:
    """Any JSON was, a package's own included."""
    path = tmp_path / "package.json"
    path.write_bytes(mine)
    with pytest.raises(ValueError, match=r"package\.json: holds something else, .*; name another file"):
        write_results(path, results)
    assert path.read_bytes() == mine


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    seen = []

    def rows() -> Iterator[Measured]:
        for number in range(3):
            seen.append(len(json.loads(path.read_text())) if path.exists() else 0)
            yield Measured(number=number)

    assert collected(rows(), path) == [Measured(number=number) for number in range(3)]
    assert seen == [0, 1, 2]
    assert json.loads(path.read_text()) == [{"number": number} for number in range(3)]
    assert collected(iter([Measured(number=7)]), None) == [Measured(number=7)]
