"""Laws of a store, wherever it lies: what is written is read, a shard counts once, its record describes what is stored,
and damage is refused by name.

Letters: N rows, G group elements, C channels.
"""

import dataclasses
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gc_core import store
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from gc_core.store import ARRAYS, Commit, ShardArrays, StoreError
from gc_core.store.layout import Written, object_name
from gc_core.store.shard_codec import encode
from support.small_store import (
    ATTRS,
    CHANNELS,
    GROUP,
    NUM_ROWS,
    NUM_SHARDS,
    SHARD_ROWS,
    assert_intact,
    create,
    numbers,
    part,
    shard_of,
    write,
)


def contents(run: RunFolder) -> dict[str, bytes]:
    """Every data object."""
    names = (name for name in objects.sizes(run.activations) if "/c/" in name)
    return {name: objects.read(run.activations, name) for name in names}


def placed_by(opened: store.Store, name: str, array: np.ndarray) -> Written:
    with ThreadPoolExecutor(2) as threads:
        return store.write_once.create_once(opened, 0, name, array, encode(opened.form(name), array, threads), threads)


def rounded(arrays: ShardArrays) -> ShardArrays:
    """What another device might compute: the last bit of every number differs."""
    bits = arrays.activations.view(np.uint16) ^ 1
    activations = np.where(np.abs(arrays.activations) < 60000, bits.view(np.float16), arrays.activations)
    return ShardArrays(activations=activations, image=arrays.image, centre_yx=arrays.centre_yx)


HARM: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "flipped": lambda whole: whole[:50] + bytes([whole[50] ^ 4]) + whole[51:],
}


def read_all(opened: store.Store, name: str) -> None:
    opened.read(0, NUM_ROWS) if name == "activations" else getattr(opened, name)


