"""Dealing out work: what is kept meanwhile does not grow with what was done."""

import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from jobs.common import cluster


def submit(actor: str, item: int) -> Any:
    """What stands for Ray's reference to a result."""
    return actor, item


def peak_bytes_of_dealing(count: int) -> int:
    """Most memory that dealing so many items to four workers takes at once, Ray's own left out."""
    tracemalloc.start()
    try:
        dealt = cluster.deal(["a", "b", "c", "d"], range(count), submit, poll=lambda: None)
        assert sum(1 for _ in dealt) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_what_was_dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(references: Sequence[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return list(references[:1]), list(references[1:])

    monkeypatch.setattr(cluster.ray, "wait", wait)
    monkeypatch.setattr(cluster, "result", lambda reference: reference)
    few, many = peak_bytes_of_dealing(100), peak_bytes_of_dealing(100_000)
    assert many < few + 20_000, "a set of all that was done would take megabytes"
