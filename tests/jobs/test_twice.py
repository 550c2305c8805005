"""The same command started twice at once: both end well, and what stands there is one run, made once."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from gc_core import store
from gc_core.config import HarvestConfig, TrainConfig
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from jobs.common.options import Workers
from jobs.harvest import run_harvest
from jobs.train import run_train
from jobs.verify import VerifyJob, run_verify

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

ROOT = Path(__file__).parents[2]
SECONDS_TO_END = 500
"""On an idle machine it is one minute; each pipeline starts a Ray of its own."""
IMAGES = ["--images", "stimuli", "--max-stimuli", "60", "--group", "D4", "--layer", "conv2", "--dtype", "float32"]
SIZES = {"dict-size": 32, "k": 4, "steps": 20, "batch": 32, "checkpoint-every": 5}
OPTIONS = [*IMAGES, *(part for name, n in SIZES.items() for part in (f"--train.{name}", str(n)))]


def started(out: Path, scratch: str, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.pipeline", "--out", str(out), *OPTIONS],
            cwd=ROOT,
            stdout=told,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": scratch},
        )


def trainings(run: RunFolder, name: str) -> set[str]:
    """Ray's own records lie apart for each training that was begun."""
    return {path.partition("/")[0] for path in objects.sizes(run.crosscoder(name) / "ray")}


def test_a_pipeline_that_is_started_twice_at_once_ends_well_twice(tmp_path: Path) -> None:
    logs = [tmp_path / "1.log", tmp_path / "2.log"]
    with tempfile.TemporaryDirectory(prefix="gc-", dir="/tmp") as scratch:
        jobs = [started(tmp_path / "run", scratch, log) for log in logs]
        try:
            codes = [job.wait(SECONDS_TO_END) for job in jobs]
        finally:
            for job in jobs:
                job.kill()
                job.wait()
    told = [log.read_text() for log in logs]
    assert codes == [0, 0], told
    assert all("finished in" in each for each in told)
    run = RunFolder.at(str(tmp_path / "run"))
    assert len(trainings(run, "topk-32")) == 1, told
    assert run_verify(VerifyJob(run=run.url))


def test_a_training_that_is_started_twice_at_once_is_done_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.at(str(tmp_path))
    run_harvest(run, HarvestConfig(images="stimuli", max_stimuli=60, group="D1", layer="conv1"), Workers())
    assert store.open_store(run).num_rows == 60
    config = TrainConfig(dict_size=16, k=4, steps=20, batch=32)
    summaries: list[object] = []

    def train() -> None:
        summaries.append(run_train(run, "twice", [config], Workers()))

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_TO_END)
    assert len(summaries) == 2
    assert summaries[0] == summaries[1]
    assert len(trainings(run, "twice")) == 1
    assert f"at work on {run.crosscoder('twice')} (0.0 of at most 30 minutes)" in capsys.readouterr().out
