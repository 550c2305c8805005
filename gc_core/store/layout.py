"""How the store is laid out: names, shapes and codecs, and opening what is there.

Letters: N rows, G group elements, C channels.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.array import Array
from zarr.storage import ObjectStore

from gc_core import objects
from gc_core.run_folder import RunFolder, read_json
from gc_core.shards import CHUNK_ROWS
from gc_core.store.encoded import codecs

FORMAT_VERSION = 1
ARRAYS = ("activations", "image", "centre_yx")
MEAN = "mean_squared_block_norm"
"""The attribute that is set when all shards are there."""


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
class Placed:
    """One stored object of a shard."""

    array: NDArray[np.generic]
    """What it holds, which an earlier attempt may have computed."""
    num_bytes: int
    tag: str
    """By which `objects.stat` knows these bytes again."""


def make_group(run: RunFolder, attrs: dict[str, Any]) -> zarr.Group:
    """The empty group."""
    with objects.one_line_errors(run.activations):
        return zarr.create_group(ObjectStore(objects.open_folder(run.activations, create=True)), attributes=attrs)


def make_arrays(run: RunFolder, root: zarr.Group, *, num_rows: int, shard_rows: int, order: int, channels: int) -> None:
    """The empty arrays, those that are not there yet."""
    with objects.one_line_errors(run.activations):
        _make_array(root, "activations", (num_rows, order, channels), shard_rows, np.float16, np.nan)
        _make_array(root, "image", (num_rows,), shard_rows, np.int64, -1)
        _make_array(root, "centre_yx", (num_rows, 2), shard_rows, np.int32, -1)


def open_group(run: RunFolder, mode: Literal["r", "r+"]) -> zarr.Group:
    """The group; StoreError if there is none, or its metadata are damaged."""
    try:
        objects.size(run.activations, "zarr.json")  # tells a bucket that is missing or closed from a store that is
        with objects.one_line_errors(run.activations):
            return zarr.open_group(ObjectStore(objects.open_folder(run.activations)), mode=mode, zarr_format=3)
    except FileNotFoundError:
        raise StoreError(
            f"{run.activations}: no activation store found; make one with `python -m jobs.harvest`"
        ) from None
    except ValueError as error:
        raise _damaged_metadata(run, "zarr.json", error) from error


def array_of(run: RunFolder, root: zarr.Group, name: str) -> Array[Any]:
    """One of the group's arrays; StoreError if its metadata are missing or damaged."""
    try:
        with objects.one_line_errors(run.activations, name):
            found = root[name]
    except (KeyError, ValueError) as error:
        raise _damaged_metadata(run, f"{name}/zarr.json", error) from error
    assert isinstance(found, Array), f"{name} is not an array"
    return found


def attributes(run: RunFolder) -> dict[str, Any] | None:
    """The group's attributes; None if there is no store."""
    try:
        return read_json(run.activations, "zarr.json").get("attributes", {})
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged_metadata(run, "zarr.json", error) from error


def object_name(array: str, shard: int) -> str:
    """Name, below the group, of the one object that holds a shard of an array."""
    trailing = {"activations": "/0/0", "image": "", "centre_yx": "/0"}[array]
    return f"{array}/c/{shard}{trailing}"


def stored_bytes(run: RunFolder, shard: int) -> dict[str, int]:
    """Sizes of a shard's objects, of those that exist."""
    found: dict[str, int] = {}
    for name in (object_name(array, shard) for array in ARRAYS):
        try:
            found[name] = objects.size(run.activations, name)
        except FileNotFoundError:
            continue
    return found


def to_continue(run: RunFolder) -> str:
    """What to do about shards that were never computed."""
    return f"`python -m jobs.harvest --out {run.url}` with the same options computes what is missing"


def to_repair(run: RunFolder) -> str:
    """What to do about shards that were computed, and are damaged."""
    return f"`python -m jobs.verify {run.url} --repair` computes again what is damaged"


def _make_array(root: zarr.Group, name: str, shape: tuple[int, ...], shard_rows: int, dtype: type, fill: float) -> None:
    if name in root:
        return
    root.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(CHUNK_ROWS, *shape[1:]),
        shards=(shard_rows, *shape[1:]),
        compressors=codecs(),
        fill_value=fill,
        config={"write_empty_chunks": True},
    )


def _damaged_metadata(run: RunFolder, name: str, error: Exception) -> StoreError:
    said = f"{objects.join(run.activations, name)}: missing or damaged ({error})"
    return StoreError(f"{said}; restore it from a copy, or harvest into another --out")
