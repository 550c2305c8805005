"""Images in Parquet: every way a column may hold them; a row group is read once, not once for each image."""

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gc_core.images import ImageError, ImageRef, budget, parquet
from gc_core.images.columns import Column
from gc_core.images.load import content_key
from gc_core.images.load import read as read_anywhere
from gc_core.images.parquet import Kept
from gc_core.images.ref import Listed
from gc_core.io.location import Location
from support.image_files import as_folder, as_parquet, png, write_parquet

IMAGES = {f"class {i % 3}/{i}.png": png(i, 8 + i) for i in range(10)}
BYTES = list(IMAGES.values())


def scanned(path: Path) -> list[Listed]:
    return list(parquet.scan(Location.parse(path.as_uri())))


def only_error(path: Path) -> str:
    (entry,) = scanned(path)
    with pytest.raises(ImageError):
        parquet.read(entry.ref)
    return entry.error


def test_rows_of_the_hugging_face_struct_are_read_by_their_number_and_called_by_their_path(tmp_path: Path) -> None:
    listed = scanned(as_parquet(tmp_path / "a b.parquet", IMAGES, rows_per_group=3))
    assert [(entry.ref.member, entry.ref.offset, entry.error) for entry in listed] == [
        (name, row, "") for row, name in enumerate(IMAGES)
    ]
    assert [parquet.read(entry.ref) for entry in reversed(listed)] == BYTES[::-1]


COLUMNS = {
    "bytes": {"jpg": pa.array(BYTES, pa.binary())},
    "large bytes": {"anything": pa.array(BYTES, pa.large_binary())},
    "the column called image": {"mask": pa.array([b"no"] * 10, pa.binary()), "image": pa.array(BYTES, pa.binary())},
    "a struct without path": {"img": pa.array([{"bytes": content} for content in BYTES])},
    "bytes before urls": {"url": ["https://example.org"] * 10, "content": pa.array(BYTES, pa.binary())},
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("rows_per_group", [1, 4, 100])
def test_the_column_of_images_is_found_and_rows_without_a_name_have_their_number(
    tmp_path: Path, kind: str, rows_per_group: int
) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, COLUMNS[kind], rows_per_group)
    listed = scanned(path)
    assert [entry.ref.member for entry in listed] == [str(row) for row in range(10)]
    assert [parquet.read(entry.ref) for entry in listed] == BYTES


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = list(IMAGES)
BASE64 = [base64.b64encode(content).decode() for content in BYTES]
PATH_ONLY = [{"bytes": None, "path": name} for name in NAMES]
PAIRS = [[{"bytes": content, "path": None} for content in BYTES[i : i + 2]] for i in range(0, 10, 2)]
FORMS = {
    "path-only structs": {"image": pa.array(PATH_ONLY, STRUCT)},
    "structs of a path alone": {"image": [{"path": name} for name in NAMES]},
    "structs whose bytes have no type": {"image": pa.array([{"path": n, "bytes": None} for n in NAMES])},
    "bytes and paths mixed": {
        "image": pa.array([{"bytes": b if i % 2 else None, "path": NAMES[i]} for i, b in enumerate(BYTES)], STRUCT)
    },
    "lists of structs": {"images": pa.array(PAIRS, pa.list_(STRUCT))},
    "lists with none and empty ones": {"images": pa.array([None, [], PAIRS[0], *PAIRS[1:]], pa.list_(STRUCT))},
    "lists of bytes": {"images": pa.array([BYTES[:7], BYTES[7:]], pa.large_list(pa.binary()))},
    "lists of one length": {"image": pa.array([BYTES[:5], BYTES[5:]], pa.list_(pa.binary(), 5))},
    "lists of paths": {"images": [NAMES[:1], NAMES[1:]]},
    "base64": {"image": BASE64, "label": [1] * 10},
    "base64 as data URLs": {"image": [f"data:image/png;base64,{text}" for text in BASE64]},
    "paths": {"image": NAMES, "label": [1] * 10},
    "URL in capitals": {"URL": NAMES, "TEXT": ["x"] * 10},
    "file names": {"file_name": NAMES},
    "bytes under a name in capitals": {"IMAGE": BYTES, "mask": BYTES},
}


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("rows_per_group", [1, 3, 100])
def test_every_form_gives_the_images_of_the_folder_in_order(tmp_path: Path, kind: str, rows_per_group: int) -> None:
    as_folder(tmp_path, IMAGES)
    write_parquet(tmp_path / "a.parquet", FORMS[kind], rows_per_group)
    listed = scanned(tmp_path / "a.parquet")
    assert [entry.error for entry in listed] == [""] * 10
    assert [content_key(e.ref, read_anywhere(e.ref)) for e in listed] == [
        content_key(e.ref, b) for e, b in zip(listed, BYTES, strict=True)
    ]
    assert len({(entry.ref.url, entry.ref.member) for entry in listed}) == 10


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret.png", "a/../../secret.png", "file:///etc/passwd", "~/x.png"]
)
def test_a_path_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path, path: str) -> None:
    rows = pa.array([{"bytes": None, "path": path}], STRUCT)
    write_parquet(tmp_path / "a.parquet", {"image": rows})
    assert only_error(tmp_path / "a.parquet").startswith("no bytes in this row (and its path leads out of file://")


@pytest.mark.parametrize("pixels", [[[1, 2], [3, 4]], [[[0.5, 1.0]], [[0.5]]]])
def test_raw_pixels_are_one_row_that_says_what_to_do(tmp_path: Path, pixels: object) -> None:
    write_parquet(tmp_path / "a.parquet", {"label": [1, 2], "pixel_values": pixels})
    assert only_error(tmp_path / "a.parquet").startswith(
        "raw pixels (column pixel_values of lists of numbers; save each"
    )


