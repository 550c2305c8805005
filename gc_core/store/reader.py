"""Reading the store: whole or not at all.

Zarr reads a missing object as the fill value, without a word. So a reader compares what is stored with the commit
records first, and then reads the objects itself.

Letters: N rows, G group elements, C channels.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from zarr.core.array import Array

from gc_core.groups import FiniteGroup, from_record
from gc_core.io import objects
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store.chunk_reader import ChunkReader, DamagedError
from gc_core.store.commits import SQUARED_AT_ONCE, Commit, digest, read_commit, read_commits, sum_squares
from gc_core.store.disk_cache import DiskCache
from gc_core.store.layout import (
    ARRAYS,
    MEAN,
    ShardArrays,
    StoreError,
    array_of,
    attributes_in,
    object_name,
    open_group,
    stored_bytes,
    to_continue,
    to_repair,
)
from gc_core.store.shard_codec import Form, form_of


def open(location: str | Path | Location, *, cache: DiskCache | None = None) -> "Store":
    """The activations of the run at a path or URL, read-only: `open("s3://bucket/run")[:256]` is NumPy.

    Raises:
        StoreError: there is no store, or a shard is missing or damaged.
    """
    return open_store(RunFolder.at(location), cache=cache)


def open_store(run: RunFolder, *, unfinished: bool = False, cache: DiskCache | None = None) -> "Store":
    """Open for reading; what is read is kept in `cache`, if one is given.

    Raises:
        StoreError: there is no store, or (unless `unfinished`) a shard is missing or damaged.
    """
    store = Store(run, cache)
    if not unfinished:
        store.check_complete()
        if store.attrs[MEAN] is None:
            raise StoreError(f"{run.url}: the harvest was not finished. {to_continue(run, store.attrs)}")
    return store


def all_finite(activations: NDArray[np.float16]) -> bool:
    """Whether all are finite, several times faster than `isfinite`: a few rows at a time stay in the CPU's cache."""
    parts = (activations[row : row + SQUARED_AT_ONCE] for row in range(0, len(activations), SQUARED_AT_ONCE))
    return all((part.view(np.uint16) & 0x7C00).max() != 0x7C00 for part in parts)


