"""The plan of rows: every row once, whatever the sizes; independent of the listing's order."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.store import shards

capacities = st.lists(st.integers(0, 40), max_size=60).map(lambda values: np.array(values, dtype=np.int64))


def keys(num_images: int) -> np.ndarray:
    return shards.mix(np.arange(num_images, dtype=np.uint64), seed=99)


@given(capacities, st.integers(1, 50), st.sampled_from([128, 256]), st.integers(0, 5))
def test_every_planned_centre_stands_in_exactly_one_row(
    capacity_I: np.ndarray, centres: int, shard_rows: int, seed: int
) -> None:
    plan = shards.plan(
        capacity_I, keys(len(capacity_I)), None, centres_per_image=centres, shard_rows=shard_rows, seed=seed
    )
    seen = [
        (part.position, part.first + i)
        for s in range(plan.num_shards)
        for part in plan.images(s)
        for i in range(part.count)
    ]
    expected = {(position, i) for position, capacity in enumerate(capacity_I) for i in range(min(capacity, centres))}
    assert len(seen) == len(set(seen)) == plan.num_rows
    assert set(seen) == expected
    for s in range(plan.num_shards):
        assert sum(part.count for part in plan.images(s)) == len(plan.rows(s))


@given(st.permutations(list(range(12))), st.integers(0, 3))
def test_the_plan_follows_the_images_not_the_listing(listing: list[int], seed: int) -> None:
    capacity_I = np.arange(1, 13)
    straight = shards.plan(capacity_I, keys(12), None, centres_per_image=5, shard_rows=128, seed=seed)
    shuffled = shards.plan(capacity_I[listing], keys(12)[listing], None, centres_per_image=5, shard_rows=128, seed=seed)
    np.testing.assert_array_equal(np.array(listing)[shuffled.order_I], straight.order_I)
    np.testing.assert_array_equal(shuffled.ends_I, straight.ends_I)


@given(capacities, st.integers(1, 50), st.integers(0, 5), st.randoms(use_true_random=False))
def test_rows_of_held_out_images_stand_last_and_the_others_as_without_them(
    capacity_I: np.ndarray, centres: int, seed: int, chance: Random
) -> None:
    held_out_I = np.array([chance.random() < 0.3 for _ in capacity_I], np.bool_)
    options = {"centres_per_image": centres, "shard_rows": 128, "seed": seed}
    plan = shards.plan(capacity_I, keys(len(capacity_I)), held_out_I, **options)
    of_row_N = np.repeat(plan.order_I, np.diff(plan.ends_I, prepend=0))
    expected_N = np.arange(plan.num_rows) >= (plan.held_out_from or 0)
    np.testing.assert_array_equal(held_out_I[of_row_N], expected_N)
    mixed = shards.plan(capacity_I, keys(len(capacity_I)), None, **options)
    np.testing.assert_array_equal(mixed.order_I[~held_out_I[mixed.order_I]], plan.order_I[~held_out_I[plan.order_I]])
    for shard in range(plan.num_shards):
        rows, place = plan.rows(shard), plan.places(shard, seed)
        assert sorted(place) == list(range(len(rows)))
        expected_n = expected_N[rows.start : rows.stop]
        np.testing.assert_array_equal(expected_n[place], expected_n)  # each row stands where its own kind stands


def test_where_held_out_images_are_not_told_a_shard_is_shuffled_as_in_the_first_format() -> None:
    plan = shards.plan(np.full(40, 5), keys(40), None, centres_per_image=5, shard_rows=128, seed=3)
    for shard, num_rows in enumerate((128, 72)):
        expected = np.random.default_rng([3, shard]).permutation(num_rows)
        np.testing.assert_array_equal(plan.places(shard, 3), expected)


def test_another_seed_gives_another_order() -> None:
    orders = {
        tuple(shards.plan(np.ones(30, int), keys(30), None, centres_per_image=1, shard_rows=128, seed=s).order_I)
        for s in range(5)
    }
    assert len(orders) == 5


@given(capacities)
def test_small_sets_take_more_centres_and_no_more_than_needed(capacity_I: np.ndarray) -> None:
    centres = shards.default_centres(capacity_I)
    reached = np.minimum(capacity_I, centres).sum()
    assert centres == 10 or reached >= min(2200, capacity_I.sum())
    assert centres == 10 or np.minimum(capacity_I, centres - 1).sum() < min(2200, capacity_I.sum())


@pytest.mark.parametrize(
    ("num_rows", "expected"), [(0, 128), (1, 128), (1024, 128), (1025, 256), (16384, 2048), (10**9, 2048)]
)
def test_default_shards_are_whole_chunks_and_at_least_eight_when_rows_allow(num_rows: int, expected: int) -> None:
    assert shards.default_shard_rows(num_rows) == expected


def test_scrambling_is_a_bijection() -> None:
    mixed = shards.mix(np.arange(100_000, dtype=np.uint64), seed=3)
    assert len(np.unique(mixed)) == 100_000
