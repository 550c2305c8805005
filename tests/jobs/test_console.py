"""What a person is told: rates and remaining time, one line for an error, how to go on after an interruption."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray.exceptions
from ray.exceptions import RayTaskError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from jobs.common import console, errors, interrupt
from jobs.common.options import Workers


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


@pytest.mark.parametrize(
    "error",
    [AssertionError("a bug"), KeyError("gone"), RuntimeError("two\nlines"), RecursionError("deep"), OverflowError("x")],
)
def test_our_own_mistakes_are_one_line_that_names_the_file_with_the_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(errors.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as end, console.one_line_errors(remedy=""):
        raise error
    assert end.value.code == 1
    told = capsys.readouterr().out
    (kept,) = tmp_path.iterdir()
    assert told.count("\n") == 1
    assert type(error).__name__ in told
    assert str(kept) in told
    assert f"raise error\n{type(error).__name__}" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0, "it may name places of a person's disk"


def ray_task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("harvest", "Traceback ...", cause)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ray_task_error(ValueError("images: none found")), "^images: none found$"),
        (ray_task_error(ray_task_error(OSError(errno.ENOSPC, "No space", "/data/x"))), "^/data/x: no space left"),
        (WorkerGroupError("3 failed", {0: ray_task_error(ValueError("k: too large"))}), "^k: too large$"),
        (ControllerError(ValueError("k: too large")), "^k: too large$"),
        (ray.exceptions.OutOfMemoryError("the page of numbers\nthat Ray prints"), "^Ray: a worker ran out of memory"),
        (ray.exceptions.LocalRayletDiedError(), "^Ray: Ray's process on this machine has died"),
        (ray.exceptions.RaySystemError("broken\npipe"), "^Ray: RaySystemError"),
        (MemoryError(), "^memory: this process ran out"),
        (ConnectionError("could not connect to 1.2.3.4"), "could not connect to 1.2.3.4"),
        (ValueError("x" * 10_000), r"^x{1000} \.\.\. x{1000}$"),
    ],
)
def test_errors_of_others_are_told_by_name(error: Exception, line: str) -> None:
    told = errors.in_one_line(error)
    assert re.search(line, told), told
    assert "\n" not in told


def test_what_strangers_name_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[31mred\x07\u202etxt.jpg\n\x9b2J"
    console.say(hostile)
    console.summary("title", [("name", hostile)])
    console.table("title", ["column"], [[hostile]])
    with pytest.raises(SystemExit), console.one_line_errors(remedy=""):
        raise ValueError(hostile)
    with console.progress("index", 1, "images") as meter:
        meter.set(1, hostile)
    told = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(told)
    assert told.count("\\x1b[31mred\\x07\\u202etxt.jpg\\n\\x9b2J") == 5


def test_interruptions_reach_a_job_whatever_handlers_others_left(capsys: pytest.CaptureFixture[str]) -> None:
    """Ray Train leaves a handler that swallows Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)

    def interrupted(number: int) -> None:
        with console.one_line_errors(remedy="Again."):
            with interrupt.interruptible():
                signal.signal(number, signal.SIG_IGN)
            os.kill(os.getpid(), number)
            time.sleep(1)

    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(SystemExit) as end:
            interrupted(number)
        assert end.value.code == 128 + number
        signal.signal(signal.SIGINT, before)
    interrupt.forget()


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


def code_of(job: Callable[[], None]) -> object:
    """Of a job that ends itself."""
    try:
        with pytest.raises(SystemExit) as end, console.one_line_errors(remedy="Again."):
            job()
    finally:
        interrupt.forget()
    return end.value.code


def test_an_interruption_that_python_loses_in_a_destructor_is_neither_told_nor_forgotten(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Fragile:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    def job() -> None:
        fragile = Fragile()
        del fragile
        with console.progress("harvest", 1, "samples") as meter:
            meter.set(0)

    assert code_of(job) == 143
    told = "".join(capfd.readouterr())
    assert "Interrupted (SIGTERM). Again." in told
    assert "Traceback" not in told


def test_a_second_signal_that_comes_with_the_first_does_not_disturb_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As `uv run` hands on what the whole group of processes has got."""

    def job() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    assert code_of(job) == 143
    assert capsys.readouterr().out.count("Interrupted") == 1


def test_what_fails_because_workers_got_the_signal_too_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            raise ray.exceptions.WorkerCrashedError from None

    assert code_of(job) == 130
    assert "Error" not in capsys.readouterr().out


def test_a_call_aside_raises_here_what_it_raised_there() -> None:
    def fail() -> None:
        raise ValueError("k: too large")

    with pytest.raises(ValueError, match="k: too large"):
        interrupt.run_aside(fail, every_s=0.01)


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_nobody_reads_any_more_is_no_error(interrupted: bool) -> None:
    """`| head`, which has read enough; and Ctrl-C on `| tee`, which ends both."""
    code = (
        "import os, signal, time\n"
        "from jobs.common import console\n"
        "with console.one_line_errors(remedy='Again.'):\n"
        "    time.sleep(0.2)\n"
        f"    {'os.kill(os.getpid(), signal.SIGINT)' if interrupted else 'console.say(str(list(range(9))))'}\n"
        "    time.sleep(1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        assert job.stdout
        assert job.stderr
        job.stdout.close()
        told = job.stderr.read()
    assert told == b""
    assert job.returncode == (130 if interrupted else 141)
