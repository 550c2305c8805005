"""Four workers that split dictionaries and samples train as one does: losses, scores, exported weights, and states.

Letters: F features, G group elements, C channels.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st

from gc_core.config import TrainConfig
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.parallel import Mesh, join, shards_of
from gc_core.train import Trainer, Worker, open_data, resolve, train
from gc_core.train.checkpoint import Keep, checkpoints, load
from gc_core.train.recovery import Checkpointing
from support.small_trainings import cut_at
from support.worker_group import member

pytestmark = pytest.mark.slow  # four processes that import torch

NUM_WORKERS = 4
SHARDS = {"2 x 2": 2, "1 x 4": 4, "4 x 1": 1, "2 x 2, shared out": 2, "4 x 1, shared out": 1}
"""By mesh, replicas x shards; without shards, `test_train_workers` tries more. Shared out is the optimiser's state."""
PARTS = {"2 x 2": 2, "1 x 4": 4, "4 x 1": 1, "2 x 2, shared out": 4, "4 x 1, shared out": 4}
"""Of a checkpoint."""
SPARE = {"2 x 1 of 4": Mesh(replicas=2), "1 x 2 of 4": Mesh(shards=2)}
"""Meshes of fewer workers than there are."""
CUT = 15
TOPK = TrainConfig(
    dict_size=20, k=2, batch=64, lanes=4, steps=30, buffer_rows=512, learning_rate=1e-3,
    checkpoint_every=CUT, dead_after_samples=64,
)  # fmt: skip
TIED = replace(TOPK, dict_size=None, tying="orbit", prototypes=20)
CONFIGS = {
    "topk": TOPK,
    "batchtopk": replace(TOPK, activation="batchtopk", k=1),
    "l1": replace(TOPK, activation="l1", l1_warmup_share=0.0, norm_over="blocks"),
    "jumprelu": replace(TOPK, activation="jumprelu", init="transpose"),
    "nested": replace(TOPK, matryoshka="7,13", clip_norm=0.05, optimiser="lazy", aux_k=1, encoder_reads="all"),
    "every option": replace(
        TOPK, activation="batchtopk", matryoshka="7,13", accumulate=2, blocks_per_step=3, average_decay=0.9,
        clip_norm=0.05,
    ),
    "bfloat16": replace(TOPK, dtype="bfloat16"),
    "half state": replace(TOPK, optimiser_state="bfloat16"),
    "tied": TIED,
    "tied l1": replace(TIED, activation="l1", l1_warmup_share=0.0, norm_over="blocks"),
    "tied jumprelu": replace(TIED, activation="jumprelu", init="transpose"),
    "tied, every option": replace(
        TIED, activation="batchtopk", matryoshka="7,13", accumulate=2, average_decay=0.9, clip_norm=0.05,
        optimiser="lazy", aux_k=1, poses=2, invariant_prototypes=7,
    ),
}  # fmt: skip
WAYS = [*CONFIGS, "resumed"]
COARSE = {"bfloat16": 3e-3, "half state": 3e-3}
"""Relative difference allowed where products or moments are rounded to 8 bits; 1e-5 for all others."""


def tried(mesh: str, way: str) -> bool:
    """Whether this way of training is tried on this mesh."""
    if "shared out" in mesh:
        return way in ("topk", "l1", "nested", "every option", "half state", "tied", "tied, every option", "resumed")
    return SHARDS[mesh] > 1 or way in ("topk", "tied", "tied, every option", "resumed")


def outcome(run: RunFolder, config: TrainConfig, worker: Worker, folder: Path | None = None) -> dict[str, Any]:
    """Metrics, weights and states of a whole training, from the newest checkpoint in `folder`, if there is one."""
    data = open_data(run, config)
    config = resolve(config, data)
    first = {name: tensor.clone() for name, tensor in Trainer(config, data, worker).model.state_dict().items()}
    folders = [Location.parse(folder / "0")] if folder else None
    (trainer,) = train(
        [config],
        data,
        worker,
        report=lambda metrics: None,
        checkpointing=Checkpointing(folders=folders, keep=Keep(last=100)) if folders else None,
    )
    exported = trainer.exported()
    return {
        "first": first,
        "metrics": trainer.metrics,
        "last": trainer.model.state_dict(),
        "state": trainer.state(),
        "weights": exported.state_dict() if exported else None,
    }


def gradient_through_a_total(worker: Worker) -> torch.Tensor:
    """Of 3 times the sum of all shards' parts, by this shard's."""
    part = torch.ones(2, requires_grad=True)
    (3 * shards_of(worker).total(part)).sum().backward()
    assert part.grad is not None
    return part.grad


