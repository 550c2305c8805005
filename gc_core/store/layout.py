"""How the store is laid out: names, shapes and codecs, and opening what is there.

Letters: N rows, G group elements, C channels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.array import Array
from zarr.storage import MemoryStore, ObjectStore

from gc_core.config import Compression
from gc_core.groups import FiniteGroup
from gc_core.io import objects
from gc_core.io.artefacts import sealed, unsealed
from gc_core.io.json_objects import finite, read_json
from gc_core.io.run_folder import RunFolder
from gc_core.io.typed import record_of
from gc_core.io.zarr_bytes import objects_of
from gc_core.store.compression import codecs
from gc_core.store.shards import CHUNK_ROWS, ShardPlan

MIXED, HELD_OUT_LAST = 1, 2
"""Format versions: where rows of held-out images stand. The arrays are laid out alike."""
FORMAT_VERSION = HELD_OUT_LAST
"""Format version of new stores; those of every version are read and continued."""
ARRAYS = ("activations", "image", "centre_yx")
MEAN = "mean_squared_block_norm"
"""The attribute that is set when all shards are there."""
MANIFEST = "manifest_sha256"
"""The attribute that says which manifest the samples' images are numbered in; stores of before have none."""
INGESTED = "ingested"
"""The attribute of a store whose numbers come from files of activations; it holds what is known of them."""


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


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The attributes that say how the arrays are laid out, and by which config."""

    num_rows: int
    shard_rows: int
    group: FiniteGroup
    config: dict[str, Any]
    config_hash: str

    def __post_init__(self) -> None:
        if self.num_rows < 1 or self.shard_rows < 1 or self.shard_rows % CHUNK_ROWS:
            raise ValueError(
                f"num_rows {self.num_rows}, shard_rows {self.shard_rows} found, expected at least 1, and a multiple of "
                f"{CHUNK_ROWS}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One stored object of a shard."""

    array: NDArray[np.generic]
    """What it holds, which an earlier attempt may have computed."""
    num_bytes: int
    tag: str
    """Tag by which `objects.stat` recognises these bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """What a store is made of, before it has rows."""

    num_rows: int
    shard_rows: int
    channels: int
    group: FiniteGroup
    attrs: Mapping[str, Any]
    """Where its numbers come from."""
    format_version: int = FORMAT_VERSION
    compression: Compression = "zstd"

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the store's Zarr group; the mean is known when all shards are there."""
        return {
            "format_version": self.format_version,
            MEAN: None,
            "num_rows": self.num_rows,
            "shard_rows": self.shard_rows,
            "group": self.group.as_record(),
            **self.attrs,
        }


def make_group(run: RunFolder, attrs: dict[str, Any]) -> None:
    """Create the group, unless there is one: with it, it is decided whose store this is."""
    made = objects_of(lambda memory: zarr.create_group(memory, attributes=sealed(finite(attrs))))
    objects.write_once(run.activations, "zarr.json", made["zarr.json"])


def make_arrays(run: RunFolder, spec: StoreSpec) -> None:
    """Create the empty arrays of the group, those that are not there yet: nothing is written over."""

    def write(memory: MemoryStore) -> None:
        root = zarr.create_group(memory)
        make, num_rows = partial(_make_array, root, spec), spec.num_rows
        make("activations", (num_rows, spec.group.order, spec.channels), np.float16, np.nan)
        make("image", (num_rows,), np.int64, -1)
        make("centre_yx", (num_rows, 2), np.int32, -1)

    for name, content in objects_of(write).items():
        if name != "zarr.json":
            objects.write_once(run.activations, name, content)


