"""The activation store: what is written is read, exactly; what is missing, damaged or foreign is refused by name.

Letters: N rows, G group elements, C channels.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from gc_core import groups, objects, store
from gc_core.run_folder import RunFolder
from gc_core.store import ARRAYS, ShardArrays, StoreError

GROUP = groups.dihedral(2)
CHANNELS = 3
SHARD_ROWS = 256
NUM_ROWS = 600  # two full shards of two chunks, and one of 88 rows
NUM_SHARDS = 3
ATTRS = {"config": {"seed": 0, "images": "/pictures"}, "config_hash": "hash of seed 0", "weights_sha256": "aa"}


def numbers(seed: int = 0) -> ShardArrays:
    """All rows of the store, half zero as after a ReLU, with the extremes of float16."""
    rng = np.random.default_rng(seed)
    activations = np.maximum(rng.normal(size=(NUM_ROWS, GROUP.order, CHANNELS)), 0).astype(np.float16)
    activations[5, 1, 2], activations[300, 0, 0], activations[599, 3, 1] = 65504, -65504, 2**-24
    image = rng.integers(0, 2**40, NUM_ROWS)
    return ShardArrays(
        activations=activations, image=image, centre_yx=rng.integers(0, 500, (NUM_ROWS, 2)).astype(np.int32)
    )


def part(arrays: ShardArrays, start: int, stop: int) -> ShardArrays:
    return ShardArrays(**{name: getattr(arrays, name)[start:stop] for name in ARRAYS})


def shard_of(arrays: ShardArrays, shard: int) -> ShardArrays:
    return part(arrays, shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)


def create(run: RunFolder, **changes: Any) -> None:
    store.create(
        run, num_rows=NUM_ROWS, shard_rows=SHARD_ROWS, channels=CHANNELS, group=GROUP, attrs={**ATTRS, **changes}
    )


def write(run: RunFolder, *shards: int) -> None:
    for shard in shards:
        store.write_shard(run, shard, shard_of(numbers(), shard), attempt=f"first {shard}")


def assert_intact(run: RunFolder) -> None:
    opened, expected = store.open_store(run), numbers()
    np.testing.assert_array_equal(opened.read(0, NUM_ROWS), expected.activations)
    np.testing.assert_array_equal(opened.image, expected.image)
    np.testing.assert_array_equal(opened.centre_yx, expected.centre_yx)
    for shard in range(NUM_SHARDS):
        opened.verify(shard)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("master")
    run = RunFolder.at(str(folder))
    create(run)
    write(run, 2, 0, 1)
    store.finish(run)
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


def object_of(folder: Path, name: str, shard: int) -> Path:
    return (
        folder
        / "activations.zarr"
        / name
        / "c"
        / str(shard)
        / {"activations": "0/0", "image": "", "centre_yx": "0"}[name]
    )


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
    names = {name for name in objects.sizes(str(folder)) if not name.endswith("zarr.json")}
    data = {str(object_of(folder, name, s).relative_to(folder)) for name in ARRAYS for s in range(NUM_SHARDS)}
    assert names == data | {f"commits/{shard:08d}.json" for shard in range(NUM_SHARDS)}


def test_attributes_say_what_stands_there(run: RunFolder) -> None:
    attrs = store.open_store(run).attrs
    assert attrs.items() >= ATTRS.items()
    assert attrs["format_version"] == 1
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
    assert store.commits(empty) == {}
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
    found = store.commits(run)
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
    rival = RunFolder(empty.url)
    described = store.writer.describe

    def overtaken(*args: Any) -> store.Commit:
        monkeypatch.setattr(store.writer, "describe", described)
        store.write_shard(rival, 0, shard_of(numbers(), 0), attempt="rival")
        return described(*args)

    monkeypatch.setattr(store.writer, "describe", overtaken)
    assert store.write_shard(empty, 0, shard_of(numbers(), 0), attempt="slow").attempt == "rival"
    assert store.commits(empty)[0].attempt == "rival"


def test_strange_files_among_the_records_are_no_records(run: RunFolder, folder: Path) -> None:
    for name in (".DS_Store", "00000007.json.tmp", "7.json"):
        (folder / "commits" / name).write_bytes(b"?")
    assert list(store.commits(run)) == [0, 1, 2]
    assert_intact(run)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"shard": 1}', b"[]"])
def test_a_damaged_record_is_refused_by_name(run: RunFolder, folder: Path, content: bytes) -> None:
    (folder / "commits/00000001.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"/00000001\.json: no commit record can be read.*delete it, then `python -m"):
        store.open_store(run)


def test_a_harvest_that_never_began_has_no_finished_shards(tmp_path: Path) -> None:
    assert store.commits(RunFolder.at(str(tmp_path / "nothing"))) == {}


# What is missing or damaged is refused, and repaired by computing it again.


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


HARM = {
    "missing": (Path.unlink, "is missing"),
    "empty": (cut(0), "has 0 bytes"),
    "cut short": (cut(-1), r"has \d+ bytes"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), r"has \d+ bytes"),
}


@pytest.mark.parametrize("shard", range(NUM_SHARDS))
@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("harm", HARM)
def test_a_harmed_object_is_refused_by_name_and_the_remedy_repairs_it(
    run: RunFolder, folder: Path, harm: str, name: str, shard: int
) -> None:
    do, said = HARM[harm]
    do(object_of(folder, name, shard))
    line = rf"shard {shard} of 3 is damaged: its object of {name} {said}, its commit record says \d+ bytes\."
    remedy = r" `python -m jobs\.harvest --out file:///.*/my%20run` with the same options computes what is missing$"
    for refuses in (store.open_store, store.finish):
        with pytest.raises(StoreError, match=line + remedy):
            refuses(run)
    assert sorted({0, 1, 2} - store.commits(run).keys()) == [shard]  # what the job computes again
    write(run, shard)
    assert_intact(run)


@pytest.mark.parametrize("shard", range(NUM_SHARDS))
def test_a_shard_that_was_never_finished_is_refused_by_name(run: RunFolder, folder: Path, shard: int) -> None:
    (folder / f"commits/{shard:08d}.json").unlink()
    for refuses in (store.open_store, store.finish):
        with pytest.raises(
            StoreError, match=rf"shard {shard} of 3 was never finished\. `python -m jobs\.harvest --out"
        ):
            refuses(run)
    write(run, shard)
    assert_intact(run)


def test_a_shard_computed_again_with_other_numbers_has_a_record_of_those(run: RunFolder, folder: Path) -> None:
    object_of(folder, "activations", 1).unlink()
    other = shard_of(numbers(seed=1), 1)
    assert store.write_shard(run, 1, other, attempt="second").attempt == "second"
    opened = store.open_store(run)
    opened.verify(1)
    np.testing.assert_array_equal(opened.read(256, 512), other.activations)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("shard", range(NUM_SHARDS))
def test_a_flipped_bit_anywhere_is_never_read_as_numbers(run: RunFolder, folder: Path, name: str, shard: int) -> None:
    path = object_of(folder, name, shard)
    whole = path.read_bytes()
    for place in [*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        opened = store.open_store(run)
        with pytest.raises(StoreError, match=rf"shard {shard} of 3 is damaged \({name}: .*checksum.*Delete file:///"):
            opened.read(0, NUM_ROWS) if name == "activations" else getattr(opened, name)
        with pytest.raises(StoreError, match=rf"shard {shard} of 3 is damaged"):
            opened.verify(shard)


def test_a_flipped_bit_in_one_shard_leaves_the_others_readable_and_its_remedy_repairs_it(
    run: RunFolder, folder: Path
) -> None:
    path = object_of(folder, "activations", 1)
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    opened = store.open_store(run)
    np.testing.assert_array_equal(opened.read(0, 256), numbers().activations[:256])
    with pytest.raises(StoreError, match=r"Delete (file:///.*/commits/00000001\.json); then `python -m jobs\.harvest"):
        opened.read(256, 512)
    store.discard_commit(run, 1)
    assert not (folder / "commits/00000001.json").exists()
    write(run, 1)
    assert_intact(run)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("harm", ["missing", "empty"])
def test_an_object_lost_after_opening_is_not_read_as_numbers(
    run: RunFolder, folder: Path, harm: str, name: str
) -> None:
    """Zarr reads both as the fill value, and says nothing."""
    opened = store.open_store(run)
    HARM[harm][0](object_of(folder, name, 1))
    with pytest.raises(StoreError, match=rf"shard 1 of 3 is damaged \({name} has rows that were never written\)"):
        opened.read(200, NUM_ROWS) if name == "activations" else getattr(opened, name)


def test_verify_finds_whole_objects_of_other_numbers(run: RunFolder, folder: Path, tmp_path: Path) -> None:
    """A copy from another run passes every checksum but the record's."""
    other = RunFolder.at(str(tmp_path / "other"))
    create(other)
    arrays = shard_of(numbers(), 0)
    moved = dataclasses.replace(arrays, image=arrays.image[::-1].copy())
    store.write_shard(other, 0, moved, attempt="a")
    source = object_of(tmp_path / "other", "image", 0)
    record = json.loads((folder / "commits/00000000.json").read_text())
    record["object_bytes"]["image"] = source.stat().st_size
    (folder / "commits/00000000.json").write_text(json.dumps(record))
    shutil.copy(source, object_of(folder, "image", 0))
    with pytest.raises(StoreError, match=r"shard 0 of 3 is damaged \(image is not what its commit record says\)"):
        store.open_store(run).verify(0)


