"""Ray's start is tried again where it only took too long, and its other errors are shown as they are."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gc_core.config import AnalyseConfig, HarvestConfig
from gc_core.io.run_folder import RunFolder
from jobs import ingest
from jobs.analyse import run_analyse
from jobs.common import cluster, home, interrupt
from jobs.common.options import Waiting, Workers
from jobs.evaluate import EvaluateJob, run_evaluate
from jobs.harvest import foretell, run_harvest
from jobs.train import placement
from jobs.verify import VerifyJob, run_verify

TWO_MINUTES = ["--workers.wait-minutes", "2"]

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
    cluster.start_here("/tmp/x")
    assert calls == ["init", "shutdown", "init"]
    assert "Ray took too long to start; trying again" in capsys.readouterr().out


def test_a_start_that_lost_a_signal_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM was raised where Ray drops exceptions; it waited in vain for what it was starting, and began again."""
    calls = failing(monkeypatch, Exception(TOO_SLOW))
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: interrupt.note(signal.SIGTERM))
    try:
        with pytest.raises(KeyboardInterrupt):
            cluster.start_here("/tmp/x")
    finally:
        interrupt.forget()
    assert calls == ["init"]


def test_a_machine_too_slow_every_time_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, *[Exception(TOO_SLOW)] * 9)
    with pytest.raises(OSError, match="Ray: did not start in 3 tries of 30 seconds; wait until"):
        cluster.start_here("/tmp/x")


def test_other_errors_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing(monkeypatch, RuntimeError("no shared memory"))
    with pytest.raises(RuntimeError, match="no shared memory"):
        cluster.start_here("/tmp/x")
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


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 2.0})


