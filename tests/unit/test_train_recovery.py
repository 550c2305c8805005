"""A training that is killed at any step goes on as if nothing had happened, and checkpoints are written beside the
steps."""

import contextlib
import multiprocessing
import random
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from gc_core.io import objects
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.train import Trainer, Worker, train
from gc_core.train import recovery as recovering
from gc_core.train.checkpoint import Keep, checkpoints, load
from gc_core.train.recovery import Checkpointing, Recovery
from support.small_trainings import cut_at, new_trainer, opened, same_weights

KILLED = {"steps": 120, "checkpoint_every": 7, "dead_after_samples": 128, "average_decay": 0.9}
KILLS = 4
ALL = Keep(last=100)


def kept_training(run: RunFolder, folder: Path, keep: Keep = ALL, **changes: Any) -> Trainer:
    config, data = opened(run, **changes)
    return train(
        [config],
        data,
        Worker(),
        report=lambda metrics: None,
        checkpointing=Checkpointing(folders=[Location.parse(folder)], keep=keep),
    )[0]


def work(run: str, folder: str, tell: Connection) -> None:
    """The process that is killed: tells its steps."""
    advance = Trainer.advance

    def told(self: Trainer, acts_BGC: torch.Tensor) -> None:
        advance(self, acts_BGC)
        tell.send(self.step)

    Trainer.advance = told
    torch.set_num_threads(1)
    kept_training(RunFolder.at(run), Path(folder), **KILLED)


def killed_after(steps: int, run: RunFolder, folder: Path) -> list[int]:
    """Steps that a process told of before SIGKILL met it, some time after its first `steps`; all of them, if it came
    to its end before."""
    server = multiprocessing.get_context("forkserver")  # imports what takes long once for all
    server.set_forkserver_preload(["gc_core.train", "torch._dynamo", "pytest"])  # as the first optimiser step would
    hear, tell = server.Pipe(duplex=False)
    process = server.Process(target=work, args=(run.url, str(folder), tell))
    process.start()
    tell.close()
    told = []
    with contextlib.suppress(EOFError), hear:
        while True:
            told.append(hear.recv())
            if len(told) == steps:
                time.sleep(random.uniform(0, 0.02))
                process.kill()
    process.join()
    assert process.exitcode == (0 if told[-1] == KILLED["steps"] else -signal.SIGKILL)
    process.close()
    return told


