"""How a chunk is packed: names that people choose, Zarr's codecs for them, and the same bytes from NumCodecs."""

from typing import Any, get_args

import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from gc_core.config import Compression

COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
LEVEL = 1
SAVED: dict[Compression, str] = {
    "zstd": "before compression, which often halves it",
    "lz4": "before compression, which often saves a tenth",
    "none": "uncompressed",
}
"""What a compression does to a size, for people."""


def codecs(compression: Compression, item_bytes: int) -> list[Any]:
    """Zarr's codecs after the one that makes bytes of numbers: a checksum always comes last."""
    packing = {
        "zstd": [ZstdCodec(level=LEVEL)],
        "lz4": [BloscCodec(cname="lz4", clevel=LEVEL, shuffle="bitshuffle", typesize=item_bytes)],
        "none": [],
    }
    return [*packing[compression], Crc32cCodec()]


def packed(compression: Compression, rows: NDArray[Any]) -> bytes | memoryview:
    """The bytes of a chunk; to be called off the main thread, where Blosc has no threads of its own, whose order would
    decide its bytes."""
    if compression == "none":
        return rows.reshape(-1).view(np.uint8).data
    return _codec(compression, rows.itemsize).encode(rows)


def unpack(compression: Compression, stored: memoryview, out: NDArray[Any]) -> None:
    """Fill a whole, contiguous chunk; ValueError if the bytes are no such chunk."""
    if compression == "none":
        if len(stored) != out.nbytes:
            raise ValueError(f"a chunk has {len(stored)} bytes, expected {out.nbytes}")
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(stored, np.uint8)
    else:
        _codec(compression, out.itemsize).decode(stored, out)


def _codec(compression: Compression, item_bytes: int) -> Any:
    if compression == "zstd":
        return Zstd(level=LEVEL)
    return Blosc(cname="lz4", clevel=LEVEL, shuffle=Blosc.BITSHUFFLE, typesize=item_bytes)