def stops_with_a_bad_value_on_the_last_rank(run: RunFolder, worker: Worker) -> bool:
    data = open_data(run, TOPK)
    trainer = Trainer(resolve(TOPK, data), data, worker)
    acts_BGC = next(trainer.stream())
    if worker.rank == worker.mesh.num_workers - 1:
        trainer.model.W_enc.data[:] = torch.inf
    try:
        trainer.advance(acts_BGC)
    except FloatingPointError:
        return True
    return False


def work(rank: int, run: RunFolder, folder: Path) -> None:
    """What each worker process does on every mesh; its findings go to a file."""
    with member(rank, NUM_WORKERS, folder / "meeting"):
        found: dict[Any, Any] = {}
        for mesh, dict_shards in SHARDS.items():
            worker = join(Mesh.of(NUM_WORKERS, dict_shards, sharded_optimiser="shared out" in mesh), rank=rank)
            assert worker is not None
            found[mesh] = {way: outcome(run, config, worker) for way, config in CONFIGS.items() if tried(mesh, way)}
            found[mesh]["resumed"] = outcome(run, TOPK, worker, folder / f"cut for {mesh}")
            found[mesh]["kept"] = outcome(run, TOPK, worker, folder / mesh)["metrics"]
            found[mesh]["gradient"] = gradient_through_a_total(worker)
            found[mesh]["stopped"] = stops_with_a_bad_value_on_the_last_rank(run, worker)
        for name, mesh in SPARE.items():
            worker = join(mesh, rank=rank)
            found[name] = worker and outcome(run, TOPK, worker, folder / f"{name}, cut")
        torch.save(found, folder / f"rank {rank}.pt")


@pytest.fixture(scope="module")
def alone(planted: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """What one worker finds in each way, and the folder where its checkpoints of the first lie."""
    folder = tmp_path_factory.mktemp("mesh")
    kept = {"topk": folder / "alone"}
    found = {way: outcome(planted.run, config, Worker(), kept.get(way)) for way, config in CONFIGS.items()}
    return folder, {**found, "resumed": found["topk"]}


@pytest.fixture(scope="module")
def together(planted: Any, alone: Any) -> list[dict[str, Any]]:
    """What each of four workers finds on each mesh."""
    for mesh in (*SHARDS, *SPARE):
        cut_at(CUT, alone[0] / "alone", alone[0] / (f"{mesh}, cut" if mesh in SPARE else f"cut for {mesh}"))
    torch.multiprocessing.spawn(work, args=(planted.run, alone[0]), nprocs=NUM_WORKERS)
    return [torch.load(alone[0] / f"rank {rank}.pt") for rank in range(NUM_WORKERS)]


every_mesh = pytest.mark.parametrize("mesh", SHARDS)
every_way = pytest.mark.parametrize(
    ("mesh", "way"), [(mesh, way) for mesh in SHARDS for way in WAYS if tried(mesh, way)]
)


@every_way
def test_a_mesh_finds_what_one_worker_finds(alone: Any, together: list[dict[str, Any]], mesh: str, way: str) -> None:
    expected, close = alone[1][way], COARSE.get(way, 1e-5)
    for found in (rank[mesh][way] for rank in together):
        for row, other in zip(found["metrics"], expected["metrics"], strict=True):
            assert row == pytest.approx(other, rel=close, abs=1e-6)
    weights = together[0][mesh][way]["weights"]
    torch.testing.assert_close(weights, expected["weights"], rtol=10 * close, atol=10 * close)


@pytest.mark.parametrize("mesh", SPARE)
def test_workers_that_are_too_many_have_no_part(alone: Any, together: list[dict[str, Any]], mesh: str) -> None:
    assert [rank[mesh] is None for rank in together] == [False, False, True, True]
    for found in (together[0][mesh], together[1][mesh]):
        for row, other in zip(found["metrics"], alone[1]["topk"]["metrics"], strict=True):
            assert row == pytest.approx(other, rel=1e-5, abs=1e-6)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 60), st.integers(1, 24))
def test_fewer_workers_form_the_largest_mesh_of_them(replicas: int, shards: int, number: int, lanes: int) -> None:
    found = Mesh(replicas=replicas, shards=shards).within(number, lanes=lanes)
    fitting = [count for count in range(1, replicas + 1) if count * shards <= number and lanes % count == 0]
    assert (found and found.replicas) == max(fitting, default=None)
    assert found is None or (found.shards == shards and found.obstacle(lanes=lanes, features={}) is None)


@every_mesh
def test_one_worker_goes_on_where_a_mesh_left_off(planted: Any, alone: Any, together: Any, mesh: str) -> None:
    folder, found = alone
    assert [rank[mesh]["kept"] == together[0][mesh]["kept"] for rank in together] == [True] * NUM_WORKERS
    cut = cut_at(CUT, folder / mesh, folder / f"cut of {mesh}")
    (kept,) = checkpoints(Location.parse(cut / "0/checkpoints"))
    assert (kept.step, kept.num_parts) == (CUT, PARTS[mesh])
    assert load(kept)["optimiser"]["state"][0]["exp_avg"].shape[0] == 20
    for row, other in zip(outcome(planted.run, TOPK, Worker(), cut)["metrics"], found["topk"]["metrics"], strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-6)


