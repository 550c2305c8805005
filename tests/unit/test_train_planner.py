"""The planner: what meshes need, which one it takes, and what it refuses."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.train.planner import Demand, Mesh, plan, plans, recommend, refuse_too_large

PAPER = Demand(dict_sizes=(65_536,), num_elements=64, channels=480, num_reads=1, batch=512, k=32)
SMALL = Demand(dict_sizes=(256,), num_elements=8, channels=64, num_reads=1, batch=4096, k=16)


def test_the_weights_of_the_largest_dictionary_are_what_they_are() -> None:
    """2 billion decoder weights, as the design says, in float32; Adam keeps two numbers for each."""
    found = plan(PAPER, Mesh(replicas=1, shards=1))
    weights = 65_536 * (64 * 480 + 480 + 1) * 4
    assert found.weights_bytes == found.gradient_bytes == weights > 8e9
    assert found.optimiser_bytes == 2 * weights
    assert plan(dataclasses.replace(PAPER, state_bytes=2), found.mesh).optimiser_bytes == weights


def test_one_worker_sends_nothing() -> None:
    assert plan(PAPER, Mesh(replicas=1, shards=1)).sent_bytes == 0


def test_shards_send_reconstructions_and_replicas_send_gradients() -> None:
    shards, replicas = plan(PAPER, Mesh(replicas=1, shards=4)), plan(PAPER, Mesh(replicas=4, shards=1))
    values = 512 * 64 * 480 * 4
    assert shards.gradients_sent_bytes == replicas.reconstructions_sent_bytes == 0
    assert shards.reconstructions_sent_bytes == 2 * 3 * values // 4 + 3 * 512 * 32 * 12
    assert replicas.gradients_sent_bytes == 2 * 3 * replicas.gradient_bytes // 4
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


def test_lazy_gradients_are_of_the_rows_touched() -> None:
    dense, lazy = (plan(dataclasses.replace(PAPER, lazy=lazy), Mesh(replicas=2, shards=1)) for lazy in (False, True))
    assert lazy.gradient_bytes == 256 * 32 * PAPER.row_values * 4
    assert lazy.sent_bytes < dense.sent_bytes / 7


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
