"""The index in parts: every bad image is marked with its reason, and only what is not known is looked at again."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core import manifest
from gc_core.images import sources
from gc_core.images.ref import Listed, listed_in
from gc_core.images.sources import File, find
from gc_core.io.location import Location
from gc_core.manifest import rejections, resumable_index
from gc_core.manifest.resumable_index import UNREAD, InspectionSettings, PartReport
from support.image_files import as_folder, as_parquet, as_tar, encoded, png

LENS = InspectionSettings(resize_px=32, window_px=9)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


NOISE = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
BAD = {
    "bomb.png": (bomb(), "bad", "more than 200 megapixels"),
    "cut.jpg": (encoded(NOISE, "JPEG")[:-200], "bad", "damaged image"),
    "empty.jpg": (b"", "bad", "empty file"),
    "page.jpg": (
        b"<!DOCTYPE html><html><body>404",
        "bad",
        "not a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, JPEG 2000 or PNM image",
    ),
    "small.png": (png(1, 8), "small", "smaller than the field"),
}
FILES = {name: content for name, (content, _, _) in BAD.items()} | {"good.png": png(2, 9), "well.jpg": encoded(NOISE)}
FORMS = {"folder": as_folder, "a.tar": as_tar, "a.parquet": as_parquet}


def listed_at(location: Path) -> list[Listed]:
    found = find(str(location), stimulus_px=1, max_stimuli=1)
    return listed_in(pa.concat_tables([found.listing, *(sources.scan(file) for file in found.containers)]))


def kept_at(tmp_path: Path) -> Location:
    return Location.parse(tmp_path) / "index"


@pytest.mark.parametrize("form", FORMS)
def test_every_bad_image_is_marked_with_its_reason_and_the_good_ones_are_used(tmp_path: Path, form: str) -> None:
    listed = listed_at(FORMS[form](tmp_path / form, FILES))
    report = resumable_index.look_at_part(kept_at(tmp_path), 0, listed, LENS)
    records = manifest.records_in(resumable_index.collect(kept_at(tmp_path), 1))
    found = {record.ref.name: (record.status, rejections.kind_of(record.error)) for record in records}
    expected = {name: (status, kind) for name, (_, status, kind) in BAD.items()}
    assert found == expected | {"good.png": ("ok", ""), "well.jpg": ("ok", "")}
    assert {kind: reason.count for kind, reason in report.bad.items()} == {
        kind: 1 for _, status, kind in BAD.values() if status == "bad"
    }
    assert (report.num_images, report.num_unread) == (7, 0)
    assert {record.ref.name: record.ref.size for record in records if record.ref.name in FILES} == {
        name: len(content) if content or form != "a.parquet" else -1 for name, content in FILES.items()
    }


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are inspected from now on."""
    names: list[str] = []
    inspect = resumable_index.inspect

    def count(ref, settings):
        names.append(ref.name)
        return inspect(ref, settings)

    monkeypatch.setattr(resumable_index, "inspect", count)
    return names


def test_a_part_that_is_there_is_looked_at_again_only_where_it_was_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = as_folder(tmp_path / "images", FILES)
    first = resumable_index.look_at_part(kept_at(tmp_path), 0, listed_at(folder), LENS)
    names = counted(monkeypatch)
    assert resumable_index.look_at_part(kept_at(tmp_path), 0, listed_at(folder), LENS) == first
    assert sorted(names) == ["bomb.png", "cut.jpg", "empty.jpg", "page.jpg"]
    for name in names:
        (folder / name).write_bytes(png(7, 20))
    names.clear()
    mended = resumable_index.look_at_part(kept_at(tmp_path), 0, listed_at(folder), LENS)
    assert len(names) == 4
    assert mended.bad == {}
    names.clear()
    resumable_index.look_at_part(kept_at(tmp_path), 0, listed_at(folder), LENS)
    assert names == []


@pytest.mark.parametrize(
    ("change", "looked_at"),
    [("lens", ["0", "1", "2", "3"]), ("another image", ["2a"]), ("another size", ["2"]), ("one less", [])],
)
def test_what_was_kept_of_another_image_or_another_scale_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, looked_at: list[str]
) -> None:
    folder, lens = as_folder(tmp_path / "images", {f"{i}.png": png(i, 9) for i in range(4)}), LENS
    resumable_index.look_at_part(kept_at(tmp_path), 0, listed_at(folder), lens)
    if change == "lens":
        lens = InspectionSettings(resize_px=16, window_px=9)
    elif change == "another image":
        (folder / "2.png").rename(folder / "2a.png")
    elif change == "another size":
        (folder / "2.png").write_bytes(png(2, 30))
    else:
        (folder / "2.png").unlink()
    names, listed = counted(monkeypatch), listed_at(folder)
    assert resumable_index.look_at_part(kept_at(tmp_path), 0, listed, lens).num_images == len(listed)
    assert sorted(names) == [f"{name}.png" for name in looked_at]
    assert manifest.refs_of(resumable_index.collect(kept_at(tmp_path), 1)) == [entry.ref for entry in listed]


