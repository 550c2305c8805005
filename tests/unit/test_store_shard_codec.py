"""Objects are the bytes that Zarr would store, and read alike by Zarr and by this project; damage is never numbers.

Letters: N rows, K chunks of a shard.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from gc_core.store import COMPRESSIONS
from gc_core.store.compression import codecs
from gc_core.store.shard_codec import NOTHING, Form, decode, encode, form_of, read_index, span

KINDS = {"activations": (np.float16, (3, 5), np.nan), "image": (np.int64, (), -1), "centre_yx": (np.int32, (2,), -1)}
CHUNK_ROWS = 8


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(3) as executor:
        yield executor


def zarr_array(kind: str, num_rows: int, num_chunks: int, compression: str = "zstd") -> zarr.Array:
    """An empty array of one shard."""
    dtype, row_shape, fill = KINDS[kind]
    return zarr.create_array(
        MemoryStore(),
        shape=(num_rows, *row_shape),
        dtype=dtype,
        chunks=(CHUNK_ROWS, *row_shape),
        shards=(CHUNK_ROWS * num_chunks, *row_shape),
        compressors=codecs(compression, np.dtype(dtype).itemsize),
        fill_value=fill,
        config={"write_empty_chunks": True},
    )


def rows_of(array: zarr.Array, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 9, array.shape).astype(array.dtype)


def object_of(array: zarr.Array) -> bytes:
    (name,) = (name for name in array.store._store_dict if "/" in name)
    return array.store._store_dict[name].to_bytes()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", KINDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(num_chunks=st.integers(1, 5), data=st.data())
def test_the_object_is_what_zarr_stores_and_is_read_back(
    kind: str, compression: str, num_chunks: int, data: st.DataObject, threads: Executor
) -> None:
    num_rows = data.draw(st.integers(1, num_chunks * CHUNK_ROWS))
    array = zarr_array(kind, num_rows, num_chunks, compression)
    array[:] = rows = rows_of(array, num_rows)
    stored = encode(form_of(array), rows, threads)
    assert stored == object_of(array)
    np.testing.assert_array_equal(decode(form_of(array), stored, num_rows, threads), rows)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_flip_of_any_byte_is_noticed(compression: str, threads: Executor) -> None:
    array = zarr_array("centre_yx", 20, 3, compression)
    form, rows = form_of(array), rows_of(array, 0)
    stored = encode(form, rows, threads)
    for place in range(len(stored)):
        flipped = stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :]
        with pytest.raises(ValueError, match="checksum"):
            decode(form, flipped, 20, threads)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_any_cut_is_noticed(compression: str, threads: Executor) -> None:
    array = zarr_array("centre_yx", 20, 3, compression)
    form = form_of(array)
    stored = encode(form, rows_of(array, 0), threads)
    for size in range(len(stored)):
        with pytest.raises(ValueError, match="cut short"):
            decode(form, stored[:size], 20, threads)


def test_a_chunk_that_is_not_stored_is_no_fill_value(threads: Executor) -> None:
    array = zarr_array("activations", 40, 5)
    form = form_of(array)
    stored = encode(form, rows_of(array, 0)[:16], threads)
    with pytest.raises(ValueError, match="never written"):
        decode(form, stored, 17, threads)
    index_K2 = read_index(form, memoryview(stored)[-form.index_bytes :])
    assert (index_K2 == NOTHING).all(1).tolist() == [False, False, True, True, True]
    assert span(index_K2, 0, 1) == (0, len(stored) - form.index_bytes)


def test_objects_of_other_codecs_are_refused() -> None:
    array = zarr.create_array(MemoryStore(), shape=(8, 2), dtype="f2", chunks=(4, 2), shards=(8, 2), compressors=None)
    with pytest.raises(ValueError, match=r"codecs .* found, expected .* read it with zarr"):
        form_of(array)


def test_forms_of_equal_arrays_are_equal() -> None:
    assert form_of(zarr_array("image", 20, 3)) == form_of(zarr_array("image", 7, 3))
    assert isinstance(form_of(zarr_array("image", 20, 3)), Form)