class Store:
    """Read access to a run's activations; slices are NumPy arrays.

    Reading raises StoreError, which names the shard, where bytes are damaged or gone.
    """

    def __init__(self, run: RunFolder, cache: DiskCache | None = None) -> None:
        self.run, self._cache = run, cache
        root = open_group(run)
        self.attrs: dict[str, Any] = attributes_in(run, root.attrs)
        arrays = {name: array_of(run, root, name) for name in ARRAYS}
        self.num_rows, _, self.channels = arrays["activations"].shape
        self._forms = {name: self._form_of(name, array) for name, array in arrays.items()}
        self._chunks = {
            name: ChunkReader(run.activations, name, form, self.num_rows, cache) for name, form in self._forms.items()
        }
        self.shard_rows: int = self.attrs["shard_rows"]
        self.group: FiniteGroup = from_record(self.attrs["group"])
        self._check_shapes(arrays)

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.shard_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens its own."""
        return type(self), (self.run, self._cache)

    def form(self, name: str) -> Form:
        """How an array's objects are stored."""
        return self._forms[name]

    @cached_property
    def image(self) -> NDArray[np.int64]:
        """(N,) row of the manifest for each sample."""
        return self._read("image", 0, self.num_rows)

    @cached_property
    def centre_yx(self) -> NDArray[np.int32]:
        """(N, 2) centre pixel in the resized image."""
        return self._read("centre_yx", 0, self.num_rows)

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, rows: slice) -> NDArray[np.float16]:
        """(n, G, C) consecutive rows, as a list would give them; ValueError for other steps than one."""
        start, stop, step = rows.indices(self.num_rows)
        if step != 1:
            raise ValueError(
                f"rows: a step of {step} found, expected consecutive rows; take every {step}th of them after"
            )
        return self.read(start, max(start, stop))

    def tensor(self, rows: slice, device: str = "cpu") -> torch.Tensor:
        """(n, G, C) float16 on a device; for an accelerator it goes through pinned memory."""
        acts = torch.from_numpy(self[rows])
        if torch.device(device).type == "cpu":
            return acts
        return acts.pin_memory().to(device, non_blocking=True)

    def read(self, start: int, stop: int) -> NDArray[np.float16]:
        """(stop - start, G, C) activations of consecutive rows."""
        return self._read("activations", start, stop)

    def read_into(self, out: NDArray[np.float16], start: int) -> None:
        """`read` in this thread alone, into (n, G, C): for callers that have threads of their own."""
        with self._damage_named():
            self._chunks["activations"].read_into(out, start)

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
            array, form = getattr(arrays, name), self._forms[name]
            found, expected = (array.shape, array.dtype), ((len(rows), *form.row_shape), form.dtype)
            if shard not in range(self.num_shards) or found != expected:
                said = f"{found[0]} {found[1]} found, expected {expected[0]} {expected[1]}: exactly the shard's rows"
                raise StoreError(f"{self.run.url}: shard {shard} of {self.num_shards}: {name}: {said}")
        if not all_finite(arrays.activations):
            said = "activations beyond float16 or not a number; is the layer normalised?"
            raise StoreError(f"{self.run.url}: shard {shard} of {self.num_shards}: {said}")

    def verify(self, shard: int) -> ShardArrays:
        """Read a shard whole, compare it with its commit record, and return it.

        Raises:
            StoreError: it is missing or damaged, or its numbers are not those that were written.
        """
        commit, rows = read_commit(self.run, shard), self.rows(shard)
        fault = self.fault_of(shard, commit, stored_bytes(self.run, shard))
        if commit is None or fault:
            raise self._fault(shard, fault or "was never finished", commit)
        arrays = ShardArrays(**{name: self._read(name, rows.start, rows.stop) for name in ARRAYS})
        for name in ARRAYS:
            if digest(getattr(arrays, name)) != commit.sha256.get(name):
                raise StoreError(self._damage(shard, f"{name} is not what its commit record says"))
        computed, said = sum_squares(arrays.activations), commit.sum_squares
        if (len(rows), len(rows)) != (commit.num_rows, len(arrays.image)) or not math.isclose(
            computed, said, rel_tol=1e-9
        ):
            wrong = (
                f"its record says {commit.num_rows} rows and {said:.6g} as the sum of squares, expected {computed:.6g}"
            )
            raise StoreError(self._damage(shard, wrong))
        return arrays

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        with self._damage_named():
            return self._chunks[name].read(start, stop)

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        """A damaged chunk is raised as the store's error, with the remedy."""
        try:
            yield
        except DamagedError as error:
            raise StoreError(self._damage(error.shard, str(error))) from None

    def _check_shapes(self, arrays: dict[str, Array[Any]]) -> None:
        """StoreError unless the arrays are laid out as the attributes say."""
        rows, order = self.attrs["num_rows"], self.group.order
        shapes = {"activations": (rows, order, self.channels), "image": (rows,), "centre_yx": (rows, 2)}
        types = {"activations": np.float16, "image": np.int64, "centre_yx": np.int32}
        for name, array in arrays.items():
            shape, shards = shapes[name], (self.shard_rows, *shapes[name][1:])
            found, expected = (array.shape, array.shards, array.dtype), (shape, shards, np.dtype(types[name]))
            if found != expected:
                said = f"shape, shards and type {found} found, the store's attributes say {expected}"
                raise StoreError(f"{self.run.activations / name}: {said}; restore it from a copy, or harvest again")

    def _form_of(self, name: str, array: Array[Any]) -> Form:
        try:
            return form_of(array)
        except ValueError as error:
            raise StoreError(f"{self.run.activations / name}: {error}") from None

    def _damage(self, shard: int, what: str) -> str:
        return f"{self.run.url}: shard {shard} of {self.num_shards} is damaged ({what}). {to_repair(self.run)}"

    def _fault(self, shard: int, fault: str, commit: Commit | None) -> StoreError:
        remedy = to_continue(self.run, self.attrs) if commit is None else to_repair(self.run)
        return StoreError(f"{self.run.url}: shard {shard} of {self.num_shards} {fault}. {remedy}")
