"""The activation store: what is written is read, exactly; records say who finished what; other stores are refused."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from gc_core import store
from gc_core.io import objects
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store import ARRAYS, ShardArrays, StoreError
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
    object_of,
    part,
    shard_of,
    write,
    write_all,
)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("master")
    write_all(folder)
    return folder


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    """A finished store of this test's own."""
    return Path(shutil.copytree(master, tmp_path / "my run"))


@pytest.fixture
def run(folder: Path) -> RunFolder:
    return RunFolder.at(str(folder))


@pytest.fixture
def empty(tmp_path: Path) -> RunFolder:
    run = RunFolder.at(str(tmp_path / "empty"))
    create(run)
    return run


# What is written is read.


def test_shards_written_in_any_order_read_back_exactly(run: RunFolder) -> None:
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
def test_any_rows_can_be_read(run: RunFolder, start: int, stop: int) -> None:
    np.testing.assert_array_equal(store.open_store(run).read(start, stop), numbers().activations[start:stop])


def test_any_zarr_reader_reads_it(folder: Path) -> None:
    root = zarr.open(folder / "activations.zarr", mode="r")
    assert isinstance(root, zarr.Group)
    assert root.metadata.zarr_format == 3
    activations = root["activations"]
    assert isinstance(activations, zarr.Array)
    np.testing.assert_array_equal(activations[:], numbers().activations)
    np.testing.assert_array_equal(root["image"][:], numbers().image)
    np.testing.assert_array_equal(root["centre_yx"][:], numbers().centre_yx)
    assert (activations.chunks, activations.shards) == ((128, 4, 3), (256, 4, 3))
    assert np.isnan(activations.fill_value)


def test_each_shard_is_one_object_an_array(folder: Path) -> None:
    names = {name for name in objects.sizes(Location.parse(folder)) if not name.endswith("zarr.json")}
    data = {str(object_of(folder, name, s).relative_to(folder)) for name in ARRAYS for s in range(NUM_SHARDS)}
    assert names == data | {f"commits/{shard:08d}.json" for shard in range(NUM_SHARDS)}


def test_attributes_say_what_stands_there(run: RunFolder) -> None:
    attrs = store.open_store(run).attrs
    assert attrs.items() >= ATTRS.items()
    assert attrs["format_version"] == 2
    assert attrs["group"] == {"kind": "dihedral", "n": 2}
    assert (attrs["num_rows"], attrs["shard_rows"]) == (NUM_ROWS, SHARD_ROWS)


def test_rows_of_zeros_are_stored_and_read_as_such(empty: RunFolder) -> None:
    for shard in range(NUM_SHARDS):
        zeros = ShardArrays(**{name: 0 * getattr(shard_of(numbers(), shard), name) for name in ARRAYS})
        store.write_shard(empty, shard, zeros, attempt="a")
    assert store.finish(empty) == 0
    assert not store.open_store(empty).read(0, NUM_ROWS).any()


def test_the_same_rows_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = RunFolder.at(str(tmp_path / "again"))
    create(again)
    write(again, 0, 1, 2)
    for name in ARRAYS:
        for shard in range(NUM_SHARDS):
            assert (
                object_of(tmp_path / "again", name, shard).read_bytes() == object_of(folder, name, shard).read_bytes()
            )


# The mean that ends a harvest.


def test_finish_stores_the_plain_mean_and_changes_nothing_again(folder: Path, run: RunFolder) -> None:
    exact = np.square(numbers().activations.astype(np.float64)).sum(axis=2).mean()
    assert store.finish(run) == pytest.approx(exact, rel=1e-12)
    assert store.open_store(run).attrs["mean_squared_block_norm"] == pytest.approx(exact, rel=1e-12)
    before = (folder / "activations.zarr/zarr.json").read_bytes()
    assert store.finish(run) == store.finish(run)
    assert (folder / "activations.zarr/zarr.json").read_bytes() == before
    assert_intact(run)


def test_a_store_whose_mean_was_not_taken_is_unfinished(empty: RunFolder) -> None:
    write(empty, 0, 1, 2)
    with pytest.raises(StoreError, match=r"the harvest was not finished\. `python -m jobs\.harvest --out file:///"):
        store.open_store(empty)
    assert store.open_store(empty, unfinished=True).num_rows == NUM_ROWS
    store.finish(empty)
    assert_intact(empty)


# What is written must be a shard.


@pytest.mark.parametrize(
    ("shard", "num_rows"), [(0, 255), (0, 257), (0, 0), (2, 256), (2, 87), (3, 88), (3, 0), (-1, 256)]
)
def test_a_shard_that_is_not_exactly_its_rows_is_refused(empty: RunFolder, shard: int, num_rows: int) -> None:
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
def test_arrays_of_another_shape_or_type_are_refused(empty: RunFolder, changes: dict[str, NDArray[Any]]) -> None:
    (name,) = changes
    with pytest.raises(StoreError, match=f"shard 0 of 3: {name}: .* found, expected"):
        store.write_shard(empty, 0, dataclasses.replace(shard_of(numbers(), 0), **changes), attempt="a")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(empty: RunFolder, value: float) -> None:
    arrays = shard_of(numbers(), 1)
    arrays.activations[7, 1, 1] = value
    with pytest.raises(StoreError, match=r"shard 1 of 3: activations beyond float16 or not a number"):
        store.write_shard(empty, 1, arrays, attempt="a")
    assert objects.sizes(empty.commits) == {}


