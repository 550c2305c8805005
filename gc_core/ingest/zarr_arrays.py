"""Arrays of a Zarr store, version 2 or 3, on a disk or in a bucket.

Zarr reads a chunk that is missing as the fill value, without a word; here it is counted and refused.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import zarr
from zarr.storage import ObjectStore

from gc_core.ingest.config import IngestError
from gc_core.ingest.forms import KEPT_OPEN, UNREADABLE, Arrays, Opened, refused
from gc_core.io import objects
from gc_core.io.location import Location

MARKS = ("zarr.json", ".zarray", ".zgroup")
"""A location that holds one of these is a Zarr array or group."""
CODECS = (
    {"blosc", "zstd", "gzip", "zlib", "bz2", "lz4", "lzma", "shuffle", "delta", "bitround", "fixedscaleoffset"}
    | {"quantize", "crc32", "crc32c", "adler32", "fletcher32", "bytes", "transpose", "sharding_indexed", "vlen-utf8"}
)  # fmt: skip
"""Codecs that turn bytes into numbers; there are others, which unpickle."""


def is_zarr(location: Location) -> bool:
    """Whether a location is a Zarr array or group."""
    return _mark(location) is not None


def arrays_below(location: Location) -> Arrays:
    """Every array of the store, by its path; the array itself, named '', if the location is one.

    Raises:
        IngestError: its metadata are damaged.
    """
    return _arrays_below(location, _mark(location))


def _mark(location: Location) -> tuple[int, str] | None:
    """Size and tag of what marks a Zarr array or group; None where there is none."""
    for mark in MARKS:
        try:
            return objects.stat(location, mark)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None


@lru_cache(maxsize=KEPT_OPEN)
def _arrays_below(location: Location, version: tuple[int, str] | None) -> Arrays:
    """`version` tells the cache when what it knows is out of date."""
    del version
    try:
        with objects.one_line_errors(location):
            node = zarr.open(ObjectStore(objects.open_folder(location), read_only=True), mode="r")
            if isinstance(node, zarr.Array):
                return {"": lambda: _opened(location, node)}
            arrays = [(name, item) for name, item in node.members(None) if isinstance(item, zarr.Array)]
    except UNREADABLE as error:
        raise refused(location, "Zarr", error) from None
    return {name: lambda item=item: _opened(location, item) for name, item in sorted(arrays)}


def absent_chunks(location: Location, name: str) -> int:
    """How many objects of an array are not there."""
    with objects.one_line_errors(location):
        node = zarr.open(ObjectStore(objects.open_folder(location), read_only=True), mode="r")
        array = node if isinstance(node, zarr.Array) else node[name]
        assert isinstance(array, zarr.Array), f"{name} is not an array"
        stored_as = array.shards or array.chunks
        wanted = math.prod(-(-length // side) for length, side in zip(array.shape, stored_as, strict=True))
        chunks_each = math.prod(side // inner for side, inner in zip(stored_as, array.chunks, strict=True))
        return wanted - array.nchunks_initialized // chunks_each


def _opened(location: Location, array: Any) -> Opened:
    if strange := sorted(_codecs(array.metadata.to_dict()) - CODECS):
        raise IngestError(
            f"{location}: codec {strange[0]!r} found, which is not read here; store it with zstd or blosc"
        )
    return Opened(shape=array.shape, dtype=str(array.dtype), read=lambda start, stop: np.asarray(array[start:stop]))


def _codecs(metadata: Any) -> set[str]:
    """Names of all codecs anywhere in an array's metadata, those inside shards too."""
    entries = [*(metadata.get("filters") or []), metadata.get("compressor"), *(metadata.get("codecs") or [])]
    names: set[str] = set()
    for entry in filter(None, entries):
        plain = entry if isinstance(entry, dict) else entry.get_config() if hasattr(entry, "get_config") else entry
        named = plain if isinstance(plain, dict) else plain.to_dict()
        names.add(str(named.get("id") or named.get("name")).removeprefix("numcodecs."))
        inner = named.get("configuration") or {}
        names |= _codecs({"codecs": [*inner.get("codecs", []), *inner.get("index_codecs", [])]})
    return names
