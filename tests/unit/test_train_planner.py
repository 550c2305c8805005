"""The planner: what meshes need, which one it takes, and what it refuses."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.parallel.mesh import Mesh
from gc_core.train.planner import (
    Demand,
    demand_of,
    obstacle,
    plan,
    plans,
    recommend,
    refuse_too_large,
)
from support.resolved_configs import data_shape, made

PAPER = Demand(dict_sizes=(65_536,), num_elements=64, channels=480, num_reads=1, batch=512, k=32)
SMALL = Demand(dict_sizes=(256,), num_elements=8, channels=64, num_reads=1, batch=4096, k=16)


def test_the_weights_of_the_largest_dictionary_are_what_they_are() -> None:
    """2 billion decoder weights, as the design says, in float32; Adam keeps two numbers for each."""
    found = plan(PAPER, Mesh(replicas=1, shards=1))
    weights = 65_536 * (64 * 480 + 480 + 1) * 4
    assert found.weights_bytes == weights > 8e9
    assert found.gradient_bytes == 4 * weights
    assert found.optimiser_bytes == 2 * weights
    assert plan(dataclasses.replace(PAPER, state_bytes=2), found.mesh).optimiser_bytes == weights


def test_one_worker_sends_nothing() -> None:
    assert plan(PAPER, Mesh(replicas=1, shards=1)).sent_bytes == 0


def test_shards_send_reconstructions_and_replicas_send_gradients() -> None:
    shards, replicas = plan(PAPER, Mesh(replicas=1, shards=4)), plan(PAPER, Mesh(replicas=4, shards=1))
    values = 512 * 64 * 480 * 4
    assert shards.gradients_sent_bytes == replicas.reconstructions_sent_bytes == 0
    assert shards.reconstructions_sent_bytes == 2 * 3 * values // 4 + 3 * 512 * 32 * 12
    assert replicas.gradients_sent_bytes == 2 * 3 * replicas.weights_bytes // 4
    assert shards.weights_bytes * 4 == replicas.weights_bytes


def test_a_large_dictionary_is_sharded_and_a_small_one_replicated() -> None:
    assert recommend(plans(PAPER, 8), 10**12).mesh == Mesh(replicas=1, shards=8)
    assert recommend(plans(SMALL, 8), 10**12).mesh == Mesh(replicas=8, shards=1)


def test_the_mesh_that_sends_least_is_taken_of_those_that_fit() -> None:
    thrifty, roomy = (plan(SMALL, Mesh(replicas=4 // shards, shards=shards)) for shards in (1, 4))
    roomy = dataclasses.replace(roomy, weights_bytes=0, gradient_bytes=0, samples_bytes=0)
    assert thrifty.sent_bytes < roomy.sent_bytes
    assert recommend([thrifty, roomy], thrifty.memory_bytes) == thrifty
    assert recommend([thrifty, roomy], thrifty.memory_bytes - 1) == roomy


def test_what_cannot_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"mesh 1 x 2 needs \d+\.\d\d GB a worker .*found 4\.00 GB.*more workers"):
        recommend(plans(PAPER, 2), 4 * 10**9)
    with pytest.raises(ValueError, match="mesh 2 x 1"):
        refuse_too_large(plan(PAPER, Mesh(replicas=2, shards=1)), 4 * 10**9)
    refuse_too_large(plan(SMALL, Mesh(replicas=2, shards=1)), 4 * 10**9)


def test_checkpoints_and_the_export_are_copies_in_the_memory_of_workers_without_gpus() -> None:
    """A checkpoint is of all that a worker holds, beside a step; the export is of the whole dictionary, after it."""
    for mesh in (Mesh(replicas=2, shards=2), Mesh(replicas=2, shards=2, sharded_optimiser=True)):
        here, apart = (plan(dataclasses.replace(PAPER, by_row=True, on_host=way), mesh) for way in (True, False))
        sharers = mesh.replicas if mesh.sharded_optimiser else 1
        assert here.checkpoint_bytes == here.weights_bytes // sharers + here.optimiser_bytes
        assert here.export_bytes == 3 * mesh.shards * here.weights_bytes
        assert (apart.checkpoint_bytes, apart.export_bytes) == (0, 0)
        assert here.memory_bytes - apart.memory_bytes == max(
            here.checkpoint_bytes, here.export_bytes - here.gradient_bytes - here.samples_bytes
        )
    several = plan(dataclasses.replace(SMALL, dict_sizes=(256, 4096)), Mesh(replicas=1, shards=1))
    largest = plan(dataclasses.replace(SMALL, dict_sizes=(4096,)), Mesh(replicas=1, shards=1))
    assert several.export_bytes == largest.export_bytes, "they are exported one after another"


def test_gradients_in_factors_cost_what_the_samples_do() -> None:
    """256 samples of each of two replicas: 64 blocks' errors, and the one that was read, sent once, kept twice."""
    dense, by_row = (plan(dataclasses.replace(PAPER, by_row=way), Mesh(replicas=2, shards=1)) for way in (False, True))
    own = 256 * 65 * 480 * 4
    assert (by_row.gradients_sent_bytes, by_row.gradient_bytes) == (own, 2 * own)
    assert by_row.sent_bytes < dense.sent_bytes / 7
    larger = dataclasses.replace(PAPER, by_row=True, dict_sizes=(2**20,))
    assert plan(larger, dense.mesh).sent_bytes == by_row.sent_bytes


