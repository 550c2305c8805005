"""Two and four workers train as one does: the same losses, thresholds and firing counters; and stop together.

Letters: B samples, F features.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

from gc_core.config import TrainConfig
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.parallel import Mesh
from gc_core.train import Trainer, Worker, open_data, resolve, train
from gc_core.train.checkpoint import Keep, checkpoints
from gc_core.train.recovery import Checkpointing
from support.small_trainings import cut_at
from support.worker_group import member

pytestmark = pytest.mark.slow  # two processes that import torch

WORKERS = [2, 4]
TOPK = TrainConfig(
    dict_size=20, k=2, batch=64, lanes=4, steps=20, buffer_rows=512, learning_rate=1e-3,
    checkpoint_every=10, dead_after_samples=128,
)  # fmt: skip
CONFIGS = [
    TOPK,
    replace(TOPK, activation="batchtopk", k=1),
    replace(TOPK, activation="batchtopk", accumulate=2, blocks_per_step=3, average_decay=0.9),
    replace(TOPK, activation="jumprelu"),
]
WAYS = [*range(len(CONFIGS)), "resumed"]


def outcome(run: RunFolder, config: TrainConfig, worker: Worker, folder: Path | None = None) -> dict[str, Any]:
    """Metrics and counters of a whole training, from the newest checkpoint in `folder`, if there is one."""
    data, folders = open_data(run, config), [Location.parse(folder / "0")] if folder else None
    resolved = [resolve(config, data)]
    (trainer,) = train(
        resolved,
        data,
        worker,
        report=lambda metrics: None,
        checkpointing=Checkpointing(folders=folders, keep=Keep(last=100)) if folders else None,
    )
    return {
        "metrics": trainer.metrics,
        "since_fired": trainer.samples_since_fired_F,
        "dead": trainer.dead_F,
        "weights": trainer.exported().state_dict(),
    }


def stops_with_a_bad_value_on_the_last_rank(run: RunFolder, worker: Worker) -> bool:
    data = open_data(run, TOPK)
    trainer = Trainer(resolve(TOPK, data), data, worker)
    acts_BGC = next(trainer.stream())
    if worker.rank == worker.mesh.num_workers - 1:
        acts_BGC[0, 0, 0] = torch.inf
    try:
        trainer.advance(acts_BGC)
    except FloatingPointError:
        return True
    return False


def work(rank: int, run: RunFolder, folder: Path, num_workers: int) -> None:
    """What each worker process does; its findings go to a file."""
    with member(rank, num_workers, folder / f"meeting of {num_workers}"):
        worker = Worker(rank=rank, mesh=Mesh(replicas=num_workers))
        places = [folder / f"of {num_workers}", *[None] * len(CONFIGS)]
        found: dict[Any, Any] = {way: outcome(run, config, worker, places[way]) for way, config in enumerate(CONFIGS)}
        found["resumed"] = outcome(run, TOPK, worker, folder / f"cut for {num_workers}")
        found["stopped"] = stops_with_a_bad_value_on_the_last_rank(run, worker)
        torch.save(found, folder / f"rank {rank} of {num_workers}.pt")


@pytest.fixture(scope="module")
def alone(planted: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What one worker finds for each config, and the folder where its checkpoints of the first lie."""
    folder = tmp_path_factory.mktemp("workers")
    found = [outcome(planted.run, config, Worker()) for config in CONFIGS[1:]]
    return folder, [outcome(planted.run, TOPK, Worker(), folder=folder / "alone"), *found]


@pytest.fixture(scope="module", params=WORKERS)
def together(request: Any, planted: Any, alone: Any) -> list[dict[Any, Any]]:
    """What each of several workers finds; once they resume from the lonely one's checkpoint."""
    count, folder = request.param, alone[0]
    cut_at(10, folder / "alone", folder / f"cut for {count}")
    torch.multiprocessing.spawn(work, args=(planted.run, folder, count), nprocs=count)
    return [torch.load(folder / f"rank {rank} of {count}.pt") for rank in range(count)]


@pytest.mark.parametrize("way", WAYS)
def test_workers_find_what_one_finds(alone: Any, together: list[dict[Any, Any]], way: Any) -> None:
    expected = alone[1][0 if way == "resumed" else way]
    for found in (rank[way] for rank in together):
        for row, other in zip(found["metrics"], expected["metrics"], strict=True):
            assert row == pytest.approx(other, rel=1e-5, abs=1e-7)
        assert found["since_fired"].equal(expected["since_fired"])
        assert found["dead"].equal(expected["dead"])
        torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-4, atol=1e-5)


def test_one_worker_goes_on_where_several_left_off(planted: Any, alone: Any, together: Any) -> None:
    count, (folder, found) = len(together), alone
    cut = cut_at(10, folder / f"of {count}", folder / f"cut of {count}")
    assert [each.step for each in checkpoints(Location.parse(cut / "0/checkpoints"))] == [10]
    for row, other in zip(outcome(planted.run, TOPK, Worker(), cut)["metrics"], found[0]["metrics"], strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-7)


def test_dead_features_and_thresholds_take_part(alone: Any) -> None:
    assert any(row["auxiliary"] > 0 for row in alone[1][0]["metrics"])
    assert any(row["auxiliary"] > 0 for row in alone[1][1]["metrics"])
    assert alone[1][1]["weights"]["threshold"] > 0


def test_workers_hold_the_same_weights(together: list[dict[Any, Any]]) -> None:
    for way in WAYS:
        for name, weights in together[0][way]["weights"].items():
            for other in together[1:]:
                assert weights.equal(other[way]["weights"][name])


def test_a_bad_value_on_one_worker_stops_all(together: list[dict[Any, Any]]) -> None:
    assert [rank["stopped"] for rank in together] == [True] * len(together)
