"""Two workers train as one does: the same losses, firing counters and held-out score; and stop together.

Letters: B samples, F features.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from gc_core.checkpoint import save_checkpoint
from gc_core.config import TrainConfig
from gc_core.run_folder import RunFolder
from gc_core.train import Place, Trainer, open_data, resolve, train

pytestmark = pytest.mark.slow  # two processes that import torch

NUM_WORKERS = 2
CONFIG = TrainConfig(
    dict_size=20, k=2, batch=64, lanes=4, steps=30, buffer_rows=512, learning_rate=1e-3,
    checkpoint_every=10, dead_after_samples=128,
)  # fmt: skip


def outcome(run: RunFolder, place: Place, resume: Path | None = None, keep: Path | None = None) -> dict[str, Any]:
    """Metrics and counters of a whole training; checkpoints go below `keep`."""

    def report(metrics: dict[str, float], checkpoint: Trainer | None) -> None:
        if checkpoint is not None and keep is not None:
            save_checkpoint(keep / str(checkpoint.step), checkpoint.state(), checkpoint.metrics)

    data = open_data(run, CONFIG)
    trainer = train(resolve(CONFIG, data), data, place, resume=resume, report=report)
    return {
        "metrics": trainer.metrics,
        "since_fired": trainer.samples_since_fired_F,
        "weights": trainer.model.state_dict(),
    }


def stops_with_a_bad_value_on_the_last_rank(run: RunFolder, place: Place) -> bool:
    data = open_data(run, CONFIG)
    trainer = Trainer(resolve(CONFIG, data), data, place)
    acts_BGC = next(trainer.stream())
    if place.rank == NUM_WORKERS - 1:
        acts_BGC[0, 0, 0] = torch.inf
    try:
        trainer.advance(acts_BGC)
    except FloatingPointError:
        return True
    return False


def work(rank: int, run: RunFolder, folder: Path) -> None:
    """What each worker process does; its findings go to a file."""
    warnings.simplefilter("error")  # a new process does not know pytest's rule
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=NUM_WORKERS)
    place = Place(rank=rank, num_workers=NUM_WORKERS)
    found = {
        "whole": outcome(run, place),
        "resumed": outcome(run, place, resume=folder / "alone" / "10"),
        "stopped": stops_with_a_bad_value_on_the_last_rank(run, place),
    }
    torch.save(found, folder / f"rank {rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def alone_and_together(planted: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any]]:
    """What one worker found, and what each of two did, one of them resuming from the first one's checkpoint."""
    folder = tmp_path_factory.mktemp("workers")
    alone = outcome(planted.run, Place(), keep=folder / "alone")
    torch.multiprocessing.spawn(work, args=(planted.run, folder), nprocs=NUM_WORKERS)
    return alone, [torch.load(folder / f"rank {rank}.pt") for rank in range(NUM_WORKERS)]


@pytest.mark.parametrize("way", ["whole", "resumed"])
def test_two_workers_find_what_one_finds(alone_and_together: tuple[Any, list[Any]], way: str) -> None:
    alone, ranks = alone_and_together
    assert any(row["auxiliary"] > 0 for row in alone["metrics"]), "dead features take part"
    for rank in ranks:
        found = rank[way]
        for row, expected in zip(found["metrics"], alone["metrics"], strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-7)
        assert found["since_fired"].equal(alone["since_fired"])
        torch.testing.assert_close(found["weights"], alone["weights"], rtol=1e-4, atol=1e-5)


def test_workers_hold_the_same_weights(alone_and_together: tuple[Any, list[Any]]) -> None:
    first, second = alone_and_together[1]
    for name, weights in first["whole"]["weights"].items():
        assert weights.equal(second["whole"]["weights"][name])


def test_a_bad_value_on_one_worker_stops_all(alone_and_together: tuple[Any, list[Any]]) -> None:
    assert [rank["stopped"] for rank in alone_and_together[1]] == [True] * NUM_WORKERS
