"""The activation store: what is written is read, exactly; records say who finished what; other stores are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from gc_core import store
from gc_core.io import objects
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store import ARRAYS, StoreError
from support.small_store import (
    ATTRS,
    NUM_SHARDS,
    assert_intact,
    create,
    numbers,
    object_of,
    shard_of,
    write,
)


@pytest.fixture
def empty(tmp_path: Path) -> RunFolder:
    store_run = RunFolder.at(str(tmp_path / "empty"))
    create(store_run)
    return store_run


# What is written is read.


def test_any_zarr_reader_reads_it(store_folder: Path) -> None:
    root = zarr.open(store_folder / "activations.zarr", mode="r")
    assert isinstance(root, zarr.Group)
    assert root.metadata.zarr_format == 3
    activations = root["activations"]
    assert isinstance(activations, zarr.Array)
    np.testing.assert_array_equal(activations[:], numbers().activations)
    np.testing.assert_array_equal(root["image"][:], numbers().image)
    np.testing.assert_array_equal(root["centre_yx"][:], numbers().centre_yx)
    assert (activations.chunks, activations.shards) == ((128, 4, 3), (256, 4, 3))
    assert np.isnan(activations.fill_value)


def test_each_shard_is_one_object_an_array(store_folder: Path) -> None:
    names = {name for name in objects.sizes(Location.parse(store_folder)) if not name.endswith("zarr.json")}
    data = {
        str(object_of(store_folder, name, s).relative_to(store_folder)) for name in ARRAYS for s in range(NUM_SHARDS)
    }
    assert names == data | {f"commits/{shard:08d}.json" for shard in range(NUM_SHARDS)}


def test_the_same_rows_are_the_same_bytes(store_folder: Path, tmp_path: Path) -> None:
    again = RunFolder.at(str(tmp_path / "again"))
    create(again)
    write(again, 0, 1, 2)
    for name in ARRAYS:
        for shard in range(NUM_SHARDS):
            assert (
                object_of(tmp_path / "again", name, shard).read_bytes()
                == object_of(store_folder, name, shard).read_bytes()
            )


# The mean that ends a harvest.


def test_finish_stores_the_plain_mean_and_changes_nothing_again(store_folder: Path, store_run: RunFolder) -> None:
    exact = np.square(numbers().activations.astype(np.float64)).sum(axis=2).mean()
    assert store.finish(store_run) == pytest.approx(exact, rel=1e-12)
    assert store.open_store(store_run).attrs["mean_squared_block_norm"] == pytest.approx(exact, rel=1e-12)
    before = (store_folder / "activations.zarr/zarr.json").read_bytes()
    assert store.finish(store_run) == store.finish(store_run)
    assert (store_folder / "activations.zarr/zarr.json").read_bytes() == before
    assert_intact(store_run)


# What is written must be a shard.


# Commit records.


def test_a_commit_record_describes_its_shard(store_run: RunFolder, store_folder: Path) -> None:
    found = store.finished_commits(store_run)
    assert list(found) == [0, 1, 2]
    assert [found[shard].num_rows for shard in found] == [256, 256, 88]
    arrays = shard_of(numbers(), 2)
    assert found[2].attempt == "first 2"
    assert found[2].config_hash == ATTRS["config_hash"]
    assert found[2].sha256 == {name: store.digest(getattr(arrays, name)) for name in ARRAYS}
    assert found[2].object_bytes == {name: object_of(store_folder, name, 2).stat().st_size for name in ARRAYS}


def test_a_second_attempt_leaves_a_committed_shard_and_its_record_alone(
    store_run: RunFolder, store_folder: Path
) -> None:
    """Even with other numbers, as from a machine that rounds differently: data and record stay of one piece."""
    record = (store_folder / "commits/00000001.json").read_bytes()
    returned = store.write_shard(store_run, 1, shard_of(numbers(seed=1), 1), attempt="second")
    assert returned.attempt == "first 1"
    assert (store_folder / "commits/00000001.json").read_bytes() == record
    assert_intact(store_run)


def test_strange_files_among_the_records_are_no_records(store_run: RunFolder, store_folder: Path) -> None:
    for name in (".DS_Store", "00000007.json.tmp", "7.json"):
        (store_folder / "commits" / name).write_bytes(b"?")
    assert list(store.finished_commits(store_run)) == [0, 1, 2]
    assert_intact(store_run)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"shard": 1}', b"[]"])
def test_a_damaged_record_is_refused_by_name(store_run: RunFolder, store_folder: Path, content: bytes) -> None:
    (store_folder / "commits/00000001.json").write_bytes(content)
    with pytest.raises(
        StoreError, match=r"/00000001\.json: the commit record cannot be read.*delete it, then `python -m"
    ):
        store.open_store(store_run)


def test_a_harvest_that_never_began_has_no_finished_shards(tmp_path: Path) -> None:
    assert store.finished_commits(RunFolder.at(str(tmp_path / "nothing"))) == {}


# Stores of another kind.


def test_records_of_another_harvest_do_not_count(store_run: RunFolder, store_folder: Path) -> None:
    """As when only activations.zarr was deleted before harvesting anew."""
    for record in (store_folder / "commits").iterdir():
        changed = read_json(Location.parse(store_folder / "commits"), record.name)
        changed["config_hash"] = changed["config_hash"].replace("seed 0", "seed 1")
        write_json(Location.parse(store_folder / "commits"), record.name, changed)
    assert store.finished_commits(store_run) == {}
    with pytest.raises(StoreError, match="shard 0 of 3 was written by a harvest with other options"):
        store.open_store(store_run)
    write(store_run, 0, 1, 2)
    assert_intact(store_run)


def test_creation_that_was_interrupted_is_completed(empty: RunFolder, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "empty/activations.zarr/image")
    with pytest.raises(StoreError, match=r"/image/zarr\.json: missing or damaged"):
        write(empty, 0)
    create(empty)
    write(empty, 0, 1, 2)
    store.finish(empty)
    assert_intact(empty)


def test_no_store_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "activations.zarr").mkdir()
    for where in (tmp_path, tmp_path / "gone"):
        with pytest.raises(StoreError, match=r"activations\.zarr: no activation store found; make one with `python -m"):
            store.open_store(RunFolder.at(str(where)))


def test_another_format_version_is_refused(store_run: RunFolder, store_folder: Path) -> None:
    path = store_folder / "activations.zarr/zarr.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 3'))
    with pytest.raises(StoreError, match="format version 3 found, expected 1 or 2"):
        store.open_store(store_run)
