"""A worker whose threads wait for cores says so, once."""

import logging
from pathlib import Path

import pytest

from jobs.common import company
from jobs.common.company import Company, seconds_without_a_core


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """[time, seconds that the threads waited], as the test sets them."""
    now = [0.0, 0.0]
    monkeypatch.setattr(company.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(company, "seconds_without_a_core", lambda: now[1])
    return now


def test_waiting_threads_are_told_of_once(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    watched = Company(threads=2)
    clock[:] = [company.LOOK_AFTER_S / 2, 10.0]
    watched.look()
    assert not caplog.records  # too early to know
    clock[:] = [30.0, 30.0]
    watched.look()
    watched.look()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "waited 50% of their time" in record.getMessage()
    assert "--workers.cpus-per-worker 1" in record.getMessage()


@pytest.mark.parametrize(("threads", "waited_s"), [(2, 2.0), (1, 30.0)])
def test_a_core_of_its_own_is_no_company_and_one_thread_has_nothing_to_change(
    clock: list[float], caplog: pytest.LogCaptureFixture, threads: int, waited_s: float
) -> None:
    watched = Company(threads=threads)
    clock[:] = [30.0, waited_s]
    watched.look()
    assert not caplog.records


def test_time_without_a_core_adds_up_over_threads(tmp_path: Path) -> None:
    for number, waited_ns in enumerate((1_500_000_000, 500_000_000)):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "schedstat").write_text(f"7 {waited_ns} 3\n")
    (tmp_path / "ended").mkdir()  # between listing and reading
    assert seconds_without_a_core(tmp_path) == 2.0
    assert seconds_without_a_core(tmp_path / "none") is None