@pytest.mark.slow  # five processes
def test_killed_at_any_step_it_ends_bit_for_bit_as_undisturbed(planted: Any, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = kept_training(planted.run, tmp_path / "whole", **KILLED)
    torch.set_num_threads(threads)
    attempts = [killed_after(random.randint(8, 25), planted.run, tmp_path / "killed") for _ in range(KILLS)]
    assert all(told[-1] < KILLED["steps"] for told in attempts), "the processes were killed"
    attempts.append(killed_after(KILLED["steps"] + 1, planted.run, tmp_path / "killed"))
    print("first and last step of each attempt:", [(told[0], told[-1]) for told in attempts])
    assert all(told[0] % KILLED["checkpoint_every"] == 1 for told in attempts), "each goes on from a checkpoint"
    assert attempts[-1][0] > 1
    assert {step for told in attempts for step in told} == set(range(1, KILLED["steps"] + 1))
    found, expected = (pq.read_table(tmp_path / name / "metrics.parquet").to_pylist() for name in ("killed", "whole"))
    assert found == expected
    mine, other = (
        load(checkpoints(Location.parse(tmp_path / name / "checkpoints"))[-1]) for name in ("killed", "whole")
    )
    assert mine["metrics"] == other["metrics"] == whole.metrics
    for part in ("model", "average", "samples_since_fired"):
        torch.testing.assert_close(mine[part], other[part], rtol=0, atol=0)
    torch.testing.assert_close(mine["optimiser"]["state"], other["optimiser"]["state"], rtol=0, atol=0)


def test_before_a_machine_is_lost_checkpoints_are_written_at_once(planted: Any, tmp_path: Path) -> None:
    config, data = opened(planted.run, steps=60, checkpoint_every=50)
    asked = list[bool]()

    def urgent() -> bool:
        asked.append(len(asked) == 1)
        return asked[-1]

    def run(folder: Path, **more: Any) -> Trainer:
        kept = Checkpointing(folders=[Location.parse(folder)], keep=ALL, **more)
        return train([config], data, Worker(), report=lambda metrics: None, checkpointing=kept)[0]

    whole = run(tmp_path / "0", urgent=urgent)
    assert len(asked) == 6, "after every tenth step"
    assert [each.step for each in checkpoints(Location.parse(tmp_path / "0/checkpoints"))] == [20, 50, 60]
    again = run(cut_at(20, tmp_path, tmp_path / "cut") / "0")
    assert same_weights(again, whole)
    assert again.metrics == whole.metrics


class SlowDisk:
    """Holds up every part's writing until told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, save = threading.Event(), recovering.save_part

        def slow(url: str, state: dict[str, Any]) -> None:
            assert self.go.wait(60)
            save(Location.parse(url), state)

        monkeypatch.setattr(recovering, "save_part", slow)


def test_training_goes_on_while_a_checkpoint_is_written(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, trainer = SlowDisk(monkeypatch), new_trainer(planted.run)
    stream = trainer.stream()
    trainer.advance(next(stream))
    before = trainer.model.W_dec.detach().clone()
    with Recovery(Checkpointing(folders=[Location.parse(tmp_path)], keep=Keep()), Worker()) as recovery:
        recovery.save([trainer])
        for _ in range(3):
            trainer.advance(next(stream))
            recovery.check()
        assert checkpoints(Location.parse(tmp_path / "checkpoints")) == []
        disk.go.set()
    stream.close()
    (found,) = checkpoints(Location.parse(tmp_path / "checkpoints"))
    state = load(found)
    assert (found.step, state["step"], trainer.step) == (1, 1, 4)
    assert state["model"]["W_dec"].equal(before)
    assert not trainer.model.W_dec.equal(before)


def test_one_checkpoint_at_most_is_on_its_way(planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, trainer = SlowDisk(monkeypatch), new_trainer(planted.run)
    with Recovery(Checkpointing(folders=[Location.parse(tmp_path)], keep=Keep()), Worker()) as recovery:
        recovery.save([trainer])
        second = threading.Thread(target=recovery.save, args=([trainer],))
        second.start()
        second.join(0.2)
        assert second.is_alive(), "the second waits for the first"
        disk.go.set()
        second.join(60)
        assert not second.is_alive()


@pytest.mark.parametrize("at_the_end", [False, True])
def test_what_goes_wrong_in_writing_stops_the_training(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_the_end: bool
) -> None:
    told: list[int] = []

    def full(url: str, state: dict[str, Any]) -> None:
        if state["step"] == (40 if at_the_end else 10):
            raise OSError("no space left")

    monkeypatch.setattr(recovering, "save_part", full)
    config, data = opened(planted.run, checkpoint_every=10)

    def report(metrics: list[dict[str, float]]) -> None:
        told.append(int(metrics[0]["step"]))

    with pytest.raises(OSError, match="no space left"):
        train([config], data, Worker(), report=report, checkpointing=Checkpointing(folders=[Location.parse(tmp_path)]))
    assert told in ([[10, 20, 30, 40]] if at_the_end else [[10], [10, 20]])


def test_the_last_and_the_best_are_kept(planted: Any, tmp_path: Path) -> None:
    options = {"checkpoint_every": 5, "learning_rate": 3e-2, "steps": 60}
    rows = {
        row["step"]: row["held_out_fvu"]
        for row in kept_training(planted.run, tmp_path / "all", ALL, **options).metrics
        if "held_out_fvu" in row
    }
    best = sorted(rows, key=lambda step: rows[step])
    for keep in (Keep(last=1, best=0), Keep(last=2, best=1), Keep(last=1, best=3)):
        folder = tmp_path / f"{keep.last} {keep.best}"
        kept_training(planted.run, folder, keep, **options)
        expected = {*sorted(rows)[-keep.last :], *best[: keep.best]}
        assert [each.step for each in checkpoints(Location.parse(folder / "checkpoints"))] == sorted(expected)
        assert len(objects.folders(Location.parse(folder / "checkpoints"))) == len(expected)


def test_metrics_are_written_with_every_checkpoint(planted: Any, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def report(metrics: list[dict[str, float]]) -> None:
        if metrics[0]["step"] == 30:
            raise Killed

    config, data = opened(planted.run, checkpoint_every=20)
    with pytest.raises(Killed):
        train([config], data, Worker(), report=report, checkpointing=Checkpointing(folders=[Location.parse(tmp_path)]))
    rows = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    assert [row["step"] for row in rows] == [10, 20]
    assert rows[-1]["held_out_fvu"] > 0


def test_a_training_without_a_folder_keeps_nothing(planted: Any, tmp_path: Path) -> None:
    config, data = opened(planted.run, checkpoint_every=20)
    (bare,) = train([config], data, Worker(), report=lambda metrics: None)
    assert same_weights(bare, kept_training(planted.run, tmp_path, checkpoint_every=20))
