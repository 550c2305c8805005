"""Reading the store: whole or not at all.

Zarr reads a missing object as the fill value, without a word. So a reader compares what is stored with the commit
records first, and looks for the fill value after.

Letters: N rows, G group elements, C channels.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.core.array import Array

from gc_core import objects
from gc_core.groups import Group
from gc_core.run_folder import RunFolder
from gc_core.store.layout import (
    ARRAYS,
    FORMAT_VERSION,
    MEAN,
    ShardArrays,
    StoreError,
    array_of,
    is_fill,
    object_name,
    open_group,
    stored_bytes,
    to_continue,
    to_repair,
)
from gc_core.store.records import Commit, digest, read_commit, read_commits


def open_store(run: RunFolder, *, unfinished: bool = False) -> "Store":
    """Open for reading.

    Raises:
        StoreError: there is no store, or (unless `unfinished`) a shard is missing or damaged.
    """
    store = Store(run)
    if not unfinished:
        store.check_complete()
        if store.attrs[MEAN] is None:
            raise StoreError(f"{run.url}: the harvest was not finished. {to_continue(run)}")
    return store


class Store:
    """Read access to a run's activations; slices are NumPy arrays.

    Reading raises StoreError, which names the shard, where bytes are damaged or gone.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        root = open_group(run, "r")
        self.attrs: dict[str, Any] = dict(root.attrs)
        if (found := self.attrs.get("format_version")) != FORMAT_VERSION:
            raise StoreError(
                f"{run.activations}: format version {found} found, expected {FORMAT_VERSION}; harvest again"
            )
        self._arrays = {name: array_of(run, root, name) for name in ARRAYS}
        self.num_rows, _, self.channels = self._arrays["activations"].shape
        self.shard_rows: int = self.attrs["shard_rows"]
        self.group = Group(self.attrs["group"]["kind"], self.attrs["group"]["n"])

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.shard_rows)

    def array(self, name: str) -> Array[Any]:
        """Zarr's view of an array; reading it does not notice what is missing."""
        return self._arrays[name]

    @cached_property
    def image(self) -> NDArray[np.int64]:
        """(N,) row of the manifest for each sample."""
        return self._read("image", 0, self.num_rows)

    @cached_property
    def centre_yx(self) -> NDArray[np.int32]:
        """(N, 2) centre pixel in the resized image."""
        return self._read("centre_yx", 0, self.num_rows)

    def read(self, start: int, stop: int) -> NDArray[np.float16]:
        """(stop - start, G, C) activations of consecutive rows."""
        return self._read("activations", start, stop)

    def part(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Consecutive rows of an array by its name."""
        return self._read(name, start, stop)

    def rows(self, shard: int) -> range:
        """The rows of a shard."""
        first = shard * self.shard_rows
        return range(first, min(first + self.shard_rows, self.num_rows))

    def check_complete(self) -> dict[int, Commit]:
        """Every shard's commit record, after comparing them with what is stored.

        Raises:
            StoreError: a shard has no record, or an object is missing or has another size than its record says.
        """
        done, stored = read_commits(self.run), objects.sizes(self.run.activations)
        for shard in range(self.num_shards):
            if fault := self.fault_of(shard, done.get(shard), stored):
                raise self._fault(shard, fault, done.get(shard))
        return {shard: done[shard] for shard in range(self.num_shards)}

    def fault_of(self, shard: int, commit: Commit | None, stored: dict[str, int]) -> str | None:
        """Why a shard does not count, given its record and the sizes of stored objects; None if it does."""
        if commit is None:
            return "was never finished"
        if commit.config_hash != self.attrs["config_hash"]:
            return "was written by a harvest with other options"
        for name, expected in commit.object_bytes.items():
            if (found := stored.get(object_name(name, shard))) != expected:
                size = "is missing" if found is None else f"has {found} bytes"
                return f"is damaged: its object of {name} {size}, its commit record says {expected} bytes"
        return None

    def check_arrays(self, shard: int, arrays: ShardArrays) -> None:
        """Refuse what is not exactly a shard.

        Raises:
            StoreError: there is no such shard, or an array has another shape or type, or values that are not finite.
        """
        rows = self.rows(shard)
        for name in ARRAYS:
            array, like = getattr(arrays, name), self._arrays[name]
            found, expected = (array.shape, array.dtype), ((len(rows), *like.shape[1:]), like.dtype)
            if shard not in range(self.num_shards) or found != expected:
                said = f"{found[0]} {found[1]} found, expected {expected[0]} {expected[1]}: exactly the shard's rows"
                raise StoreError(f"{self.run.url}: shard {shard} of {self.num_shards}: {name}: {said}")
        if not np.isfinite(arrays.activations).all():
            said = "activations beyond float16 or not a number; is the layer normalised?"
            raise StoreError(f"{self.run.url}: shard {shard} of {self.num_shards}: {said}")

    def verify(self, shard: int) -> None:
        """Read a shard whole and compare it with its commit record.

        Raises:
            StoreError: it is missing or damaged, or its numbers are not those that were written.
        """
        commit, rows = read_commit(self.run, shard), self.rows(shard)
        fault = self.fault_of(shard, commit, stored_bytes(self.run, shard))
        if commit is None or fault:
            raise self._fault(shard, fault or "was never finished", commit)
        for name, expected in commit.sha256.items():
            if digest(self._read(name, rows.start, rows.stop)) != expected:
                raise StoreError(self._damage(shard, f"{name} is not what its commit record says"))

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        try:
            with objects.one_line_errors(self.run.activations, name):
                found = np.asarray(self._arrays[name][start:stop])
        except ValueError as error:  # zarr's, of a checksum
            raise StoreError(self._damage(self._first_damaged(name, start, stop), f"{name}: {error}")) from error
        if (absent := is_fill(found)).any():
            shard = (start + int(absent.argmax())) // self.shard_rows
            raise StoreError(self._damage(shard, f"{name} has rows that were never written"))
        return found

    def _first_damaged(self, name: str, start: int, stop: int) -> int:
        first, last = start // self.shard_rows, (min(stop, self.num_rows) - 1) // self.shard_rows
        for shard in range(first, last):
            rows = self.rows(shard)
            try:
                self._arrays[name][max(start, rows.start) : min(stop, rows.stop)]
            except ValueError:
                return shard
        return last

    def _damage(self, shard: int, what: str) -> str:
        return f"{self.run.url}: shard {shard} of {self.num_shards} is damaged ({what}). {to_repair(self.run)}"

    def _fault(self, shard: int, fault: str, commit: Commit | None) -> StoreError:
        remedy = to_continue(self.run) if commit is None else to_repair(self.run)
        return StoreError(f"{self.run.url}: shard {shard} of {self.num_shards} {fault}. {remedy}")
