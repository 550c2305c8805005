"""One shard of one array as the bytes of its object, and back, in memory: what is stored is placed whole or not at all.

Letters: N rows, G group elements, C channels.
"""

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.array import Array
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from gc_core.store.layout import object_name


def encode(array: Array[Any], name: str, shard: int, rows: range, content: NDArray[Any]) -> bytes:
    """The object that Zarr would store for a shard's rows; the same rows are the same bytes."""
    held: dict[str, Buffer] = {}
    _in_memory(array, held)[rows.start : rows.stop] = content
    return held[_key(name, shard)].to_bytes()


def decode(array: Array[Any], name: str, shard: int, rows: range, stored: bytes) -> NDArray[Any]:
    """A shard's rows from its object; rows without a chunk read as the fill value.

    Raises:
        ValueError: a checksum is wrong, or the bytes are no shard.
    """
    held: dict[str, Buffer] = {_key(name, shard): default_buffer_prototype().buffer.from_bytes(stored)}
    return np.asarray(_in_memory(array, held)[rows.start : rows.stop])


def _in_memory(array: Array[Any], held: dict[str, Buffer]) -> Array[Any]:
    """The same array over objects in `held`."""
    held.update(array.metadata.to_buffer_dict(default_buffer_prototype()))
    return zarr.open_array(MemoryStore(held), mode="r+")


def _key(name: str, shard: int) -> str:
    return object_name(name, shard).removeprefix(f"{name}/")
