"""Ray's start is tried again where it only took too long, and its other errors are shown as they are."""

from typing import Any

import pytest

from jobs import cluster

TOO_SLOW = "The current node timed out during startup. This could happen because ..."


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[str]:
    """Ray, failing so many times; what was called."""
    left, calls = list(errors), []

    def init(**_: Any) -> None:
        calls.append("init")
        if left:
            raise left.pop(0)

    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: calls.append("shutdown"))
    return calls


def test_a_slow_start_is_tried_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = failing(monkeypatch, Exception(TOO_SLOW))
    cluster._start_here()
    assert calls == ["init", "shutdown", "init"]
    assert "Ray took too long to start; once more" in capsys.readouterr().out


def test_a_machine_too_slow_every_time_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, *[Exception(TOO_SLOW)] * 9)
    with pytest.raises(OSError, match="Ray: did not start in 3 tries of 30 seconds; wait until"):
        cluster._start_here()


def test_other_errors_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing(monkeypatch, RuntimeError("no shared memory"))
    with pytest.raises(RuntimeError, match="no shared memory"):
        cluster._start_here()
    assert calls == ["init", "shutdown"]


def test_what_a_lost_actor_keeps_is_done_by_another_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors and references are plain names here; `lost` never answers."""
    given: list[str] = []

    def submit(actor: str, item: int) -> str:
        given.append(f"{actor} {item}")
        return given[-1]

    def wait(references: list[str], timeout: float) -> tuple[list[str], list[str]]:
        return [reference for reference in references if not reference.startswith("lost")][:1], []

    monkeypatch.setattr(cluster, "PATIENCE_S", 0.0)
    monkeypatch.setattr(cluster.ray, "wait", wait)
    monkeypatch.setattr(cluster.ray, "get", lambda reference: int(reference.split()[1]))
    found = list(cluster.deal(["lost", "good"], range(5), submit, poll=lambda: None))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert sum(name.startswith("lost") for name in given) == 1
    assert len(given) == 6, "only the lost item was given twice"
