"""Ctrl-C and SIGTERM at every moment of a pipeline: one line, the code of the signal, nothing left running; and the
same command, given again and again, gets to the end."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.exceptions

from gc_core.config import HarvestConfig
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.train import checkpoint
from jobs import harvest
from jobs.common import cluster
from jobs.common.board import Board, ended
from jobs.common.options import Workers
from jobs.harvest import run_harvest
from support.processes import await_end, descendants

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
IMAGES = ["--images", "stimuli", "--max-stimuli", "60", "--group", "D1", "--layer", "conv1", "--shard-rows", "128"]
SIZES = {"dict-size": 32, "k": 4, "batch": 32, "checkpoint-every": 10, "steps": 1000}
OPTIONS = [
    *IMAGES,
    "--dtype",
    "float32",
    *(part for name, n in SIZES.items() for part in (f"--train.{name}", str(n))),
]
SECONDS_TO_BEGIN, SECONDS_TO_END = 400, 200
"""On an idle machine they are ten and three."""


@dataclass
class Job:
    """A pipeline as a shell starts it: its own session, and Ctrl-C not ignored, as it is in the background."""

    out: Path
    told: list[str] = field(default_factory=list)
    before: int | None = None

    def __enter__(self) -> "Job":
        self._scratch = tempfile.TemporaryDirectory(prefix="gc-", dir="/tmp")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs.pipeline", "--out", str(self.out), *OPTIONS],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TMPDIR": self._scratch.name, "PYTHONFAULTHANDLER": "1"},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()
        self._scratch.cleanup()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.told.append(line)

    def says(self, start: str) -> bool:
        return any(line.startswith(start) for line in list(self.told))

    def wait_until(self, moment: Callable[["Job"], bool]) -> None:
        deadline = time.monotonic() + SECONDS_TO_BEGIN
        while not moment(self):
            assert self.process.poll() is None, self.told
            assert time.monotonic() < deadline, self.told
            time.sleep(0.01)

    def end(self) -> tuple[int, str]:
        """Its code and all that it said, once everything that belongs to it has ended."""
        try:
            code = self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it tells where each of its threads is
            self._reader.join(SECONDS_TO_END)
            raise AssertionError("".join(self.told)) from None
        self._reader.join(SECONDS_TO_END)
        return code, "".join(self.told)

    def left_behind(self) -> list[str]:
        return [path.name for path in Path(self._scratch.name).glob("gc-ray-*")]


def starts(job: Job) -> bool:
    """It has taken the signals over, and imports the rest."""
    caught = next(
        line for line in Path(f"/proc/{job.process.pid}/status").read_text().splitlines() if line.startswith("SigCgt")
    )
    return bool(int(caught.split()[1], 16) & 1 << signal.SIGTERM - 1)


def starts_ray(job: Job) -> bool:
    return job.says("starting Ray")


def harvests(job: Job) -> bool:
    return job.says("index")


def trains(job: Job) -> bool:
    return bool(checkpoint.checkpoints(Location.parse(f"{job.out}/crosscoders/topk-32/checkpoints")))


def trains_again(job: Job) -> bool:
    """More checkpoints than the one before left."""
    if job.before is None:
        job.before = newest_step(job)
    return newest_step(job) > job.before


def newest_step(job: Job) -> int:
    found = checkpoint.checkpoints(Location.parse(f"{job.out}/crosscoders/topk-32/checkpoints"))
    return max((each.step for each in found), default=0)


def analyses(job: Job) -> bool:
    config = job.out / "crosscoders/topk-32/config.json"
    return config.exists() and '"results"' in config.read_text()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run, which every interruption leaves a little further."""
    return tmp_path_factory.mktemp("interrupted") / "run"


@pytest.mark.parametrize(
    ("moment", "sent", "send"),
    [
        (starts, signal.SIGINT, os.killpg),  # as a terminal does, to all that belong to the command
        (starts_ray, signal.SIGTERM, os.kill),
        (harvests, signal.SIGINT, os.killpg),
        (trains, signal.SIGINT, os.kill),
        (trains_again, signal.SIGTERM, os.kill),
        (analyses, signal.SIGINT, os.killpg),
    ],
)
def test_a_signal_ends_a_pipeline_in_good_order_at_any_moment(
    out: Path, moment: Callable[[Job], bool], sent: signal.Signals, send: Callable[[int, int], None]
) -> None:
    with Job(out) as job:
        job.wait_until(moment)
        family = descendants(job.process.pid)
        send(job.process.pid, sent)
        code, told = job.end()
        assert code == 128 + sent, told
        word = "Interrupted." if sent == signal.SIGINT else "Interrupted (SIGTERM)."
        remedy = "Run the same command again." if moment is starts else "The same command continues where it stopped."
        assert told.endswith(f"\n{word} {remedy}\n")
        assert told.count("Interrupted") == 1
        assert "Traceback" not in told
        assert "ignored" not in told
        await_end(family)
        assert job.left_behind() == []


def test_the_same_command_gets_to_the_end(out: Path) -> None:
    with Job(out) as job:
        family = set[int]()
        while job.process.poll() is None:
            family |= descendants(job.process.pid)
            time.sleep(0.1)
        code, told = job.end()
        assert code == 0, told
        await_end(family)
    assert "finished in" in told
    assert (out / "atlas/topk-32/index.html").exists()


HARVEST = HarvestConfig(images="stimuli", max_stimuli=60, group="D1", layer="conv1", shard_rows=128, dtype="float32")


@pytest.mark.usefixtures("ray_cluster")
def test_a_harvest_that_fails_gives_its_workers_back_to_a_ray_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left in the middle; the next in the same Ray must not wait for its CPUs."""
    run, config = RunFolder.at(str(tmp_path / "run")), replace(HARVEST, max_stimuli=200)
    monkeypatch.setattr(harvest.cluster, "deal", _fail_after_one)
    with pytest.raises(OSError, match="the disk is gone") as kept:
        run_harvest(run, config, Workers())
    monkeypatch.undo()
    run_harvest(run, config, Workers())
    assert kept.tb, "what it holds was held until here"


@pytest.mark.usefixtures("ray_cluster")
def test_a_training_that_fails_gives_its_workers_back_to_a_ray_that_goes_on() -> None:
    """Its driver stops waiting, whatever the reason; workers that start in their place find nothing to do."""

    @ray.remote(num_cpus=1)
    class Worker:  # never ends by itself, as far as the driver can tell
        def work(self, board: Any) -> None:
            ray.get(board.join.remote(ray.get_runtime_context().current_actor))
            threading.Event().wait()

    await_free_cpus(cluster.num_cpus())
    board: Any = Board.remote()
    workers: list[Any] = [Worker.remote() for _ in range(cluster.num_cpus())]
    tasks = [worker.work.remote(board) for worker in workers]
    await_free_cpus(0)
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while len(ray.get(board.workers.remote())) < len(workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(OSError, match="the disk is gone"), ended(board):
        raise OSError("the disk is gone")
    await_free_cpus(len(workers))
    for task in tasks:
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(task, timeout=SECONDS_TO_END)
    assert ray.get(board.user_error.remote()) == "interrupted"


def await_free_cpus(count: int) -> None:
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while (free := ray.available_resources().get("CPU", 0)) != count:
        assert time.monotonic() < deadline, free
        time.sleep(0.1)


def _fail_after_one(actors: list[Any], items: Any, submit: Any, *, poll: Any) -> Iterator[Any]:
    yield ray.get(submit(actors[0], next(iter(items))))
    raise OSError("the disk is gone")