def open_group(run: RunFolder) -> zarr.Group:
    """The group, read-only; StoreError if there is none, or its metadata are damaged."""
    try:
        objects.size(run.activations, "zarr.json")  # tells a bucket that is missing or closed from a store that is
        with objects.one_line_errors(run.activations):
            return zarr.open_group(ObjectStore(objects.open_folder(run.activations)), mode="r", zarr_format=3)
    except FileNotFoundError:
        raise StoreError(
            f"{run.activations}: no activation store found; make one with `python -m jobs.harvest`"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:  # as Zarr meets damaged JSON
        raise _damaged_metadata(run, "zarr.json", error) from error


def array_of(run: RunFolder, root: zarr.Group, name: str) -> Array[Any]:
    """One of the group's arrays; StoreError if its metadata are missing or damaged."""
    try:
        with objects.one_line_errors(run.activations, name):
            array = root[name]
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:  # as Zarr meets damaged JSON
        raise _damaged_metadata(run, f"{name}/zarr.json", error) from error
    if not isinstance(array, Array):
        raise _damaged_metadata(run, f"{name}/zarr.json", TypeError("it is not an array"))
    return array


def attributes(run: RunFolder) -> dict[str, Any] | None:
    """The group's attributes; None if there is no store."""
    try:
        record = read_json(run.activations, "zarr.json")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged_metadata(run, "zarr.json", error) from error
    return attributes_in(run, record.get("attributes"))


def version_of(run: RunFolder) -> int:
    """Format version of the store there, or of the one that would be made; StoreError if its metadata are damaged."""
    existing = attributes(run)
    return FORMAT_VERSION if existing is None else existing["format_version"]


def format_version_of(plan: ShardPlan) -> int:
    """Format version of a store whose rows are those of the plan."""
    return MIXED if plan.held_out_from is None else HELD_OUT_LAST


def attributes_in(run: RunFolder, stored: Any) -> dict[str, Any]:
    """The attributes without their own hash; StoreError if it is that of others, or they cannot be a store's."""
    try:
        if (version := dict(stored)["format_version"]) not in (MIXED, HELD_OUT_LAST):
            said = f"format version {version!r} found, expected {MIXED} or {HELD_OUT_LAST}"
            raise StoreError(f"{run.activations}: {said}; a later version of this program made it, or harvest again")
        attrs = unsealed(dict(stored), "its attributes")
        _check_attributes(attrs)
    except StoreError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged_metadata(run, "zarr.json", error) from None
    return attrs


def _check_attributes(attrs: dict[str, Any]) -> None:
    """ValueError unless they are what a store of this version has."""
    record_of(Layout, {field.name: attrs[field.name] for field in fields(Layout)}, where="its attributes")
    mean = attrs[MEAN]
    if mean is not None and not (isinstance(mean, float | int) and math.isfinite(mean) and mean >= 0):
        raise ValueError(f"its attributes: {MEAN}: {mean!r} found, expected a number of at least 0, or null")


def refuse_other_manifest(run: RunFolder, attrs: Mapping[str, Any], found: str | None) -> None:
    """StoreError if a manifest with this hash is not the one that the store was made with; None is not known."""
    if None not in (expected := attrs.get(MANIFEST), found) and found != expected:
        raise StoreError(
            f"{run.manifest}: is not the manifest of this store, or is damaged (SHA-256 {found:.12}... found, "
            f"{expected:.12}... recorded); restore both from one copy, or harvest into another --out"
        )


def object_name(array: str, shard: int) -> str:
    """Name, below the group, of the one object that holds a shard of an array."""
    trailing = {"activations": "/0/0", "image": "", "centre_yx": "/0"}[array]
    return f"{array}/c/{shard}{trailing}"


def stored_bytes(run: RunFolder, shard: int) -> dict[str, int]:
    """Sizes of a shard's objects, of those that exist."""
    sizes: dict[str, int] = {}
    for name in (object_name(array, shard) for array in ARRAYS):
        try:
            sizes[name] = objects.size(run.activations, name)
        except FileNotFoundError:
            continue
    return sizes


def to_continue(run: RunFolder, attrs: dict[str, Any]) -> str:
    """What to do about shards that were never computed."""
    job = "jobs.ingest" if INGESTED in attrs else "jobs.harvest"
    return f"`python -m {job} --out {run.url}` with the same options computes what is missing"


def to_repair(run: RunFolder) -> str:
    """What to do about shards that were computed, and are damaged."""
    return f"`python -m jobs.verify {run.url} --repair` computes again what is damaged"


def _make_array(root: zarr.Group, spec: StoreSpec, name: str, shape: tuple[int, ...], dtype: type, fill: float) -> None:
    root.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(CHUNK_ROWS, *shape[1:]),
        shards=(spec.shard_rows, *shape[1:]),
        compressors=codecs(spec.compression, np.dtype(dtype).itemsize),
        fill_value=fill,
        config={"write_empty_chunks": True},
    )


def _damaged_metadata(run: RunFolder, name: str, error: Exception) -> StoreError:
    said = f"{run.activations / name}: missing or damaged ({error})"
    return StoreError(f"{said}; restore it from a copy, or harvest into another --out")