@pytest.mark.parametrize(
    ("workers", "line"),
    [
        (
            Workers(num_workers=8),
            r"8 worker\(s\) with 1 CPU each need 8, this machine has 2; lower",
        ),
        (Workers(cpus_per_worker=1000), r"1 worker\(s\) with 1000 CPU each need 1000, this machine has 2; lower"),
        (Workers(gpus_per_worker=1), r"with 1 GPU each need 1, this machine has 0; lower --workers.gpus-per-worker"),
        (Workers(num_workers=5, cpus_per_worker=0.5), r"5 worker\(s\) with 0.5 CPU each need 2.5"),
    ],
)
def test_workers_that_cannot_come_are_refused_at_once(two_cpus: None, workers: Workers, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        cluster.refuse_impossible(workers)


@pytest.mark.parametrize("workers", [Workers(), Workers(num_workers=2), Workers(num_workers=4, cpus_per_worker=0.5)])
def test_workers_that_fit_are_not(two_cpus: None, workers: Workers) -> None:
    cluster.refuse_impossible(workers)


def test_a_cluster_is_waited_for_aloud_and_not_for_ever(
    two_cpus: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, removed = [0.0], []

    class Group:
        def wait(self, seconds: float) -> bool:
            now[0] += seconds
            return False

    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr(cluster, "placement_group", lambda bundles: Group())
    monkeypatch.setattr(cluster, "remove_placement_group", removed.append)
    monkeypatch.setattr(cluster.ray, "available_resources", lambda: {"CPU": 0.5})
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    with pytest.raises(OSError, match=r"3 worker\(s\) with 1 CPU and 1 GPU each did not come within 2 minutes"):
        cluster.require(Workers(gpus_per_worker=1, wait_minutes=2).resolve(num_cpus=2, num_gpus=0), 3)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 4
    wanted = "3 worker(s) with 1 CPU and 1 GPU each; the cluster has 2 CPUs and 0 GPUs, of which 0.5 and 0 are free"
    assert told[0] == f"waiting  for {wanted} (0.5 of at most 2 minutes)"
    assert len(removed) == 1


@pytest.mark.parametrize(
    "stage",
    [
        lambda run, own: run_harvest(run, HarvestConfig(), Workers(wait_minutes=2)),
        lambda run, own: foretell(run, HarvestConfig(), Workers(wait_minutes=2)),
        lambda run, own: run_analyse(run, "topk-64", AnalyseConfig(), Workers(wait_minutes=2)),
        lambda run, own: run_evaluate(EvaluateJob(run=run.url, workers=Workers(wait_minutes=2))),
        lambda run, own: run_verify(VerifyJob(run=run.url, workers=Workers(wait_minutes=2))),
        lambda run, own: ingest.main(["--activations", str(own), "--group", "D1", "--out", run.url, *TWO_MINUTES]),
    ],
    ids=["harvest", "dry run", "analyse", "evaluate", "verify", "ingest"],
)
def test_every_stage_waits_for_a_busy_cluster_aloud(
    stage: Callable[[RunFolder, Path], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def busy(bundle: dict[str, float], count: int, wait_minutes: float) -> None:
        raise OSError(f"{bundle['CPU']} CPU did not come within {wait_minutes:g} minutes")

    np.save(tmp_path / "own.npy", np.ones((4, 2, 3), np.float32))
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr(cluster, "await_workers", busy)
    monkeypatch.setattr(cluster, "connect", contextlib.nullcontext)
    with pytest.raises((OSError, SystemExit)) as end:
        stage(RunFolder.at(str(tmp_path / "run")), tmp_path / "own.npy")
    assert "1 CPU did not come within 2 minutes" in f"{end.value} {capsys.readouterr().out}"


@pytest.mark.parametrize("minutes", [float("inf"), float("nan"), -1, 1e300])
@pytest.mark.parametrize("kind", [Waiting, Workers])
def test_nobody_waits_for_ever(kind: type[Waiting], minutes: float) -> None:
    with pytest.raises(ValueError, match=r"workers\.wait_minutes: found .*, expected at (least 0|most 525,600)"):
        kind(wait_minutes=minutes)


def test_training_on_a_cluster_without_gpus_takes_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with the CPUs of all machines together can be placed on none."""
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 16.0, "memory": 1e9}},
        {"Alive": True, "Resources": {"memory": 1e9}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 24.0})
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    placed = placement(Workers())
    assert (placed.num_workers, placed.cpus_per_worker) == (1, 16)
    assert cluster.most_cpus([]) == 1


def test_ray_keeps_its_files_where_nobody_else_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    with cluster.private_folder() as folder:
        assert Path(folder).parent.stat().st_mode & 0o777 == 0o700
        assert len(folder) <= cluster.LONGEST_FOLDER + len("/gc-ray-12345678/r")
    assert not Path(folder).parent.exists()


def test_no_short_folder_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise PermissionError("closed")

    monkeypatch.setattr(cluster.tempfile, "mkdtemp", full)
    with pytest.raises(OSError, match="TMPDIR: no writable folder"), cluster.private_folder():
        pass


def test_a_user_without_a_home_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container that was started with a number as its user."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    cluster.check_home()
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match=r"HOME: .*nowhere cannot be written by this user; set it to"):
        cluster.check_home()
    monkeypatch.setattr(home.Path, "home", unknown)
    with pytest.raises(OSError, match="HOME: not set, and this user has none; set it to a writable folder"):
        cluster.check_home()


WITHOUT_HOME = """
import pwd, runpy, sys

def getpwuid(uid):
    raise KeyError(uid)

pwd.getpwuid = getpwuid
sys.argv = ["-m"]
runpy.run_module("jobs.harvest", run_name="__main__")
"""


def test_a_command_of_a_user_whom_nobody_knows_ends_in_one_line_before_ray_is_imported() -> None:
    """Ray looks for the home folder as it is imported: it ended in a traceback."""
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run([sys.executable, "-c", WITHOUT_HOME], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        done.stdout == "Error: HOME: not set, and this user has none; set it to a writable folder, as in HOME=/tmp/me\n"
    )