def test_what_cannot_be_fetched_is_left_for_another_attempt_and_then_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, inspect, down = (
        listed_at(as_folder(tmp_path / "p", {"a.png": png(1, 9), "b.png": png(2, 9)})),
        resumable_index.inspect,
        [True],
    )

    def flaky(ref, settings):
        if down[0] and ref.name == "b.png":
            raise OSError("no route to host\nand a page of details")
        return inspect(ref, settings)

    monkeypatch.setattr(resumable_index, "inspect", flaky)
    report = resumable_index.look_at_part(kept_at(tmp_path), 0, listed, LENS)
    assert report.num_unread == 1
    assert report.bad["cannot be read"].example.endswith("b.png (no route to host)")
    given_up = manifest.records_in(resumable_index.collect(kept_at(tmp_path), 1))
    assert [(record.status, record.error) for record in given_up] == [
        ("ok", ""),
        ("bad", "cannot be read (no route to host)"),
    ]
    down[0] = False
    assert resumable_index.look_at_part(kept_at(tmp_path), 0, listed, LENS) == PartReport(
        part=0, num_images=2, num_unread=0, bad={}
    )
    assert UNREAD not in resumable_index.collect(kept_at(tmp_path), 1)["status"].to_pylist()


def test_a_reason_of_the_listing_is_the_record_s(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("gs://bucket/a.jpg\n")
    resumable_index.look_at_part(kept_at(tmp_path), 0, listed_at(tmp_path / "a.txt"), LENS)
    (record,) = manifest.records_in(resumable_index.collect(kept_at(tmp_path), 1))
    assert (record.status, rejections.kind_of(record.error)) == ("bad", "not a location")


def test_parts_are_collected_in_the_order_of_the_listing_and_a_missing_one_is_told(tmp_path: Path) -> None:
    listed = listed_at(as_folder(tmp_path / "p", {f"{i}.png": png(i, 9) for i in range(6)}))
    for part in (2, 0):
        resumable_index.look_at_part(kept_at(tmp_path), part, listed[2 * part : 2 * part + 2], LENS)
    with pytest.raises(OSError, match=r"/index: part 1 is gone; run the same command again$"):
        resumable_index.collect(kept_at(tmp_path), 3)
    resumable_index.look_at_part(kept_at(tmp_path), 1, listed[2:4], LENS)
    table = resumable_index.collect(kept_at(tmp_path), 3)
    assert manifest.refs_of(table) == [entry.ref for entry in listed]
    assert manifest.complete(table, {})["image"].to_pylist() == list(range(6))
    resumable_index.clear(kept_at(tmp_path))
    assert not (tmp_path / "index").exists()


def test_a_scanned_file_is_not_scanned_again_unless_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_tar(tmp_path / "a.tar", {"a.png": png(1)})
    files: list[File] = []
    scan = sources.scan
    monkeypatch.setattr(resumable_index.sources, "scan", lambda file: files.append(file) or scan(file))

    def scanned() -> pa.Table:
        return resumable_index.scan(
            kept_at(tmp_path), File(kind="tar", location=Location.parse(path), size=path.stat().st_size)
        )

    assert scanned().equals(scanned())
    assert len(files) == 1
    as_tar(path, {f"{i}.png": png(1) for i in range(30)})
    assert len(scanned()) == 30
    assert len(files) == 2


def test_a_file_that_cannot_be_scanned_after_all_is_one_bad_row(tmp_path: Path) -> None:
    file = File(kind="tar", location=Location.parse(tmp_path / "a.tar"), size=10)
    (entry,) = listed_in(resumable_index.unreadable(file, OSError("no route")))
    assert (entry.ref.url, entry.error) == (file.location.url, "cannot be read (no route)")


@given(st.integers(0, 3_000_000))
def test_parts_cover_the_listing_once_in_order_and_have_a_sensible_size(num_images: int) -> None:
    parts = resumable_index.parts(num_images)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts)][: len(parts)]
    assert sum(len(part) for part in parts) == num_images
    assert all(32 <= len(part) <= 1024 for part in parts[:-1])
    if num_images > 2048:
        assert len(parts) >= 60
