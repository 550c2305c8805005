"""The activation store: one Zarr v3 group, one object a shard and array, a commit record for every finished shard.

A shard counts only when its commit record exists, and the record is written after its data. Readers refuse a store with a
missing or damaged shard, because Zarr itself would silently read zeros' cousin, the fill value.

Letters: N rows, G group elements, C channels.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.array import Array
from zarr.storage import ObjectStore

from gc_core import objects
from gc_core.groups import Group, parse
from gc_core.run_folder import RunFolder, read_json, write_json
from gc_core.shards import CHUNK_ROWS

FORMAT_VERSION = 1
ARRAYS = ("activations", "image", "centre_yx")


class StoreError(ValueError):
    """The store is missing, unfinished, damaged, or made by another configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardArrays:
    """All that one shard stores."""

    activations: NDArray[np.float16]
    """(n, G, C)"""
    image: NDArray[np.int64]
    """(n,) row of the manifest."""
    centre_yx: NDArray[np.int32]
    """(n, 2) centre pixel in the resized image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A finished shard."""

    shard: int
    num_rows: int
    sha256: dict[str, str]
    """Of each array's uncompressed bytes."""
    object_bytes: dict[str, int]
    """Size of each array's stored object."""
    sum_squares: float
    """Sum of the squared activations."""
    config_hash: str
    attempt: str
    """Who wrote it."""


def create(run: RunFolder, *, num_rows: int, shard_rows: int, channels: int, group: Group, attrs: dict[str, Any]) -> None:
    """Make the group and its empty arrays, once, before any worker writes. An existing store of the same config is kept.

    Raises:
        StoreError: a store of another configuration stands there; the differences are listed.
    """
    if (existing := _attrs(run)) is not None:
        return _refuse_another_config(run, existing, attrs)
    store = ObjectStore(objects.open_folder(run.activations, create=True))
    layout = {"num_rows": num_rows, "shard_rows": shard_rows, "group": {"kind": group.kind, "n": group.n}}
    root = zarr.create_group(store, attributes={"format_version": FORMAT_VERSION, "mean_squared_block_norm": None, **layout, **attrs})
    _create_array(root, "activations", (num_rows, group.order, channels), shard_rows, np.float16, np.nan)
    _create_array(root, "image", (num_rows,), shard_rows, np.int64, -1)
    _create_array(root, "centre_yx", (num_rows, 2), shard_rows, np.int32, -1)
    return None


def write_shard(run: RunFolder, shard: int, arrays: ShardArrays, *, attempt: str) -> Commit:
    """Write one whole shard and then its commit record. If another attempt committed first, its record is returned.

    Raises:
        StoreError: the arrays are not exactly the shard's rows, or hold values that are not finite.
    """
    root = _open_group(run, mode="r+")
    rows = _rows_of(root, shard)
    _check_arrays(run, shard, arrays, rows)
    for name in ARRAYS:
        _array(root, name)[rows.start : rows.stop] = getattr(arrays, name)
    commit = _commit(run, shard, arrays, str(root.attrs["config_hash"]), attempt)
    if objects.write_once(run.commits, _commit_name(shard), json.dumps(asdict(commit), indent=1).encode()):
        return commit
    return _read_commit(run, shard)


def commits(run: RunFolder) -> dict[int, Commit]:
    """The finished shards."""
    names = objects.sizes(run.commits)
    return {shard: _read_commit(run, shard) for shard in sorted(int(name.removesuffix(".json")) for name in names)}


def finish(run: RunFolder) -> float:
    """Store and return the mean squared block norm, once all shards are committed.

    Raises:
        StoreError: a shard is missing.
    """
    store = open_store(run, unfinished=True)
    done = store.check_complete()
    total = sum(done[shard].sum_squares for shard in sorted(done))  # in shard order, so that every run rounds alike
    mean = total / (store.num_rows * store.group.order)
    record = read_json(run.activations, "zarr.json")
    if record["attributes"]["mean_squared_block_norm"] != mean:
        record["attributes"]["mean_squared_block_norm"] = mean
        write_json(run.activations, "zarr.json", record)
    return mean


def open_store(run: RunFolder, *, unfinished: bool = False) -> "Store":
    """Open for reading.

    Raises:
        StoreError: there is no store, or (unless `unfinished`) a shard is missing or damaged.
    """
    store = Store(run)
    if not unfinished:
        store.check_complete()
        if store.attrs["mean_squared_block_norm"] is None:
            raise StoreError(f"{run.url}: the harvest was not finished; run `python -m jobs.harvest --out {run.url}` again")
    return store