def test_dead_features_and_thresholds_take_part(alone: Any) -> None:
    for way in ("topk", "batchtopk", "nested", "every option", "tied, every option"):
        assert any(row["auxiliary"] > 0 for row in alone[1][way]["metrics"])
    assert alone[1]["batchtopk"]["weights"]["threshold"] > 0


@every_way
def test_each_worker_keeps_its_features_and_their_state(
    alone: Any, together: list[dict[str, Any]], mesh: str, way: str
) -> None:
    """20 features: W_dec is the same number whatever the mesh, and parts put together have the whole's counters."""
    shards = SHARDS[mesh]
    for rank, found in enumerate(worker[mesh][way] for worker in together):
        own = slice(rank % shards * 20 // shards, (rank % shards + 1) * 20 // shards)
        state, whole = found["state"], alone[1][way]["state"]
        kept = slice(own.start + rank // shards * 5, own.start + rank // shards * 5 + 5)
        if PARTS[mesh] == shards:
            kept = own
        assert state["features"] == [kept.start, kept.stop]
        assert state["dict_size"] == whole["dict_size"] == 20
        if "jumprelu" not in way:  # random directions are scaled by a matrix product, which rounds otherwise in parts
            assert found["first"]["W_dec"].equal(alone[1][way]["first"]["W_dec"][own])
        for name in ("W_dec", "W_enc", "b_enc"):
            torch.testing.assert_close(found["first"][name], alone[1][way]["first"][name][own], rtol=1e-5, atol=1e-6)
        if way != "bfloat16":
            assert state["samples_since_fired"].equal(whole["samples_since_fired"][kept])
        moments = state["optimiser"]["state"][0]["exp_avg"]
        assert state["model"]["W_enc"].shape[0] == len(moments) == 20 // PARTS[mesh]
        assert moments.untyped_storage().nbytes() == moments.numel() * moments.element_size(), "no more is held"


@every_mesh
def test_workers_agree_bit_for_bit_on_what_they_share(together: list[dict[str, Any]], mesh: str) -> None:
    for way in (way for way in WAYS if tried(mesh, way)):
        found = [rank[mesh][way]["last"] for rank in together]
        for rank, last in enumerate(found):
            assert last["b_dec"].equal(found[0]["b_dec"])
            assert last["W_dec"].equal(found[rank % SHARDS[mesh]]["W_dec"])


@pytest.mark.parametrize("mesh", ["2 x 2", "4 x 1"])
def test_sharing_out_the_optimiser_changes_roundings_at_most(together: list[dict[str, Any]], mesh: str) -> None:
    """Numbers left over behind the last whole vector are rounded otherwise, and shares end elsewhere."""
    for way in (way for way in WAYS if tried(mesh, way) and tried(f"{mesh}, shared out", way) and way != "half state"):
        for found in together:
            plain, shared = found[mesh][way], found[f"{mesh}, shared out"][way]
            for row, other in zip(plain["metrics"], shared["metrics"], strict=True):
                assert row == pytest.approx(other, rel=1e-6, abs=1e-6)
            torch.testing.assert_close(plain["last"], shared["last"], rtol=1e-6, atol=1e-6, equal_nan=True)


@every_mesh
def test_only_rank_0_gets_the_crosscoder_that_parts_make(together: list[dict[str, Any]], mesh: str) -> None:
    has = [rank[mesh]["topk"]["weights"] is not None for rank in together]
    assert has == [rank == 0 or SHARDS[mesh] == 1 for rank in range(NUM_WORKERS)]


@every_mesh
def test_the_gradient_passes_a_total_unchanged(together: list[dict[str, Any]], mesh: str) -> None:
    assert [rank[mesh]["gradient"].tolist() for rank in together] == [[3, 3]] * NUM_WORKERS


@every_mesh
def test_a_bad_value_on_one_worker_stops_all(together: list[dict[str, Any]], mesh: str) -> None:
    assert [rank[mesh]["stopped"] for rank in together] == [True] * NUM_WORKERS


def test_features_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ValueError, match="found 1,000 rows, expected a multiple of 3 workers"):
        shards_of(Worker(mesh=Mesh(shards=3))).features(1000)
    with pytest.raises(ValueError, match=r"dict_shards: found 3, expected a divisor of the 4 worker\(s\)"):
        Mesh.of(4, 3)
    with pytest.raises(ValueError, match="found 10 rows, expected a multiple of 4 workers"):
        Worker(mesh=Mesh(replicas=4, sharded_optimiser=True)).rows_to_step(10)
