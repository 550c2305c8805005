"""jobs.sweep: three sizes, what was interrupted goes on, what fails is told beside the others, hopeless ones stop.

Most tests train in a plain loop in place of Ray's workers; the last takes the whole way.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gc_core import groups
from gc_core import train as training
from gc_core.config import ResolvedTrainConfig, TrainConfig
from gc_core.io import lease
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.run_folder import RunFolder
from gc_core.sweep.table import Row
from gc_core.train import Worker
from gc_core.train.checkpoint import METRICS, write_metrics
from gc_core.train.recovery import Checkpointing
from jobs import sweep
from jobs.common import axes, claims, cluster, meshes
from jobs.common.options import ResolvedWorkers, Workers, cli
from jobs.sweep import SweepJob, run_sweep
from support.small_runs import write_run

OPTIONS = {"batch": "32", "lanes": "4", "steps": "20", "checkpoint-every": "5", "buffer-rows": "128", "k": "2"}
DIVERGED = "step 3: training diverged"


@pytest.fixture(scope="module")
def harvest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    acts_NGC = np.random.default_rng(0).standard_normal((300, 4, 8)).astype(np.float32)
    run = write_run(tmp_path_factory.mktemp("sweep") / "run", acts_NGC, groups.cyclic(4), (0, 7))
    return run.location.local_path


class Loop:
    """Trains in this process, as Ray's workers would; fails where it is told to."""

    def __init__(self) -> None:
        self.fails: dict[str, int] = {}
        """How often the trainings of which a crosscoder is part fail, by its name."""
        self.interrupts_before: str | None = None
        self.calls: list[tuple[list[str], int | None]] = []

    def __call__(
        self,
        run: RunFolder,
        asked: Mapping[str, TrainConfig],
        data: training.TrainingData,
        workers: Workers,
        upkeep: object = None,
        *,
        until: int | None = None,
    ) -> dict[str, ResolvedTrainConfig]:
        self.calls.append((list(asked), until))
        if self.interrupts_before in asked:
            raise KeyboardInterrupt
        for name in asked:
            if self.fails.get(name, 0):
                self.fails[name] -= 1
                raise ValueError(DIVERGED)
        configs = {name: training.resolve(each, data) for name, each in asked.items()}
        for name, config in configs.items():
            claims.claim(run.crosscoder(name), config)
        folders = [run.crosscoder(name) for name in asked]
        trainers = training.train(
            list(configs.values()),
            data,
            Worker(),
            report=lambda metrics: None,
            checkpointing=Checkpointing(folders=folders),
            until=until,
        )
        for folder, trainer in zip(folders, trainers, strict=True):
            if trainer.step == trainer.num_steps:
                hashes = {METRICS: write_metrics(folder, trainer.metrics)}
                model = trainer.exported()
                assert model is not None
                model.save(folder)
                record = read_json(folder, "config.json")
                results = {"results": trainer.metrics[-1], "files": {**record["files"], **hashes}}
                write_json(folder, "config.json", {**record, **results})
        return configs


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    one = ResolvedWorkers(num_workers=1, gpus_per_worker=0)
    monkeypatch.setattr(sweep, "train_named", made)
    monkeypatch.setattr(sweep, "placement", lambda workers: one)
    monkeypatch.setattr(cluster, "refuse_impossible", lambda workers: None)
    monkeypatch.setattr(meshes, "memory_of_worker", lambda workers: None)
    return made


@pytest.fixture
def folder(harvest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(harvest, tmp_path / "run"))


def job(folder: Path, *args: str, **changes: str) -> SweepJob:
    options = [part for name, value in {**OPTIONS, **changes}.items() for part in (f"--{name}", value)]
    given = ["--run", str(folder), "--name", "s", *options, *args]
    return cli(SweepJob, prog="sweep", args=given, description=None, registry=axes.REGISTRY)


def states(rows: list[Row]) -> dict[str, str]:
    return {row.name: row.state for row in rows}


SIZES = ("--dict-size", "8,12,16")


def test_three_sizes_train_on_one_stream_and_a_law_is_fitted(loop: Loop, folder: Path) -> None:
    rows = run_sweep(job(folder, *SIZES))
    assert loop.calls == [(["s-topk-8-k2", "s-topk-12-k2", "s-topk-16-k2"], None)]
    assert set(states(rows).values()) == {"trained"}
    table = pq.read_table(folder / "sweeps/s/crosscoders.parquet").to_pylist()
    assert [each["dict_size"] for each in table] == [8, 12, 16]
    assert all(each["held_out_fvu"] > 0 and each["device_s"] > 0 and each["samples"] == 640 for each in table)
    assert "training FLOP" in (folder / "sweeps/s/index.html").read_text()
    assert '"exponent":' in (folder / "sweeps/s/fits.json").read_text()


