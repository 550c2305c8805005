"""One law for local folders and object storage: a shard counts once, its record describes what is stored, and damage is
refused by name.

Letters: N rows, G group elements, C channels.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from gc_core import store
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from gc_core.store import ARRAYS, Commit, ShardArrays, StoreError
from gc_core.store.layout import Written, object_name
from gc_core.store.shard_codec import encode
from support.small_store import NUM_ROWS, NUM_SHARDS, assert_intact, create, numbers, shard_of, write


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """A store without shards."""
    location = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_url")
    run = RunFolder.at(f"{location}/my run" if request.param == "local" else f"{location}/my%20run")
    create(run)
    return run


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


def test_shards_of_many_writers_in_any_order_are_the_same_bytes(run: RunFolder) -> None:
    write(run, 2, 0, 1)
    store.finish(run)
    assert_intact(run)
    other = RunFolder.at(run.url + "-again")
    create(other)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda shard: write(other, shard), range(NUM_SHARDS)))
    assert contents(run) == contents(other)
    assert len(contents(run)) == NUM_SHARDS * len(ARRAYS)


def test_creating_again_keeps_what_is_there(run: RunFolder) -> None:
    write(run, 0)
    create(run)
    assert list(store.finished_commits(run)) == [0]


@pytest.mark.parametrize("round_number", range(3))
def test_of_racing_attempts_with_other_bytes_one_counts_and_its_numbers_are_stored(
    run: RunFolder, round_number: int
) -> None:
    attempts, racing = [shard_of(numbers(), 0), rounded(shard_of(numbers(), 0))] * 2, Barrier(4)

    def race(number: int) -> Commit | None:
        racing.wait()
        try:
            return store.write_shard(run, 0, attempts[number], attempt=str(number))
        except OSError:
            return None  # in each other's way; Ray tries again

    with ThreadPoolExecutor(4) as threads:
        told = [commit for commit in threads.map(race, range(4)) if commit is not None]
    assert told
    assert {commit.attempt for commit in told} == {store.finished_commits(run)[0].attempt}
    store.open_store(run, unfinished=True).verify(0)


def test_a_zombie_that_comes_back_after_the_commit_changes_nothing(run: RunFolder) -> None:
    """It passed its check for a record before there was one, so it goes on to write."""
    write(run, 0)
    before, record = contents(run), store.finished_commits(run)[0]
    opened, late = store.open_store(run, unfinished=True), rounded(shard_of(numbers(), 0))
    written = {name: placed_by(opened, name, getattr(late, name)) for name in ARRAYS}
    with ThreadPoolExecutor(1) as threads:
        figures = store.commits.Figures({name: its.array for name, its in written.items()}, threads)
        zombie = store.commits.describe(0, written, figures, opened.attrs["config_hash"], "zombie")
    assert store.commits.write_commit_once(run, zombie) is False
    assert contents(run) == before
    assert store.finished_commits(run)[0] == record
    opened.verify(0)


def test_what_a_dead_attempt_left_is_adopted_if_sound_and_described_as_it_is(run: RunFolder) -> None:
    opened, left = store.open_store(run, unfinished=True), rounded(shard_of(numbers(), 0))
    placed_by(opened, "activations", left.activations)
    commit = store.write_shard(run, 0, shard_of(numbers(), 0), attempt="second")
    assert commit.sha256["activations"] == store.digest(left.activations)
    opened.verify(0)


def test_what_a_dead_attempt_of_other_numbers_left_is_replaced(run: RunFolder) -> None:
    """As when the metadata of an older harvest were deleted, and its data were not."""
    opened = store.open_store(run, unfinished=True)
    for name in ARRAYS:
        placed_by(opened, name, getattr(shard_of(numbers(seed=1), 0), name))
    commit = store.write_shard(run, 0, shard_of(numbers(), 0), attempt="second")
    assert commit.sha256["activations"] == store.digest(shard_of(numbers(), 0).activations)
    opened.verify(0)


def test_an_attempt_whose_objects_were_replaced_does_not_commit(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = store.writer.describe

    def overtaken(*args: object) -> Commit:
        objects.write(run.activations, object_name("image", 0), b"of another attempt")
        return described(*args)

    monkeypatch.setattr(store.writer, "describe", overtaken)
    with pytest.raises(OSError, match=r"image/c/0: was replaced before its shard was finished"):
        write(run, 0)
    assert store.finished_commits(run) == {}
    monkeypatch.undo()


HARM: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "flipped": lambda whole: whole[:50] + bytes([whole[50] ^ 4]) + whole[51:],
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("harm", HARM)
def test_a_harmed_object_is_refused_by_its_shard_and_mended_by_another_attempt(
    run: RunFolder, harm: str, name: str
) -> None:
    write(run, 0, 1, 2)
    store.finish(run)
    sound, key = contents(run), object_name(name, 1)
    harmed = HARM[harm](sound[key])
    objects.delete(run.activations, key)
    if harmed is not None:
        objects.write(run.activations, key, harmed)
    with pytest.raises(StoreError, match=r"shard 1 of 3 is damaged.*`python -m jobs\.verify .* --repair`"):
        store.open_store(run).verify(1)
    if harm == "flipped":  # sizes do not tell
        with pytest.raises(StoreError, match=r"shard 1 of 3 is damaged"):
            read_all(store.open_store(run), name)
        store.discard_commit(run, 1)
    write(run, 1)
    assert contents(run) == sound
    assert_intact(run)


def read_all(opened: store.Store, name: str) -> None:
    opened.read(0, NUM_ROWS) if name == "activations" else getattr(opened, name)