def test_a_small_file_of_very_many_rows_is_one_row_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.nulls(3_000_000, STRUCT)}), path, compression="zstd")
    assert only_error(path).startswith("more rows than bytes (3,000,000 rows in")


def test_a_row_group_that_unpacks_to_far_more_than_is_stored_is_an_image_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "FEW_BYTES", 1 << 20)
    path = tmp_path / "a.parquet"
    write_parquet(path, {"image": pa.array([bytes(1 << 20)] * 900, pa.binary())}, 900)
    assert path.stat().st_size < 100_000
    with pytest.raises(ImageError, match=r"^its row group unpacks to more than [\d,]+ bytes \(write smaller ones"):
        parquet.read(scanned(path)[0].ref)


def test_a_row_without_bytes_is_an_image_error_and_its_path_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(1))
    rows = [{"bytes": png(0), "path": None}, {"bytes": None, "path": str(secret)}, None]
    write_parquet(tmp_path / "a.parquet", {"image": rows})
    listed = scanned(tmp_path / "a.parquet")
    assert [entry.ref.member for entry in listed] == ["0", str(secret), "2"]
    assert parquet.read(listed[0].ref) == png(0)
    for entry in listed[1:]:
        with pytest.raises(ImageError, match=r"^no bytes in this row \("):
            parquet.read(entry.ref)


@pytest.mark.parametrize("row", [-1, 10, 10**9])
def test_a_row_that_is_not_there_is_an_image_error(tmp_path: Path, row: int) -> None:
    path = as_parquet(tmp_path / "a.parquet", IMAGES)
    with pytest.raises(ImageError, match=rf"^no such row \({row} of 10\)$"):
        parquet.read(ImageRef(url=path.as_uri(), member="x", offset=row))


def test_a_column_of_urls_lists_those(tmp_path: Path) -> None:
    locations = [str(tmp_path / "a.png"), "s3://bucket/b.jpg", "below/c ü.png", "gs://bucket/d.jpg", "", None]
    write_parquet(tmp_path / "urls.parquet", {"url": locations, "text": ["x"] * 6})
    listed = scanned(tmp_path / "urls.parquet")
    assert [entry.ref.url for entry in listed[:3]] == [
        f"{tmp_path.as_uri()}/a.png",
        "s3://bucket/b.jpg",
        f"{tmp_path.as_uri()}/below/c%20%C3%BC.png",
    ]
    assert [entry.error[:14] for entry in listed] == ["", "", ""] + ["not a location"] * 3


def test_a_table_of_something_else_is_one_row_with_its_reason(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"label": [1, 2], "image": [1, 2], "url": [1, 2]})
    assert only_error(tmp_path / "a.parquet").startswith("no column of images (found label, image, url; expected")


def test_several_columns_that_could_be_meant_are_one_row_with_its_reason(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"left": [b"x"], "right": [b"y"]})
    assert only_error(tmp_path / "a.parquet").startswith("several columns of bytes (left, right; name the one")


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PAR1", b"PAR1" * 5])
def test_what_is_no_parquet_is_one_row_with_its_reason(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert only_error(tmp_path / "a.parquet").startswith("damaged Parquet file (")


def test_a_cut_file_is_one_row_with_its_reason(tmp_path: Path) -> None:
    path = as_parquet(tmp_path / "a.parquet", IMAGES)
    path.write_bytes(path.read_bytes()[:-9])
    assert only_error(path).startswith("damaged Parquet file (")


def test_a_file_out_of_reach_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.parquet: not found"):
        scanned(tmp_path / "gone.parquet")


def test_a_row_group_is_read_once_for_all_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = scanned(as_parquet(tmp_path / "a.parquet", IMAGES, rows_per_group=4))
    groups: list[int] = []
    read_group = parquet.read_group

    def counted(url: str, group: int, column: Column) -> pa.ChunkedArray:
        groups.append(group)
        return read_group(Location.parse(url), group, column)

    monkeypatch.setattr(parquet, "read_group", counted)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda entry: parquet.read(entry.ref), listed * 2)) == BYTES * 2
    assert sorted(groups) == [0, 1, 2]


def numbers(count: int) -> pa.ChunkedArray:
    """Of 8 bytes each."""
    return pa.chunked_array([pa.array(range(count), pa.int64())])


def test_what_was_asked_for_last_is_kept_up_to_a_number_of_bytes() -> None:
    kept, made = Kept(100), []

    def ask(key: str, count: int = 5) -> None:
        assert len(kept.get(key, lambda: made.append(key) or numbers(count))) == count

    for key in "abacab":
        ask(key)
    assert "".join(made) == "abcb"  # a was asked for again before c pushed the oldest, b, out
    ask("large", 1000)
    ask("large", 1000)
    ask("a")
    assert made[4:] == ["large", "a"]


def test_a_value_that_threads_want_at_once_is_made_once_and_a_failure_is_told_to_all() -> None:
    kept, made, start = Kept(100), [], threading.Barrier(8)

    def ask(make: object) -> str:
        start.wait()
        try:
            return str(len(kept.get("a", make)))
        except OSError as error:
            return str(error)

    def fails() -> pa.ChunkedArray:
        made.append("failed")
        raise OSError("no route")

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, [fails] * 8)) == {"no route"}
        failures = len(made)
        assert set(threads.map(ask, [lambda: made.append("made") or numbers(3)] * 8)) == {"3"}
    assert failures >= 1
    assert made[failures:] == ["made"]
