"""Parts of files: the very bytes, on a disk and on object storage, with few requests."""

from pathlib import Path

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.images import ranges
from gc_core.io.location import Location

CONTENT = bytes(range(256)) * 20
WHERE = ["disk", "object store"]


@pytest.fixture(params=WHERE)
def url(request: pytest.FixtureRequest, tmp_path: Path, bucket: Path) -> str:
    """A file of 5,120 bytes."""
    folder = tmp_path if request.param == "disk" else bucket
    (folder / "a b.bin").write_bytes(CONTENT)
    return f"{tmp_path.as_uri()}/a%20b.bin" if request.param == "disk" else "s3://bucket/a%20b.bin"


@pytest.mark.parametrize(("offset", "size"), [(0, 5120), (0, 0), (100, 0), (5119, 1), (77, 1000)])
def test_a_range_is_those_bytes(url: str, offset: int, size: int) -> None:
    assert ranges.read_range(Location.parse(url), offset, size) == CONTENT[offset : offset + size]


def test_a_range_beyond_the_end_is_what_is_there(url: str) -> None:
    assert ranges.read_range(Location.parse(url), 5000, 1000) == CONTENT[5000:]


def test_a_file_that_is_gone_is_file_not_found(url: str) -> None:
    gone = Location.parse(url.replace("a%20b", "gone"))
    for ask in (
        lambda: ranges.read_range(Location.parse(gone), 0, 1),
        lambda: ranges.open_ranges(Location.parse(gone)),
    ):
        with pytest.raises(FileNotFoundError, match=r"gone\.bin: not found"):
            ask()


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(-6000, 6000), st.integers(0, 3000)), max_size=20))
def test_a_file_of_ranges_is_read_like_any_file(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.bin"
    path.write_bytes(CONTENT)
    with (
        path.open("rb") as plain,
        ranges.io.BufferedReader(ranges.RangeFile(Location.parse(path.as_uri()), 5120), 512) as file,
    ):
        for whence, offset, count in moves:
            base = {0: 0, 1: plain.tell(), 2: 5120}[whence]
            if base + offset < 0:
                continue
            assert file.seek(offset, whence) == plain.seek(offset, whence)
            assert file.read(count) == plain.read(count)


def test_on_object_storage_one_request_brings_a_megabyte(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bucket / "large.bin").write_bytes(bytes(3 << 20))
    requests: list[int] = []
    get_range = obstore.get_range

    def counted(store: object, path: str, *, start: int, length: int) -> obstore.Bytes:
        requests.append(length)
        return get_range(store, path, start=start, length=length)

    monkeypatch.setattr(ranges.obstore, "get_range", counted)
    with ranges.open_ranges(Location.parse("s3://bucket/large.bin")) as file:
        for header in range(0, 3 << 20, 100_000):
            file.seek(header)
            file.read(512)
    assert len(requests) <= 5


def test_files_are_told_in_batches_as_they_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "LIST_BATCH", 2)
    for i in range(5):
        (tmp_path / f"{i}").mkdir()
        (tmp_path / f"{i}/ü.png").write_bytes(bytes(i))
    batches = list(ranges.each_file(Location.parse(tmp_path)))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    found = sorted((each.name, each.size, each.error) for batch in batches for each in batch)
    assert found == [(f"{i}/ü.png", i, "") for i in range(5)]