def test_what_a_training_needs_follows_from_its_config() -> None:
    config = made(dict_size=1024, group="D_32", k=24, encoder_reads="0,8", lanes=4, batch=512, accumulate=2)
    config = dataclasses.replace(config, blocks_per_step=64)
    found = demand_of([config], data_shape("D_32", channels=480))
    assert (found.num_elements, found.num_reads, found.batch, found.k, found.by_row) == (64, 2, 256, 24, True)
    dense = dataclasses.replace(config, activation="l1", dict_size=2048, optimiser_state="bfloat16")
    assert demand_of([dense], data_shape("D_32", channels=480)).state_bytes == 2
    both = demand_of([config, dense], data_shape("D_32", channels=480))
    assert (both.dict_sizes, both.k, both.by_row, both.state_bytes) == ((1024, 2048), None, False, 4)


def test_a_mesh_that_does_not_divide_lanes_or_features_is_named() -> None:
    config = made(dict_size=30, k=2, lanes=4)
    assert obstacle([config], Mesh(replicas=4, shards=2)) is None
    assert obstacle([config], Mesh(replicas=3, shards=1)) == "lanes: found 4, expected a multiple of 3 replicas"
    found = obstacle([config, dataclasses.replace(config, dict_size=32)], Mesh(replicas=1, shards=3))
    assert found == "dict_size: found 32, expected a multiple of 3 dict_shards"


def test_an_optimiser_that_is_shared_out_holds_less_and_sends_the_weights() -> None:
    for mesh in (Mesh(replicas=4, shards=1), Mesh(replicas=2, shards=2)):
        whole = plan(PAPER, mesh)
        shared = plan(PAPER, dataclasses.replace(mesh, sharded_optimiser=True))
        assert shared.optimiser_bytes * mesh.replicas == whole.optimiser_bytes
        assert whole.weights_sent_bytes == 0
        assert shared.weights_sent_bytes == shared.weights_bytes * (mesh.replicas - 1) // mesh.replicas
        assert shared.sent_bytes == whole.sent_bytes + shared.weights_sent_bytes
        assert shared in plans(PAPER, 4, sharded_optimiser=True)
    with pytest.raises(ValueError, match=r"--workers\.sharded-optimiser, or more workers"):
        refuse_too_large(whole, 10**9)
    with pytest.raises(ValueError, match="bfloat16, or more workers"):
        refuse_too_large(shared, 10**9)
    config = made(dict_size=30, k=2, lanes=4)
    found = obstacle([config], Mesh(replicas=2, shards=2, sharded_optimiser=True))
    assert found == "dict_size: found 30, expected a multiple of 4 workers (sharded_optimiser)"


def test_several_dictionaries_hold_all_weights_and_one_gradient() -> None:
    both = plan(dataclasses.replace(SMALL, dict_sizes=(256, 4096)), Mesh(replicas=1, shards=1))
    alone = [plan(dataclasses.replace(SMALL, dict_sizes=(size,)), both.mesh) for size in (256, 4096)]
    assert both.weights_bytes == sum(one.weights_bytes for one in alone)
    assert both.gradient_bytes == max(one.gradient_bytes for one in alone)


@given(num_workers=st.integers(1, 64), size=st.integers(1, 2**17), dense=st.booleans())
def test_every_mesh_uses_all_workers_and_more_shards_never_hold_more(num_workers: int, size: int, dense: bool) -> None:
    demand = dataclasses.replace(SMALL, dict_sizes=(size,), k=None if dense else 16)
    found = plans(demand, num_workers)
    assert all(one.mesh.num_workers == num_workers for one in found)
    weights = [one.weights_bytes for one in found]
    assert weights == sorted(weights, reverse=True)
    assert recommend(found, 10**15).sent_bytes == min(one.sent_bytes for one in found)
