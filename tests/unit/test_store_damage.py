"""A damaged activation store: refused by the name of its shard, never read as numbers, and repaired by its remedy."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gc_core import store
from gc_core.io.run_folder import RunFolder
from gc_core.store import ARRAYS, StoreError
from support.small_store import (
    NUM_ROWS,
    NUM_SHARDS,
    assert_intact,
    create,
    numbers,
    object_of,
    shard_of,
    write,
)

EACH = [("activations", 0), ("image", 1), ("centre_yx", 2)]
"""Each array and each shard."""


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


HARM = {
    "missing": (Path.unlink, "is missing"),
    "empty": (cut(0), "has 0 bytes"),
    "cut short": (cut(-1), r"has \d+ bytes"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), r"has \d+ bytes"),
}


@pytest.mark.parametrize(("name", "shard"), EACH)
@pytest.mark.parametrize("harm", HARM)
def test_a_harmed_object_is_refused_by_name_and_the_remedy_repairs_it(
    store_run: RunFolder, store_folder: Path, harm: str, name: str, shard: int
) -> None:
    do, said = HARM[harm]
    do(object_of(store_folder, name, shard))
    line = rf"shard {shard} of 3 is damaged: its object of {name} {said}, its commit record says \d+ bytes\."
    remedy = r" `python -m jobs\.verify file:///.*/my%20run --repair` computes again what is damaged$"
    for refuses in (store.open_store, store.finish):
        with pytest.raises(StoreError, match=line + remedy):
            refuses(store_run)
    assert sorted({0, 1, 2} - store.finished_commits(store_run).keys()) == [shard]  # what the job computes again
    write(store_run, shard)
    assert_intact(store_run)


@pytest.mark.parametrize("shard", range(NUM_SHARDS))
def test_a_shard_that_was_never_finished_is_refused_by_name(
    store_run: RunFolder, store_folder: Path, shard: int
) -> None:
    (store_folder / f"commits/{shard:08d}.json").unlink()
    for refuses in (store.open_store, store.finish):
        with pytest.raises(
            StoreError, match=rf"shard {shard} of 3 was never finished\. `python -m jobs\.harvest --out"
        ):
            refuses(store_run)
    write(store_run, shard)
    assert_intact(store_run)


def test_a_shard_computed_again_with_other_numbers_has_a_record_of_those(
    store_run: RunFolder, store_folder: Path
) -> None:
    object_of(store_folder, "activations", 1).unlink()
    other = shard_of(numbers(seed=1), 1)
    assert store.write_shard(store_run, 1, other, attempt="second").attempt == "second"
    opened = store.open_store(store_run)
    opened.verify(1)
    np.testing.assert_array_equal(opened.read(256, 512), other.activations)


@pytest.mark.parametrize(("name", "shard"), EACH)
def test_a_flipped_bit_anywhere_is_never_read_as_numbers(
    store_run: RunFolder, store_folder: Path, name: str, shard: int
) -> None:
    path, opened = object_of(store_folder, name, shard), store.open_store(store_run)
    whole = path.read_bytes()
    for place in [*range(0, len(whole), max(1, len(whole) // 20)), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(
            StoreError, match=rf"shard {shard} of 3 is damaged \({name}: .*checksum.*\. `python -m jobs\.verify "
        ):
            opened.read(0, NUM_ROWS) if name == "activations" else getattr(opened, name)
    with pytest.raises(StoreError, match=rf"shard {shard} of 3 is damaged"):
        store.open_store(store_run).verify(shard)


def test_a_flipped_bit_in_one_shard_leaves_the_others_readable_and_its_remedy_repairs_it(
    store_run: RunFolder, store_folder: Path
) -> None:
    path = object_of(store_folder, "activations", 1)
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    opened = store.open_store(store_run)
    np.testing.assert_array_equal(opened.read(0, 256), numbers().activations[:256])
    with pytest.raises(StoreError, match=r"shard 1 of 3 is damaged .*`python -m jobs\.verify file:///.* --repair`"):
        opened.read(256, 512)
    store.discard_commit(store_run, 1)
    assert not (store_folder / "commits/00000001.json").exists()
    write(store_run, 1)
    assert_intact(store_run)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("harm", ["missing", "empty"])
def test_an_object_lost_after_opening_is_not_read_as_numbers(
    store_run: RunFolder, store_folder: Path, harm: str, name: str
) -> None:
    """Zarr reads both as the fill value, and says nothing."""
    opened = store.open_store(store_run)
    HARM[harm][0](object_of(store_folder, name, 1))
    said = f"its object of {name} is missing" if harm == "missing" else rf"{name}: .* is cut short"
    with pytest.raises(StoreError, match=rf"shard 1 of 3 is damaged \({said}\)"):
        opened.read(200, NUM_ROWS) if name == "activations" else getattr(opened, name)


def test_verify_finds_whole_objects_of_other_numbers(store_run: RunFolder, store_folder: Path, tmp_path: Path) -> None:
    """A copy from another run passes every checksum but the record's."""
    other = RunFolder.at(str(tmp_path / "other"))
    create(other)
    arrays = shard_of(numbers(), 0)
    moved = dataclasses.replace(arrays, image=arrays.image[::-1].copy())
    store.write_shard(other, 0, moved, attempt="a")
    source = object_of(tmp_path / "other", "image", 0)
    record = json.loads((store_folder / "commits/00000000.json").read_text())
    record["object_bytes"]["image"] = source.stat().st_size
    (store_folder / "commits/00000000.json").write_text(json.dumps(record))
    shutil.copy(source, object_of(store_folder, "image", 0))
    with pytest.raises(StoreError, match=r"shard 0 of 3 is damaged \(image is not what its commit record says\)"):
        store.open_store(store_run).verify(0)


@pytest.mark.parametrize("name", ["zarr.json", "activations/zarr.json", "centre_yx/zarr.json"])
@pytest.mark.parametrize("size", [0, 50])
def test_damaged_metadata_are_refused_by_name(store_run: RunFolder, store_folder: Path, name: str, size: int) -> None:
    cut(size)(store_folder / "activations.zarr" / name)
    with pytest.raises(StoreError, match=rf"/activations\.zarr/{name}: missing or damaged"):
        store.open_store(store_run)
