"""A cache on disk gives what the store would give, within its limit, and hides no damage."""

import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gc_core import store
from gc_core.io.run_folder import RunFolder
from gc_core.store import StoreError
from gc_core.store.disk_cache import OWN_FOLDER, DiskCache
from support.small_store import NUM_ROWS, numbers, object_of, write_all


def giving(content: bytes, asked: list[bytes]) -> Callable[[], memoryview]:
    def fetch() -> memoryview:
        asked.append(content)
        return memoryview(content)

    return fetch


def used_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / OWN_FOLDER).iterdir())


def test_what_was_fetched_once_is_not_fetched_again(tmp_path: Path) -> None:
    cache, asked = DiskCache(tmp_path / "new", 100), []
    for _ in range(3):
        assert bytes(cache.get("a", giving(b"1234", asked))) == b"1234"
    assert bytes(DiskCache(tmp_path / "new", 100).get("a", giving(b"1234", asked))) == b"1234"
    assert asked == [b"1234"]
    cache.forget("a")
    cache.forget("a")
    cache.get("a", giving(b"56", asked))
    assert asked == [b"1234", b"56"]


def test_the_folder_keeps_to_its_limit_and_drops_what_was_unused_for_longest(tmp_path: Path) -> None:
    cache, asked = DiskCache(tmp_path, 1000), []
    for number in range(50):
        cache.get(str(number), giving(bytes(100), asked))
        assert used_bytes(tmp_path) <= 1000
        for place, path in enumerate(
            sorted((tmp_path / OWN_FOLDER).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        ):
            os.utime(path, ns=(place * 10**9, place * 10**9))
    asked.clear()
    cache.get("49", giving(bytes(100), asked))
    assert asked == []
    cache.get("0", giving(bytes(100), asked))
    assert len(asked) == 1
    cache.get("larger than all", giving(bytes(2000), asked))
    assert used_bytes(tmp_path) <= 1000


def test_files_of_others_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    theirs = [tmp_path / "thesis.tex", tmp_path / OWN_FOLDER / "notes.txt"]
    theirs[1].parent.mkdir()
    for path in theirs:
        path.write_bytes(bytes(5000))
        os.utime(path, (0, 0))
    cache, asked = DiskCache(tmp_path, 1000), []
    for number in range(50):
        cache.get(str(number), giving(bytes(100), asked))
    cache.get("49", giving(bytes(100), asked))
    assert len(asked) == 50, "the control: the cache works beside them"
    assert all(path.stat().st_size == 5000 for path in theirs)


def test_two_of_one_folder_and_many_threads_get_the_right_bytes(tmp_path: Path) -> None:
    caches = [DiskCache(tmp_path, 5000), DiskCache(tmp_path, 5000)]

    def get(number: int) -> bool:
        content = bytes([number % 97]) * 100
        return bytes(caches[number % 2].get(str(number % 97), lambda: memoryview(content))) == content

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(get, range(2000)))


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    cache, asked = DiskCache(tmp_path / "gone", 100), []
    shutil.rmtree(tmp_path / "gone")
    for _ in range(2):
        assert bytes(cache.get("a", giving(b"1", asked))) == b"1"
    assert len(asked) == 2


def test_a_limit_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a limit of 0 bytes found"):
        DiskCache(tmp_path, 0)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    write_all(tmp_path / "run")
    return RunFolder.at(str(tmp_path / "run"))


def test_a_cached_store_reads_the_same_numbers_without_its_objects(run: RunFolder, tmp_path: Path) -> None:
    opened = store.open_store(run, cache=DiskCache(tmp_path / "cache", 1 << 20))
    np.testing.assert_array_equal(opened.read(0, NUM_ROWS), numbers().activations)
    for shard in range(3):
        object_of(run.location.local_path, "activations", shard).unlink()
    np.testing.assert_array_equal(opened.read(0, NUM_ROWS), numbers().activations)


def test_a_damaged_part_of_the_cache_is_fetched_again_and_a_damaged_object_is_refused(
    run: RunFolder, tmp_path: Path
) -> None:
    opened = store.open_store(run, cache=DiskCache(tmp_path / "cache", 1 << 20))
    opened.read(0, NUM_ROWS)

    def damage(paths: list[Path]) -> None:
        for path in paths:
            path.write_bytes(path.read_bytes()[:50] + b"?" + path.read_bytes()[51:])

    damage(list((tmp_path / "cache" / OWN_FOLDER).iterdir()))
    np.testing.assert_array_equal(opened.read(0, NUM_ROWS), numbers().activations)
    damage([object_of(run.location.local_path, "activations", 1)])
    damage(list((tmp_path / "cache" / OWN_FOLDER).iterdir()))
    with pytest.raises(StoreError, match=r"shard 1 of 3 is damaged .*checksum"):
        opened.read(0, NUM_ROWS)


def test_a_store_travels_to_another_process_with_its_cache(run: RunFolder) -> None:
    again = pickle.loads(pickle.dumps(store.open_store(run)))
    np.testing.assert_array_equal(again.read(10, 20), numbers().activations[10:20])