def test_what_was_interrupted_goes_on_and_what_is_finished_is_kept(loop: Loop, folder: Path) -> None:
    loop.interrupts_before = "s-topk-8-k2-s1"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(job(folder, *SIZES, seed="0,1"))
    loop.interrupts_before = None
    loop.calls.clear()
    rows = run_sweep(job(folder, *SIZES, seed="0,1,2"))
    assert [len(names) for names, _ in loop.calls] == [3, 3]
    assert [row.state for row in rows if row.seed == 0] == ["kept"] * 3
    assert [row.state for row in rows if row.seed in (1, 2)] == ["trained"] * 6
    assert all(row.device_s for row in rows), "what the first command spent is remembered"


def test_a_combination_that_cannot_be_is_told_beside_the_others(loop: Loop, folder: Path) -> None:
    rows = run_sweep(job(folder, *SIZES, k="2,10"))
    failed = {row.name: row.why for row in rows if row.state == "failed"}
    assert list(failed) == ["s dict_size=8 k=10"]
    assert "expected at most dict_size (8)" in failed["s dict_size=8 k=10"]
    assert len(rows) == 6


def test_one_that_fails_is_tried_again_alone_and_stops_no_other(loop: Loop, folder: Path) -> None:
    loop.fails = {"s-topk-12-k2": 99}
    rows = run_sweep(job(folder, *SIZES, "--retries", "2"))
    assert states(rows) == {"s-topk-8-k2": "trained", "s-topk-12-k2": "failed", "s-topk-16-k2": "trained"}
    assert rows[1].why == DIVERGED
    assert loop.calls.count((["s-topk-12-k2"], None)) == 3, "alone, and two tries more"


def test_one_that_fails_once_is_trained_at_last(loop: Loop, folder: Path) -> None:
    loop.fails = {"s-topk-12-k2": 2}
    assert set(states(run_sweep(job(folder, *SIZES))).values()) == {"trained"}


def test_a_name_that_other_options_have_is_told(loop: Loop, folder: Path) -> None:
    run_sweep(job(folder, *SIZES))
    rows = run_sweep(job(folder, *SIZES, batch="64"))
    assert set(states(rows).values()) == {"failed"}
    assert "was trained with other options" in rows[0].why


@pytest.mark.usefixtures("loop")
def test_without_a_store_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no activation store found"):
        run_sweep(job(tmp_path / "nowhere", *SIZES))
    assert not (tmp_path / "nowhere").exists()


def test_a_sweep_of_the_same_name_is_waited_for(loop: Loop, folder: Path) -> None:
    with (
        lease.held(RunFolder.at(str(folder)).sweep("s"), lambda holder, waited_s: None),
        pytest.raises(OSError, match=r"sweeps/s: .* is working on it and did not finish within 0 minutes"),
    ):
        run_sweep(job(folder, *SIZES, "--workers.wait-minutes", "0"))
    assert not loop.calls


def test_hopeless_rivals_are_stopped_on_the_way(loop: Loop, folder: Path) -> None:
    rates = ("--learning-rate", "1e-2,1e-3,1e-9,2e-9", "--dict-size", "8")
    rows = run_sweep(job(folder, *rates, "--keep-one-in", "2"))
    assert [(len(names), until) for names, until in loop.calls] == [(4, 5), (2, 10), (1, None)]
    assert [row.state for row in rows] == ["trained", "stopped", "stopped", "stopped"]
    assert [row.steps for row in rows] == [20, 10, 5, 5]
    assert rows[2].why.startswith("after 5 steps: held-out FVU ")
    again = run_sweep(job(folder, *rates, "--keep-one-in", "2"))
    assert len(loop.calls) == 3, "nothing is trained a second time"
    assert [row.state for row in again] == ["kept", "stopped", "stopped", "stopped"]


def test_blocks_and_words_are_lists_too() -> None:
    args = ["--run", "r", "--encoder-reads", "0+2,all", "--activation", "topk,l1", "--group", "C2,None"]
    options = cli(SweepJob, prog="sweep", args=args, description=None, registry=axes.REGISTRY).axes.options
    assert options["encoder_reads"] == ("0,2", "all")
    assert options["activation"] == ("topk", "l1")
    assert options["group"] == ("C2", None)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_command_tells_the_truth_in_its_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: list[Any] = [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]
    given = ["--run", str(folder), *options]
    sweep.main([*given, *SIZES])
    with pytest.raises(SystemExit) as end:
        sweep.main([*given, "--dict-size", "1,8"])
    assert end.value.code == 1
    told = capsys.readouterr().out
    assert "1 of them finished before and kept" in told
    assert "expected at most dict_size (1)" in told
