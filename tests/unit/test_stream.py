"""Every row once an epoch; (seed, step) names a batch; workers share it out; the reader gives the very rows.

Letters: N rows, G group elements, C channels.
"""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.io.run_folder import RunFolder
from gc_core.store import Store, StoreError, open_store
from gc_core.store.shards import CHUNK_ROWS
from gc_core.stream import LaneOrder, batches, in_order, lane_order, read_batches, read_rows

EVERY_BLOCK = np.arange(4)


@st.composite
def orders(draw: st.DrawFn) -> LaneOrder:
    """Orders of stores with any rows held out, whole chunks among them."""
    num_lanes = draw(st.sampled_from([1, 2, 3, 8]))
    num_stored = draw(st.integers(num_lanes, 1500))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows = np.flatnonzero(rng.random(num_stored) >= draw(st.sampled_from([0.0, 0.02, 0.6])))
    without_chunk = rows[rows // CHUNK_ROWS != draw(st.integers(0, 12))]
    rows = next(kept for kept in (without_chunk, rows, np.arange(num_stored)) if len(kept) >= num_lanes)
    return lane_order(rows, num_lanes=num_lanes, buffer_rows=draw(st.sampled_from([1, 100, 4096])), seed=7)


def rows_of_epoch(order: LaneOrder, epoch: int) -> list[np.ndarray]:
    return [np.concatenate(list(order.windows(lane, epoch))) for lane in range(order.num_lanes)]


@given(orders(), st.integers(0, 3))
def test_the_lanes_of_an_epoch_meet_every_row_once(order: LaneOrder, epoch: int) -> None:
    lanes = rows_of_epoch(order, epoch)
    np.testing.assert_array_equal(np.sort(np.concatenate(lanes)), order.rows)
    assert [order.num_rows(lane, epoch) for lane in range(order.num_lanes)] == [len(rows) for rows in lanes]
    assert min(map(len, lanes)) > 0


@given(orders())
def test_a_piece_lies_in_one_chunk(order: LaneOrder) -> None:
    assert (np.diff(order.pieces) > 0).all()
    for begin, end in itertools.pairwise(order.pieces):
        assert len(set(order.rows[begin:end] // CHUNK_ROWS)) == 1


@given(orders(), st.integers(0, 5000))
def test_a_lane_starts_where_it_stopped(order: LaneOrder, consumed: int) -> None:
    lane = order.num_lanes - 1
    epoch, skip = order.start(lane, consumed)
    assert 0 <= skip < order.num_rows(lane, epoch)
    assert sum(order.num_rows(lane, e) for e in range(epoch)) + skip == consumed


def test_another_epoch_and_another_seed_give_another_order() -> None:
    def order(seed: int) -> LaneOrder:
        return lane_order(np.arange(1000), num_lanes=4, buffer_rows=4096, seed=seed)

    first = np.concatenate(rows_of_epoch(order(0), 0))
    assert (first == np.concatenate(rows_of_epoch(order(0), 0))).all()
    assert (first != np.concatenate(rows_of_epoch(order(0), 1))).mean() > 0.9
    assert (first != np.concatenate(rows_of_epoch(order(1), 0))).mean() > 0.9
    assert (first != np.arange(1000)).mean() > 0.9


def test_a_window_mixes_the_rows_of_its_chunks() -> None:
    order = lane_order(np.arange(64 * CHUNK_ROWS), num_lanes=2, buffer_rows=2 * 8 * CHUNK_ROWS, seed=0)
    window = next(order.windows(0, 0))
    assert len(window) == 8 * CHUNK_ROWS
    assert np.bincount(window[:CHUNK_ROWS] // CHUNK_ROWS).max() < CHUNK_ROWS // 2


def test_no_lane_is_dealt_more_than_the_others_for_long() -> None:
    order = lane_order(np.arange(33), num_lanes=8, buffer_rows=64, seed=0)  # 33 pieces: one lane gets a fifth
    met = [sum(order.num_rows(lane, epoch) for epoch in range(8)) for lane in range(8)]
    assert met == [33] * 8


def test_fewer_rows_than_lanes_are_refused() -> None:
    lane_order(np.arange(8), num_lanes=8, buffer_rows=64, seed=0)
    with pytest.raises(ValueError, match="7 samples found, expected at least one for each of 8 lanes"):
        lane_order(np.arange(7), num_lanes=8, buffer_rows=64, seed=0)


@pytest.fixture(scope="module")
def numbered(numbered_run: RunFolder) -> Store:
    return open_store(numbered_run)


@pytest.fixture(scope="module")
def order() -> LaneOrder:
    """Of the numbered store without its held-out rows; fewer chunks than lanes."""
    return lane_order(np.arange(10, 300), num_lanes=8, buffer_rows=64, seed=3)


def take(store: Store, order: LaneOrder, count: int, *, lanes: range = range(8), first_step: int = 0) -> np.ndarray:
    """`count` batches of four rows a lane, (count, B, G, C)."""
    stream = batches(store, order, lanes=lanes, rows_per_lane=4, first_step=first_step, blocks=EVERY_BLOCK)
    found = np.stack(list(itertools.islice(stream, count)))
    stream.close()
    return found


@pytest.mark.parametrize("step", [1, 2, 9, 10, 17])
def test_batches_from_any_step_are_the_tail_of_all_batches(numbered: Store, order: LaneOrder, step: int) -> None:
    np.testing.assert_array_equal(take(numbered, order, 20)[step:], take(numbered, order, 20 - step, first_step=step))


@pytest.mark.parametrize("num_workers", [2, 4, 8])
def test_workers_share_out_the_batch_that_one_worker_would_take(
    numbered: Store, order: LaneOrder, num_workers: int
) -> None:
    alone = take(numbered, order, 12)[:, :, 0, 0]
    shares = [take(numbered, order, 12, lanes=range(rank, 8, num_workers)) for rank in range(num_workers)]
    together = np.concatenate(shares, axis=1)[:, :, 0, 0]
    np.testing.assert_array_equal(np.sort(alone, axis=1), np.sort(together, axis=1))


def test_batches_hold_the_rows_that_the_order_names(numbered: Store, order: LaneOrder) -> None:
    found = take(numbered, order, 25, lanes=range(5, 6))[:, :, 0, 0].ravel()
    named = np.concatenate([rows for epoch in range(5) for rows in order.windows(5, epoch)])[:100]
    np.testing.assert_array_equal(found, named)


@pytest.mark.parametrize("blocks", [[0], [0, 1, 2, 3], [3, 1], [1, 0, 3, 2]])
def test_read_rows_gives_the_exact_activations_in_the_order_asked(numbered: Store, blocks: list[int]) -> None:
    rows = np.array([299, 0, 128, 127, 5, 200])
    expected = rows[:, None, None] + 311 * np.array(blocks)[:, None] + 53 * np.arange(6)
    np.testing.assert_array_equal(read_rows(numbered, rows, np.array(blocks)), expected)


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_read_batches_give_what_read_rows_gives_at_once(numbered: Store, rows_at_once: int) -> None:
    rows = np.array([3, 200, 5, 199, 6, 3, 130])
    parts = list(read_batches(numbered, rows, EVERY_BLOCK, rows_at_once=rows_at_once))
    assert [len(part) for part in parts[:-1]] == [rows_at_once] * (len(parts) - 1)
    np.testing.assert_array_equal(np.concatenate(parts), read_rows(numbered, rows, EVERY_BLOCK))


def test_reading_threads_end_with_the_stream(numbered: Store, order: LaneOrder) -> None:
    def readers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("stream")]

    stream = batches(numbered, order, lanes=range(8), rows_per_lane=4, first_step=0, blocks=EVERY_BLOCK)
    next(stream)
    assert readers()
    stream.close()
    assert readers() == []


def test_an_unreadable_chunk_stops_the_stream(
    numbered: Store, order: LaneOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(out: np.ndarray, start: int) -> None:
        raise StoreError(f"{len(out)} rows from {start} on are damaged")

    monkeypatch.setattr(numbered, "read_into", unreadable)
    with pytest.raises(StoreError, match="are damaged"):
        take(numbered, order, 1)


@pytest.mark.parametrize("rows", [range(300), range(5, 6), range(100, 290), range(128, 256), range(7, 7)])
def test_rows_in_order_are_all_rows_once(numbered: Store, rows: range) -> None:
    found = list(in_order(numbered, rows))
    assert all(len(part) <= CHUNK_ROWS for part in found)
    np.testing.assert_array_equal(np.concatenate(found or [np.empty((0, 4, 6))])[:, 0, 0], list(rows))