class Store:
    """Read access to a run's activations; slices are NumPy arrays."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        root = _open_group(run, mode="r")
        self.attrs: dict[str, Any] = dict(root.attrs)
        if (found := self.attrs.get("format_version")) != FORMAT_VERSION:
            raise StoreError(f"{run.activations}: format version {found} found, expected {FORMAT_VERSION}; harvest again")
        self._activations = _array(root, "activations")
        self._image, self._centre_yx = _array(root, "image"), _array(root, "centre_yx")
        self.num_rows, _, self.channels = self._activations.shape
        self.shard_rows: int = self.attrs["shard_rows"]
        kind, n = self.attrs["group"]["kind"], self.attrs["group"]["n"]
        self.group = Group(kind, n)

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.shard_rows)

    @cached_property
    def image(self) -> NDArray[np.int64]:
        """(N,) row of the manifest for each sample."""
        return np.asarray(self._image[:])

    @cached_property
    def centre_yx(self) -> NDArray[np.int32]:
        """(N, 2) centre pixel in the resized image."""
        return np.asarray(self._centre_yx[:])

    def read(self, start: int, stop: int) -> NDArray[np.float16]:
        """(stop - start, G, C) activations of consecutive rows."""
        return np.asarray(self._activations[start:stop])

    def rows(self, shard: int) -> range:
        """The rows of a shard."""
        first = shard * self.shard_rows
        return range(first, min(first + self.shard_rows, self.num_rows))

    def check_complete(self) -> dict[int, Commit]:
        """Every shard's commit record, after comparing them with what is stored.

        Raises:
            StoreError: a shard has no record, or an object is missing or has another size than its record says.
        """
        done, stored = commits(self.run), objects.sizes(self.run.activations)
        for shard in range(self.num_shards):
            if shard not in done:
                raise StoreError(_repair(self.run, f"shard {shard} of {self.num_shards} was never finished"))
            for name, expected in done[shard].object_bytes.items():
                if (found := stored.get(_object_name(name, shard), 0)) != expected:
                    raise StoreError(_repair(self.run, f"shard {shard}: {name} has {found} bytes, its commit record says {expected}"))
        return done


def digest(array: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def group_of(name: str | None, store: Store) -> Group:
    """The group to train on: the store's own, or a part of it by name."""
    return store.group if name is None else parse(name)


def _repair(run: RunFolder, what: str) -> str:
    return f"{run.url}: {what}. `python -m jobs.harvest --out {run.url}` with the same options computes what is missing"


def _create_array(root: zarr.Group, name: str, shape: tuple[int, ...], shard_rows: int, dtype: type, fill: float) -> None:
    root.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(CHUNK_ROWS, *shape[1:]),
        shards=(shard_rows, *shape[1:]),
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        fill_value=fill,
        config={"write_empty_chunks": True},
    )


def _open_group(run: RunFolder, mode: Any) -> zarr.Group:
    try:
        return zarr.open_group(ObjectStore(objects.open_folder(run.activations)), mode=mode)
    except FileNotFoundError:
        raise StoreError(f"{run.activations}: no activation store found; make one with `python -m jobs.harvest`") from None


def _array(root: zarr.Group, name: str) -> Array[Any]:
    found = root[name]
    assert isinstance(found, Array), f"{name} is not an array"
    return found


def _attrs(run: RunFolder) -> dict[str, Any] | None:
    try:
        return read_json(run.activations, "zarr.json")["attributes"]
    except FileNotFoundError:
        return None


def _refuse_another_config(run: RunFolder, existing: dict[str, Any], wanted: dict[str, Any]) -> None:
    if existing["config_hash"] == wanted["config_hash"]:
        return
    keys = sorted(existing["config"].keys() | wanted["config"].keys())
    changed = [f"{k} {existing['config'].get(k)!r} -> {wanted['config'].get(k)!r}" for k in keys if existing["config"].get(k) != wanted["config"].get(k)]
    raise StoreError(f"{run.url}: was harvested with other options ({'; '.join(changed)}); choose another --out, or the same options")


def _rows_of(root: zarr.Group, shard: int) -> range:
    num_rows, shard_rows = int(root.attrs["num_rows"]), int(root.attrs["shard_rows"])  # type: ignore[arg-type]
    return range(shard * shard_rows, min((shard + 1) * shard_rows, num_rows))


def _check_arrays(run: RunFolder, shard: int, arrays: ShardArrays, rows: range) -> None:
    for name in ARRAYS:
        if (found := len(getattr(arrays, name))) != len(rows):
            raise StoreError(f"{run.url}: shard {shard}: {name} has {found} rows, expected exactly {len(rows)}")
    if not np.isfinite(arrays.activations).all():
        raise StoreError(f"{run.url}: shard {shard}: activations beyond float16 or not a number; is the layer normalised?")


def _commit(run: RunFolder, shard: int, arrays: ShardArrays, config_hash: str, attempt: str) -> Commit:
    squares = np.square(arrays.activations.reshape(len(arrays.activations), -1), dtype=np.float32).sum(1, dtype=np.float64)
    return Commit(
        shard=shard,
        num_rows=len(arrays.image),
        sha256={name: digest(getattr(arrays, name)) for name in ARRAYS},
        object_bytes={name: objects.size(run.activations, _object_name(name, shard)) for name in ARRAYS},
        sum_squares=float(squares.sum()),
        config_hash=config_hash,
        attempt=attempt,
    )


def _object_name(array: str, shard: int) -> str:
    trailing = {"activations": "/0/0", "image": "", "centre_yx": "/0"}[array]
    return f"{array}/c/{shard}{trailing}"


def _commit_name(shard: int) -> str:
    return f"{shard:08d}.json"


def _read_commit(run: RunFolder, shard: int) -> Commit:
    return Commit(**read_json(run.commits, _commit_name(shard)))
