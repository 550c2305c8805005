"""One shard of one array as the bytes of its object, and back: compressed chunks, then an index of where each begins.

This is the layout of Zarr's sharding codec, and the bytes are those that Zarr itself would store; Zarr 3.1 makes and
reads them one chunk after another, this does it in as many threads as there are.

Letters: N rows, K chunks of a shard.
"""

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, ShardingCodec
from zarr.core.array import Array

from gc_core.config import Compression
from gc_core.store.compression import COMPRESSIONS, codecs, packed, unpack

CHECKSUM_BYTES = 4
NOTHING = 2**64 - 1
"""Begin and length, in the index, of a chunk that is not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What an array's metadata say about its objects."""

    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    chunk_rows: int
    num_chunks: int
    """Chunks of a shard, K."""
    compression: Compression

    @property
    def index_bytes(self) -> int:
        """Size of the index at an object's end."""
        return 16 * self.num_chunks + CHECKSUM_BYTES


def form_of(array: Array[Any]) -> Form:
    """The form of an array's objects.

    Raises:
        ValueError: they are stored by other codecs than this project's.
    """
    assert array.shards is not None, "an array of this project has shards"
    return Form(
        row_shape=array.shape[1:],
        dtype=array.dtype,
        fill=array.fill_value,
        chunk_rows=array.chunks[0],
        num_chunks=array.shards[0] // array.chunks[0],
        compression=_compression_of(array),
    )


def encode(form: Form, content: NDArray[Any], threads: Executor) -> bytes:
    """The object of a shard's rows; the same rows are the same bytes."""
    firsts = range(0, len(content), form.chunk_rows)
    chunks = list(threads.map(lambda first: _chunk(form, content[first : first + form.chunk_rows]), firsts))
    index_K2 = np.full((form.num_chunks, 2), NOTHING, "<u8")
    index_K2[: len(chunks), 1] = [len(chunk) + len(checksum) for chunk, checksum in chunks]
    index_K2[: len(chunks), 0] = np.cumsum(index_K2[: len(chunks), 1]) - index_K2[: len(chunks), 1]
    return b"".join([*chain.from_iterable(chunks), index_K2.tobytes(), _checksum(index_K2.tobytes())])


def decode(form: Form, stored: bytes, num_rows: int, threads: Executor) -> NDArray[Any]:
    """A shard's rows from its object.

    Raises:
        ValueError: a checksum is wrong, a chunk is missing, or the bytes are no shard.
    """
    index_K2 = read_index(form, memoryview(stored)[-form.index_bytes :])
    out = np.empty((num_rows, *form.row_shape), form.dtype)

    def decode_one(chunk: int) -> None:
        begin, end = span(index_K2, chunk, chunk)
        decode_chunk(form, memoryview(stored)[begin:end], out[chunk * form.chunk_rows : (chunk + 1) * form.chunk_rows])

    _finish(threads.map(decode_one, range(-(-num_rows // form.chunk_rows))))
    return out


def read_index(form: Form, stored: memoryview) -> NDArray[np.uint64]:
    """(K, 2) begin and length of every chunk, from the end of an object; ValueError if it is damaged."""
    if len(stored) != form.index_bytes or _checksum(stored[:-CHECKSUM_BYTES]) != stored[-CHECKSUM_BYTES:]:
        raise ValueError("its index has a wrong checksum or is cut short")
    return np.frombuffer(stored[:-CHECKSUM_BYTES], "<u8").reshape(form.num_chunks, 2)


def span(index_K2: NDArray[np.uint64], first: int, last: int) -> tuple[int, int]:
    """Where the bytes of chunks `first` to `last` begin and end; ValueError if one is not stored."""
    if (index_K2[first : last + 1] == np.uint64(NOTHING)).any():
        raise ValueError("it has rows that were never written")
    return int(index_K2[first, 0]), int(index_K2[last].sum())


def decode_chunk(form: Form, stored: memoryview, out: NDArray[Any]) -> None:
    """Fill `out` with the first rows of a chunk; ValueError if it is damaged."""
    if len(stored) < CHECKSUM_BYTES or _checksum(stored[:-CHECKSUM_BYTES]) != stored[-CHECKSUM_BYTES:]:
        raise ValueError("a chunk has a wrong checksum or is cut short")
    if len(out) == form.chunk_rows and out.flags.c_contiguous:
        unpack(form.compression, stored[:-CHECKSUM_BYTES], out)
        return
    whole = np.empty((form.chunk_rows, *form.row_shape), form.dtype)
    unpack(form.compression, stored[:-CHECKSUM_BYTES], whole)
    out[:] = whole[: len(out)]


def _compression_of(array: Array[Any]) -> Compression:
    stored_codecs = array.metadata.to_dict()["codecs"]
    for compression in COMPRESSIONS:
        if stored_codecs == (_sharding(array.chunks, compression, array.dtype.itemsize).to_dict(),):
            return compression
    said = f"codecs {stored_codecs} found, expected sharded chunks of {', '.join(COMPRESSIONS)} with checksums"
    raise ValueError(f"{said}; read it with zarr")


def _sharding(chunk_shape: tuple[int, ...], compression: Compression, item_bytes: int) -> ShardingCodec:
    packing = [BytesCodec(endian="little"), *codecs(compression, item_bytes)]
    return ShardingCodec(chunk_shape=chunk_shape, codecs=packing)


def _chunk(form: Form, rows: NDArray[Any]) -> tuple[bytes | memoryview, bytes]:
    """One chunk and its checksum; the last one of an array is filled up."""
    if len(rows) < form.chunk_rows:
        missing = np.full((form.chunk_rows - len(rows), *form.row_shape), form.fill, form.dtype)
        rows = np.concatenate([rows, missing])
    chunk = packed(form.compression, np.ascontiguousarray(rows))
    return chunk, _checksum(chunk)


def _checksum(content: Any) -> bytes:
    seen = np.frombuffer(content, np.uint8)  # the library takes no memoryview
    return google_crc32c.value(seen).to_bytes(CHECKSUM_BYTES, "little")


def _finish(results: Iterable[None]) -> None:
    """Wait for all, and raise what one raised."""
    for _ in results:
        pass
