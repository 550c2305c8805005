"""Small files that would take gigabytes are refused before the memory is asked for. Each is read in a process of its
own, which says what Arrow's allocator gave at most, and how large the process became."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gc_core.images import ImageError, arrow, parquet
from gc_core.images.load import read
from gc_core.io.location import Location
from support.image_files import png

CHILD = """
import json, resource, sys
import pyarrow as pa
from gc_core.images import ImageError, arrow, parquet
from gc_core.io.location import Location
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
said = []
try:
    for entry in (arrow if sys.argv[1].endswith(".arrow") else parquet).scan(Location.parse(sys.argv[1])):
        said.append(entry.error)
        if len(said) == 1 and not entry.error:
            (arrow if sys.argv[1].endswith(".arrow") else parquet).read(entry.ref)
except ImageError as error:
    said.append(str(error))
grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
print(json.dumps([pa.default_memory_pool().max_memory() >> 20, grown_mb, said[-1]]))
"""
MOST_MB = 300
"""The budget of a small file is 64 MiB, of which a copy may be made; without one each of these takes more."""


def measured(path: Path) -> tuple[int, int, str]:
    """MiB that Arrow asked for at most, MiB that the process grew by, and the last thing that was said."""
    assert path.stat().st_size < 3_000_000, "small"
    run = [sys.executable, "-c", CHILD, str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=120)
    asked_mb, grown_mb, said = json.loads(done.stdout)
    return asked_mb, grown_mb, said


def stream(path: Path, table: pa.Table, compression: str | None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(path, table.schema, options=options) as out:
        out.write_table(table)
    return path


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_an_arrow_batch_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, compression: str) -> None:
    num_bytes = (700 << 20) if compression == "zstd" else (450 << 20)
    path = stream(
        tmp_path / "a.arrow", pa.table({"image": pa.array([bytes(num_bytes)], pa.large_binary())}), compression
    )
    asked_mb, grown_mb, said = measured(path)
    assert said.startswith("its batch of rows unpacks to more than")
    assert max(asked_mb, grown_mb) < MOST_MB


def test_an_arrow_batch_of_more_rows_than_bytes_is_refused(tmp_path: Path) -> None:
    nothing = pa.array([[]] * 4_000_000, pa.list_(pa.binary(), 0))
    asked_mb, grown_mb, said = measured(stream(tmp_path / "a.arrow", pa.table({"image": nothing}), "zstd"))
    assert said.startswith("more rows than bytes (4,000,000 rows in")
    assert max(asked_mb, grown_mb) < MOST_MB


def test_views_that_show_one_text_many_times_are_refused(tmp_path: Path) -> None:
    one = pa.array(["x" * 2_000_000], pa.string_view())
    _, view, text = one.buffers()
    views = pa.Array.from_buffers(pa.string_view(), 1000, [None, pa.py_buffer(view.to_pybytes()[:16] * 1000), text])
    asked_mb, grown_mb, said = measured(stream(tmp_path / "a.arrow", pa.table({"url": views}), None))
    assert said.startswith("texts of 2,000,000,000 bytes, 2,")
    assert max(asked_mb, grown_mb) < MOST_MB


BIG, TIMES = bytes(20 << 20), 40
KINDS = {"bytes": pa.binary(), "paths": pa.string(), "lists": pa.binary()}


def repeated(kind: str) -> pa.Array:
    """A large value, many times."""
    numbered = pa.DictionaryArray.from_arrays(pa.array([0] * TIMES), pa.array([BIG], KINDS[kind]))
    return pa.ListArray.from_arrays(pa.array([0, TIMES]), numbered) if kind == "lists" else numbered


@pytest.mark.parametrize("kind", KINDS)
def test_a_parquet_value_that_is_repeated_to_gigabytes_is_refused(tmp_path: Path, kind: str) -> None:
    path, table = tmp_path / "a.parquet", pa.table({"image": repeated(kind)})
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=64 << 20, write_statistics=False)
    asked_mb, grown_mb, said = measured(path)
    assert said.startswith("its row group unpacks to more than")
    assert max(asked_mb, grown_mb) < MOST_MB


@pytest.mark.parametrize("kind", KINDS)
def test_parquet_values_that_begin_with_the_one_before_are_refused_where_they_take_gigabytes(
    tmp_path: Path, kind: str
) -> None:
    path, values = tmp_path / "a.parquet", pa.array([BIG] * TIMES, KINDS[kind])
    column, leaf = values, "image"
    if kind == "lists":
        column, leaf = pa.ListArray.from_arrays(pa.array([0, TIMES]), values), "image.list.element"
    packed = {"use_dictionary": False, "column_encoding": {leaf: "DELTA_BYTE_ARRAY"}}
    pq.write_table(pa.table({"image": column}), path, compression="zstd", write_statistics=False, **packed)
    asked_mb, grown_mb, said = measured(path)
    assert said.startswith("lists of values that share" if kind == "lists" else "its row group unpacks to more than")
    assert max(asked_mb, grown_mb) < MOST_MB


def test_a_parquet_page_that_unpacks_to_gigabytes_is_refused_whatever_the_footer_says(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"image": pa.array([bytes(500 << 20)], pa.binary())})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    asked_mb, grown_mb, said = measured(path)
    assert said.startswith("its row group unpacks to more than")
    assert max(asked_mb, grown_mb) < MOST_MB


@pytest.mark.parametrize("codec", ["zstd", "lz4", "gzip", "snappy", "none"])
@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN", "dictionary"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_honest_images_are_read_from_pages_of_every_kind(
    tmp_path: Path, codec: str, encoding: str, version: str
) -> None:
    images = [png(i % 7, 9) for i in range(100)]
    path = tmp_path / "a.parquet"
    own = {} if encoding == "dictionary" else {"use_dictionary": False, "column_encoding": encoding}
    table = pa.table({"image": pa.array(images, pa.binary())})
    pq.write_table(table, path, compression=codec, data_page_version=version, data_page_size=500, **own)
    listed = list(parquet.scan(Location.parse(path.as_uri())))
    assert [read(entry.ref) for entry in listed] == images


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_honest_images_are_read_from_packed_batches(tmp_path: Path, compression: str | None, kind: pa.DataType) -> None:
    images = [png(i % 7, 9) for i in range(100)]
    path = stream(tmp_path / "a.arrow", pa.table({"image": pa.array(images, kind)}), compression)
    assert [arrow.read(entry.ref) for entry in arrow.scan(Location.parse(path.as_uri()))] == images


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_mutated_tables_are_listed_or_refused(tmp_path: Path, suffix: str) -> None:
    table = pa.table({"image": pa.array([png(i % 7, 9) for i in range(60)], pa.binary())})
    whole, rng, refused = tmp_path / f"whole.{suffix}", random.Random(suffix), 0
    if suffix == "arrow":
        stream(whole, table, "zstd")
    else:
        pq.write_table(table, whole, compression="zstd", row_group_size=20)
    content = whole.read_bytes()
    scan, read_one = (arrow.scan, arrow.read) if suffix == "arrow" else (parquet.scan, parquet.read)
    for number in range(150):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(changed) - 4)
            changed[place : place + rng.choice([1, 4])] = rng.choice([b"\xff", b"\0", b"\x80", b"\x7f"]) * 4
        (tmp_path / f"{number}.{suffix}").write_bytes(changed[: len(content)])
        path = tmp_path / f"{number}.{suffix}"
        try:
            refused += any(entry.error or not read_one(entry.ref) for entry in scan(Location.parse(path.as_uri())))
        except (ImageError, OSError):
            refused += 1
    assert refused > 0
