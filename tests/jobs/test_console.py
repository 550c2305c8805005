"""What a person is told: rates and remaining time, one line for an error, how to go on after an interruption."""

import pytest

from jobs import console
from jobs.options import Workers


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (61.9, "1:01"), (3599, "59:59"), (3600, "1:00:00"), (93784, "26:03:04")]
)
def test_durations_read_like_a_clock(seconds: float, expected: str) -> None:
    assert console.duration(seconds) == expected


def test_a_log_tells_rate_and_remaining_time_and_not_what_was_done_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("harvest", 100, "samples", done=20) as meter:
        meter.set(30)  # too soon after the start to be told
        now[0] = 20.0
        meter.set(40)
        now[0] = 40.0
        meter.set(40, "the same again is not told twice")
        meter.set(100)
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["harvest", "40/100", "samples", "1.0/s", "1:00", "left"]
    assert told[-1].split()[:2] == ["harvest", "100/100"]
    assert len(told) == 2


def test_a_users_error_is_one_line_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, console.one_line_errors(remedy="try again"):
        raise ValueError("images: [bold]no[/] such folder")
    assert end.value.code == 1
    assert capsys.readouterr().out == "Error: images: [bold]no[/] such folder\n"


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, console.one_line_errors(remedy="The same command continues."):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert "The same command continues." in capsys.readouterr().out


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(AssertionError), console.one_line_errors(remedy=""):
        raise AssertionError("a bug")


@pytest.mark.parametrize(
    ("given", "num_cpus", "num_gpus", "workers", "gpus"),
    [
        (Workers(), 2, 0, 2, 0),
        (Workers(), 64, 4, 4, 1),
        (Workers(gpus_per_worker=0.5), 64, 4, 8, 0.5),
        (Workers(num_workers=3), 2, 0, 3, 0),
        (Workers(num_workers=8, gpus_per_worker=1), 4, 0, 8, 1),
        (Workers(cpus_per_worker=4), 2, 0, 1, 0),
    ],
)
def test_workers_follow_the_cluster_unless_told(
    given: Workers, num_cpus: int, num_gpus: int, workers: int, gpus: float
) -> None:
    resolved = given.resolve(num_cpus=num_cpus, num_gpus=num_gpus)
    assert (resolved.num_workers, resolved.gpus_per_worker) == (workers, gpus)
