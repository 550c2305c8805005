"""Zarr groups and arrays as the bytes of their objects, made in memory: so that each is created once, or replaced as a
whole, and its hash is known."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore


def objects_of(write: Callable[[MemoryStore], object]) -> dict[str, bytes]:
    """Every object by its key, after `write` has filled an empty store."""
    store = MemoryStore()
    write(store)
    return asyncio.run(_contents(store))


def group_of(attributes: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """Objects of a group with small arrays, one chunk each, with CRC-32C; a chunk that is missing would read as NaN, or
    as the least whole number."""

    def write(store: MemoryStore) -> None:
        root = zarr.create_group(store, attributes=dict(attributes))
        for name, values in arrays.items():
            _write_array(root, name, np.ascontiguousarray(values))

    return objects_of(write)


def array_names(arrays: Mapping[str, object]) -> str:
    """A pattern of the objects' names of a group with these arrays."""
    return rf"zarr\.json|({'|'.join(arrays)})/(zarr\.json|c(/\d+)*)"


def _write_array(root: zarr.Group, name: str, values: NDArray[Any]) -> None:
    array = root.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=tuple(max(1, length) for length in values.shape),
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        fill_value=np.nan if values.dtype.kind == "f" else np.iinfo(values.dtype).min,
        config={"write_empty_chunks": True},
    )
    array[...] = values


async def _contents(store: MemoryStore) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    async for key in store.list():
        content = await store.get(key, prototype=default_buffer_prototype())
        assert content is not None, "it was listed"
        contents[key] = content.to_bytes()
    return contents
