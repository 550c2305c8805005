"""When features fire, put together from shards: the same whatever the order, and never all shards in memory.

Letters: B samples, G group elements, C channels, F features, T candidates, K examples.
"""

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gc_core import groups
from gc_core.analyse import Firing, merge_firing, watch_shards
from gc_core.metrics import VarianceSums
from gc_core.store import open_store
from support.random_crosscoders import every_activation, random_crosscoder
from support.small_runs import MakeRun

NUM_FEATURES, NUM_PARTS, ROWS_A_PART, TOP = 3, 6, 5, 2
IMAGE_N = np.arange(NUM_PARTS * ROWS_A_PART) // 3


def part(number: int) -> Firing:
    """Some rows, with activations of which many are equal."""
    rng = np.random.default_rng(number)
    value_FB = rng.integers(0, 3, (NUM_FEATURES, ROWS_A_PART)).astype(np.float32)
    row_B = np.arange(number * ROWS_A_PART, (number + 1) * ROWS_A_PART)
    order = np.argsort(-value_FB, axis=1, kind="stable")
    sums = VarianceSums.zeros(2, 1)
    sums.add(torch.from_numpy(rng.standard_normal((ROWS_A_PART, 2, 1))), torch.zeros(ROWS_A_PART, 2, 1))
    value_FT = np.take_along_axis(value_FB, order, 1)
    return Firing(
        num_rows=ROWS_A_PART,
        fired_F=(value_FB > 0).sum(1),
        top_value_FT=value_FT,
        top_row_FT=np.where(value_FT > 0, row_B[order], -1),
        top_pose_FT=(row_B[order] % 7).astype(np.int16),
        pose_count_FG=(value_FB > 0).sum(1, keepdims=True),
        unexplained=sums,
    )


@given(st.permutations(range(NUM_PARTS)))
def test_the_order_in_which_parts_come_decides_nothing(order: list[int]) -> None:
    expected = merge_firing((part(n) for n in range(NUM_PARTS)), IMAGE_N, top_examples=TOP)
    found = merge_firing((part(n) for n in order), IMAGE_N, top_examples=TOP)
    assert found.num_rows == expected.num_rows
    for name in ("fired_F", "top_value_FT", "top_row_FT", "top_pose_FT", "pose_count_FG"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for mine, theirs in zip(found.unexplained.tensors(), expected.unexplained.tensors(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-14, atol=1e-14)


def test_parts_are_merged_as_they_come_and_let_go() -> None:
    alive: list[weakref.ref[Any]] = []

    def arriving() -> Iterator[Firing]:
        for number in range(NUM_PARTS):
            one = part(number)
            alive.append(weakref.ref(one.top_row_FT))
            yield one
            del one
            assert sum(each() is not None for each in alive) <= 2

    merge_firing(arriving(), IMAGE_N, top_examples=TOP)
    assert len(alive) == NUM_PARTS


@every_activation
def test_what_is_seen_is_what_encoding_all_samples_at_once_shows(make_run: MakeRun, activation: str) -> None:
    model = random_crosscoder(group="C_4", channels=6, dict_size=12, activation=activation).float()
    acts_NGC = np.random.default_rng(0).standard_normal((600, 4, 6)).astype(np.float32)
    store = open_store(make_run(acts_NGC, groups.cyclic(4)))
    parts = (watch_shards(store, shards, model, top_examples=3) for shards in (range(2), range(2, 3)))
    found = merge_firing(parts, store.image, top_examples=3)
    acts_BGC = torch.from_numpy(store[:]).float()
    with torch.no_grad():
        z_BF = model.encode(acts_BGC).numpy()
        sums = VarianceSums.zeros(4, 6)
        sums.add(acts_BGC, model.decode(model.encode(acts_BGC)))
    assert found.num_rows == 600
    np.testing.assert_array_equal(found.fired_F, (z_BF > 0).sum(0))
    assert found.unexplained.fraction_unexplained() == pytest.approx(sums.fraction_unexplained(), rel=1e-6)
    for feature in range(12):
        shown = found.top_row_FT[feature][found.top_row_FT[feature] >= 0]
        np.testing.assert_allclose(found.top_value_FT[feature][: len(shown)], z_BF[shown, feature], rtol=1e-5)
        assert found.top_value_FT[feature, 0] == pytest.approx(z_BF[:, feature].max(), rel=1e-5)
        assert np.bincount(store.image[shown], minlength=1).max(initial=0) <= 2