# Commit records.


def test_a_commit_record_describes_its_shard(run: RunFolder, folder: Path) -> None:
    found = store.finished_commits(run)
    assert list(found) == [0, 1, 2]
    assert [found[shard].num_rows for shard in found] == [256, 256, 88]
    arrays = shard_of(numbers(), 2)
    assert found[2].attempt == "first 2"
    assert found[2].config_hash == ATTRS["config_hash"]
    assert found[2].sha256 == {name: store.digest(getattr(arrays, name)) for name in ARRAYS}
    assert found[2].object_bytes == {name: object_of(folder, name, 2).stat().st_size for name in ARRAYS}


def test_a_second_attempt_leaves_a_committed_shard_and_its_record_alone(run: RunFolder, folder: Path) -> None:
    """Even with other numbers, as from a machine that rounds differently: data and record stay of one piece."""
    record = (folder / "commits/00000001.json").read_bytes()
    returned = store.write_shard(run, 1, shard_of(numbers(seed=1), 1), attempt="second")
    assert returned.attempt == "first 1"
    assert (folder / "commits/00000001.json").read_bytes() == record
    assert_intact(run)


def test_of_two_attempts_at_once_the_first_record_stays(empty: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    rival = RunFolder.at(empty.url)
    described = store.writer.describe

    def overtaken(*args: Any) -> store.Commit:
        monkeypatch.setattr(store.writer, "describe", described)
        store.write_shard(rival, 0, shard_of(numbers(), 0), attempt="rival")
        return described(*args)

    monkeypatch.setattr(store.writer, "describe", overtaken)
    assert store.write_shard(empty, 0, shard_of(numbers(), 0), attempt="slow").attempt == "rival"
    assert store.finished_commits(empty)[0].attempt == "rival"


def test_strange_files_among_the_records_are_no_records(run: RunFolder, folder: Path) -> None:
    for name in (".DS_Store", "00000007.json.tmp", "7.json"):
        (folder / "commits" / name).write_bytes(b"?")
    assert list(store.finished_commits(run)) == [0, 1, 2]
    assert_intact(run)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"shard": 1}', b"[]"])
def test_a_damaged_record_is_refused_by_name(run: RunFolder, folder: Path, content: bytes) -> None:
    (folder / "commits/00000001.json").write_bytes(content)
    with pytest.raises(
        StoreError, match=r"/00000001\.json: the commit record cannot be read.*delete it, then `python -m"
    ):
        store.open_store(run)


def test_a_harvest_that_never_began_has_no_finished_shards(tmp_path: Path) -> None:
    assert store.finished_commits(RunFolder.at(str(tmp_path / "nothing"))) == {}


# Stores of another kind.


def test_the_same_options_continue_a_store(run: RunFolder) -> None:
    create(run, code_version="next")
    assert_intact(run)


def test_other_options_are_refused_with_the_differences(run: RunFolder) -> None:
    other = {"seed": 1, "images": "/images", "added": True}
    with pytest.raises(StoreError, match=r"other options \(added None -> True; seed 0 -> 1\); choose another --out"):
        create(run, config=other, config_hash="hash of seed 1")
    assert_intact(run)


def test_other_weights_under_the_same_name_are_refused(run: RunFolder) -> None:
    with pytest.raises(StoreError, match=r"other options \(weights_sha256 'aa' -> 'bb'\)"):
        create(run, weights_sha256="bb")


def test_another_layout_is_refused(run: RunFolder) -> None:
    spec = store.StoreSpec(num_rows=601, shard_rows=SHARD_ROWS, channels=CHANNELS, group=GROUP, attrs=ATTRS)
    with pytest.raises(StoreError, match=r"num_rows 600 -> 601"):
        store.create(run, spec)


def test_records_of_another_harvest_do_not_count(run: RunFolder, folder: Path) -> None:
    """As when only activations.zarr was deleted before harvesting anew."""
    for record in (folder / "commits").iterdir():
        changed = read_json(Location.parse(folder / "commits"), record.name)
        changed["config_hash"] = changed["config_hash"].replace("seed 0", "seed 1")
        write_json(Location.parse(folder / "commits"), record.name, changed)
    assert store.finished_commits(run) == {}
    with pytest.raises(StoreError, match="shard 0 of 3 was written by a harvest with other options"):
        store.open_store(run)
    write(run, 0, 1, 2)
    assert_intact(run)


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


def test_another_format_version_is_refused(run: RunFolder, folder: Path) -> None:
    path = folder / "activations.zarr/zarr.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 3'))
    with pytest.raises(StoreError, match="format version 3 found, expected 1 or 2"):
        store.open_store(run)