class StoreLaws:
    """Inherited by each place; its fixture `url` is a location where nothing is."""

    @pytest.fixture
    def empty(self, url: str) -> RunFolder:
        """A store without shards."""
        run = RunFolder.at(url)
        create(run)
        return run

    @pytest.fixture
    def run(self, empty: RunFolder) -> RunFolder:
        """A finished store."""
        write(empty, 2, 0, 1)
        store.finish(empty)
        return empty

    def test_shards_written_in_any_order_read_back_exactly(self, run: RunFolder) -> None:
        assert_intact(run)
        opened = store.open_store(run)
        assert (opened.num_rows, opened.num_shards, opened.channels, opened.group) == (
            NUM_ROWS,
            NUM_SHARDS,
            CHANNELS,
            GROUP,
        )
        assert [len(opened.rows(shard)) for shard in range(NUM_SHARDS)] == [256, 256, 88]
        assert (opened.read(0, 1).dtype, opened.image.dtype, opened.centre_yx.dtype) == (np.float16, np.int64, np.int32)

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (100, 300), (255, 257), (590, 600), (128, 128), (0, 600)])
    def test_any_rows_can_be_read(self, run: RunFolder, start: int, stop: int) -> None:
        np.testing.assert_array_equal(store.open_store(run).read(start, stop), numbers().activations[start:stop])

    def test_attributes_say_what_stands_there(self, run: RunFolder) -> None:
        attrs = store.open_store(run).attrs
        assert attrs.items() >= ATTRS.items()
        assert attrs["format_version"] == 2
        assert attrs["group"] == {"kind": "dihedral", "n": 2}
        assert (attrs["num_rows"], attrs["shard_rows"]) == (NUM_ROWS, SHARD_ROWS)

    def test_rows_of_zeros_are_stored_and_read_as_such(self, empty: RunFolder) -> None:
        for shard in range(NUM_SHARDS):
            zeros = ShardArrays(**{name: 0 * getattr(shard_of(numbers(), shard), name) for name in ARRAYS})
            store.write_shard(empty, shard, zeros, attempt="a")
        assert store.finish(empty) == 0
        assert not store.open_store(empty).read(0, NUM_ROWS).any()

    def test_a_store_whose_mean_was_not_taken_is_unfinished(self, empty: RunFolder) -> None:
        write(empty, 0, 1, 2)
        remedy = rf"the harvest was not finished\. `python -m jobs\.harvest --out {re.escape(empty.url)}"
        with pytest.raises(StoreError, match=remedy):
            store.open_store(empty)
        assert store.open_store(empty, unfinished=True).num_rows == NUM_ROWS
        store.finish(empty)
        assert_intact(empty)

    @pytest.mark.parametrize(
        ("shard", "num_rows"), [(0, 255), (0, 257), (0, 0), (2, 256), (2, 87), (3, 88), (3, 0), (-1, 256)]
    )
    def test_a_shard_that_is_not_exactly_its_rows_is_refused(self, empty: RunFolder, shard: int, num_rows: int) -> None:
        with pytest.raises(StoreError, match=rf"shard {shard} of 3: activations: .* exactly the shard's rows$"):
            store.write_shard(empty, shard, part(numbers(), 0, num_rows), attempt="a")
        assert store.finished_commits(empty) == {}
        assert objects.sizes(empty.commits) == {}

    @pytest.mark.parametrize(
        "changes",
        [
            {"image": np.zeros(255, np.int64)},
            {"centre_yx": np.zeros((256, 1), np.int32)},
            {"activations": np.zeros((256, 1, 1), np.float16)},  # would be broadcast
            {"activations": np.zeros((256, 4, 3), np.float32)},  # would be rounded
            {"image": np.zeros(256, np.int32)},
        ],
    )
    def test_arrays_of_another_shape_or_type_are_refused(
        self, empty: RunFolder, changes: dict[str, NDArray[Any]]
    ) -> None:
        (name,) = changes
        with pytest.raises(StoreError, match=f"shard 0 of 3: {name}: .* found, expected"):
            store.write_shard(empty, 0, dataclasses.replace(shard_of(numbers(), 0), **changes), attempt="a")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_not_finite_are_refused(self, empty: RunFolder, value: float) -> None:
        arrays = shard_of(numbers(), 1)
        arrays.activations[7, 1, 1] = value
        with pytest.raises(StoreError, match=r"shard 1 of 3: activations beyond float16 or not a number"):
            store.write_shard(empty, 1, arrays, attempt="a")
        assert objects.sizes(empty.commits) == {}

    def test_of_two_attempts_at_once_the_first_record_stays(
        self, empty: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rival = RunFolder.at(empty.url)
        described = store.writer.describe

        def overtaken(*args: Any) -> store.Commit:
            monkeypatch.setattr(store.writer, "describe", described)
            store.write_shard(rival, 0, shard_of(numbers(), 0), attempt="rival")
            return described(*args)

        monkeypatch.setattr(store.writer, "describe", overtaken)
        assert store.write_shard(empty, 0, shard_of(numbers(), 0), attempt="slow").attempt == "rival"
        assert store.finished_commits(empty)[0].attempt == "rival"

    def test_the_same_options_continue_a_store(self, run: RunFolder) -> None:
        create(run, code_version="next")
        assert_intact(run)

    def test_other_options_are_refused_with_the_differences(self, run: RunFolder) -> None:
        other = {"seed": 1, "images": "/images", "added": True}
        with pytest.raises(
            StoreError, match=r"other options \(added None -> True; seed 0 -> 1\); choose another --out"
        ):
            create(run, config=other, config_hash="hash of seed 1")
        assert_intact(run)

    def test_other_weights_under_the_same_name_are_refused(self, run: RunFolder) -> None:
        with pytest.raises(StoreError, match=r"other options \(weights_sha256 'aa' -> 'bb'\)"):
            create(run, weights_sha256="bb")

    def test_another_layout_is_refused(self, run: RunFolder) -> None:
        spec = store.StoreSpec(num_rows=601, shard_rows=SHARD_ROWS, channels=CHANNELS, group=GROUP, attrs=ATTRS)
        with pytest.raises(StoreError, match=r"num_rows 600 -> 601"):
            store.create(run, spec)

    def test_shards_of_many_writers_in_any_order_are_the_same_bytes(self, empty: RunFolder) -> None:
        write(empty, 2, 0, 1)
        store.finish(empty)
        assert_intact(empty)
        other = RunFolder.at(empty.url + "-again")
        create(other)
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda shard: write(other, shard), range(NUM_SHARDS)))
        assert contents(empty) == contents(other)
        assert len(contents(empty)) == NUM_SHARDS * len(ARRAYS)

    def test_creating_again_keeps_what_is_there(self, empty: RunFolder) -> None:
        write(empty, 0)
        create(empty)
        assert list(store.finished_commits(empty)) == [0]

    @pytest.mark.parametrize("round_number", range(3))
    def test_of_racing_attempts_with_other_bytes_one_counts_and_its_numbers_are_stored(
        self, empty: RunFolder, round_number: int
    ) -> None:
        attempts, racing = [shard_of(numbers(), 0), rounded(shard_of(numbers(), 0))] * 2, Barrier(4)

        def race(number: int) -> Commit | None:
            racing.wait()
            try:
                return store.write_shard(empty, 0, attempts[number], attempt=str(number))
            except OSError:
                return None  # in each other's way; Ray tries again

        with ThreadPoolExecutor(4) as threads:
            told = [commit for commit in threads.map(race, range(4)) if commit is not None]
        assert told
        assert {commit.attempt for commit in told} == {store.finished_commits(empty)[0].attempt}
        store.open_store(empty, unfinished=True).verify(0)

    def test_a_zombie_that_comes_back_after_the_commit_changes_nothing(self, empty: RunFolder) -> None:
        """It passed its check for a record before there was one, so it goes on to write."""
        write(empty, 0)
        before, record = contents(empty), store.finished_commits(empty)[0]
        opened, late = store.open_store(empty, unfinished=True), rounded(shard_of(numbers(), 0))
        written = {name: placed_by(opened, name, getattr(late, name)) for name in ARRAYS}
        with ThreadPoolExecutor(1) as threads:
            figures = store.commits.Figures({name: its.array for name, its in written.items()}, threads)
            zombie = store.commits.describe(0, written, figures, opened.attrs["config_hash"], "zombie")
        assert store.commits.write_commit_once(empty, zombie) is False
        assert contents(empty) == before
        assert store.finished_commits(empty)[0] == record
        opened.verify(0)

    def test_what_a_dead_attempt_left_is_adopted_if_sound_and_described_as_it_is(self, empty: RunFolder) -> None:
        opened, left = store.open_store(empty, unfinished=True), rounded(shard_of(numbers(), 0))
        placed_by(opened, "activations", left.activations)
        commit = store.write_shard(empty, 0, shard_of(numbers(), 0), attempt="second")
        assert commit.sha256["activations"] == store.digest(left.activations)
        opened.verify(0)

    def test_what_a_dead_attempt_of_other_numbers_left_is_replaced(self, empty: RunFolder) -> None:
        """As when the metadata of an older harvest were deleted, and its data were not."""
        opened = store.open_store(empty, unfinished=True)
        for name in ARRAYS:
            placed_by(opened, name, getattr(shard_of(numbers(seed=1), 0), name))
        commit = store.write_shard(empty, 0, shard_of(numbers(), 0), attempt="second")
        assert commit.sha256["activations"] == store.digest(shard_of(numbers(), 0).activations)
        opened.verify(0)

    def test_an_attempt_whose_objects_were_replaced_does_not_commit(
        self, empty: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        described = store.writer.describe

        def overtaken(*args: object) -> Commit:
            objects.write(empty.activations, object_name("image", 0), b"of another attempt")
            return described(*args)

        monkeypatch.setattr(store.writer, "describe", overtaken)
        with pytest.raises(OSError, match=r"image/c/0: was replaced before its shard was finished"):
            write(empty, 0)
        assert store.finished_commits(empty) == {}
        monkeypatch.undo()

    @pytest.mark.parametrize("name", ARRAYS)
    @pytest.mark.parametrize("harm", HARM)
    def test_a_harmed_object_is_refused_by_its_shard_and_mended_by_another_attempt(
        self, empty: RunFolder, harm: str, name: str
    ) -> None:
        write(empty, 0, 1, 2)
        store.finish(empty)
        sound, key = contents(empty), object_name(name, 1)
        harmed = HARM[harm](sound[key])
        objects.delete(empty.activations, key)
        if harmed is not None:
            objects.write(empty.activations, key, harmed)
        with pytest.raises(StoreError, match=r"shard 1 of 3 is damaged.*`python -m jobs\.verify .* --repair`"):
            store.open_store(empty).verify(1)
        if harm == "flipped":  # sizes do not tell
            with pytest.raises(StoreError, match=r"shard 1 of 3 is damaged"):
                read_all(store.open_store(empty), name)
            store.discard_commit(empty, 1)
        write(empty, 1)
        assert contents(empty) == sound
        assert_intact(empty)