# Stores of another kind.


def test_the_same_options_continue_a_store(run: RunFolder) -> None:
    create(run, code_version="next")
    assert_intact(run)


def test_other_options_are_refused_with_the_differences(run: RunFolder) -> None:
    other = {"seed": 1, "images": "/pictures", "added": True}
    with pytest.raises(StoreError, match=r"other options \(added None -> True; seed 0 -> 1\); choose another --out"):
        create(run, config=other, config_hash="hash of seed 1")
    assert_intact(run)


def test_other_weights_under_the_same_name_are_refused(run: RunFolder) -> None:
    with pytest.raises(StoreError, match=r"other options \(weights_sha256 'aa' -> 'bb'\)"):
        create(run, weights_sha256="bb")


def test_another_layout_is_refused(run: RunFolder) -> None:
    with pytest.raises(StoreError, match=r"num_rows 600 -> 601"):
        store.create(run, num_rows=601, shard_rows=SHARD_ROWS, channels=CHANNELS, group=GROUP, attrs=ATTRS)


def test_records_of_another_harvest_do_not_count(run: RunFolder, folder: Path) -> None:
    """As when only activations.zarr was deleted before harvesting anew."""
    for record in (folder / "commits").iterdir():
        record.write_text(record.read_text().replace("seed 0", "seed 1"))
    assert store.commits(run) == {}
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
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(StoreError, match="format version 2 found, expected 1"):
        store.open_store(run)


@pytest.mark.parametrize("name", ["zarr.json", "activations/zarr.json", "centre_yx/zarr.json"])
@pytest.mark.parametrize("size", [0, 50])
def test_damaged_metadata_are_refused_by_name(run: RunFolder, folder: Path, name: str, size: int) -> None:
    cut(size)(folder / "activations.zarr" / name)
    with pytest.raises(StoreError, match=rf"/activations\.zarr/{name}: missing or damaged"):
        store.open_store(run)
