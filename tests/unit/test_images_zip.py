"""Images in zip files: read where they stand, damage and bombs are bad rows, and the rest is used."""

import zipfile
from pathlib import Path

import pytest

from gc_core.images import ImageError, ImageRef, budget, zip
from gc_core.images.ref import Listed
from gc_core.io.location import Location
from support.image_files import as_zip, png

IMAGES = {f"class {i % 3}/{i}.png": png(i, 8 + i) for i in range(10)}


def scanned(path: Path) -> list[Listed]:
    return list(zip.scan(Location.parse(path.as_uri())))


def test_stored_and_deflated_members_give_their_bytes(tmp_path: Path) -> None:
    listed = scanned(as_zip(tmp_path / "a b.zip", IMAGES | {"notes.txt": b"no"}))
    assert [(entry.ref.member, entry.error) for entry in listed] == [(name, "") for name in IMAGES]
    assert [zip.read(entry.ref) for entry in listed] == list(IMAGES.values())


@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n"])
def test_a_zip_behind_something_else_and_with_streamed_members_is_read(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.write(before)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in IMAGES.items():
                with archive.open(name, "w", force_zip64=True) as member:
                    member.write(content)
    assert [zip.read(entry.ref) for entry in scanned(path)] == list(IMAGES.values())


def test_joined_zips_say_that_the_first_is_not_listed(tmp_path: Path) -> None:
    one, two = (as_zip(tmp_path / f"{n}.zip", {f"{n}.png": png(n)}).read_bytes() for n in (1, 2))
    (tmp_path / "joined.zip").write_bytes(one + two)
    first, second = scanned(tmp_path / "joined.zip")
    assert first.error.startswith("another archive stands before the last one")
    assert zip.read(second.ref) == png(2)


def test_a_bomb_is_one_bad_row_and_a_lie_about_its_size_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "FEW_BYTES", 1 << 16)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(50 << 20))
        archive.writestr("good.png", png(1))
    bomb, good = scanned(path)
    assert bomb.error.startswith("unpacks to far more than an image does (")
    with pytest.raises(ImageError, match="unpacks to far more"):
        zip.read(bomb.ref)
    assert zip.read(good.ref) == png(1)


def test_an_encrypted_member_and_an_odd_method_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("b.png", png(2), zipfile.ZIP_LZMA)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert [entry.error.partition(" (")[0] for entry in scanned(path)] == [
        "encrypted in the archive",
        "packed by method 14 in the archive",
    ]


def test_a_name_that_is_not_utf_8_costs_nothing(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"aü.png": png(1), "b.png": png(2)})
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xfe"))
    assert [zip.read(entry.ref) for entry in scanned(path)] == [png(1), png(2)]


@pytest.mark.parametrize("size", [0, 10, 300])
def test_a_cut_archive_is_one_bad_row(tmp_path: Path, size: int) -> None:
    path = as_zip(tmp_path / "a.zip", IMAGES)
    path.write_bytes(path.read_bytes()[:size])
    (entry,) = scanned(path)
    assert entry.error.startswith("damaged archive (")


def test_every_flipped_byte_is_an_image_error_or_changes_no_image(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"a.png": png(1), "b.png": png(2)})
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        for entry in scanned(path):
            try:
                assert entry.error or zip.read(entry.ref) in (png(1), png(2))
            except ImageError:
                continue


def test_a_member_that_is_not_there_is_an_image_error(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", IMAGES)
    with pytest.raises(ImageError, match="no member"):
        zip.read(ImageRef(url=path.as_uri(), member="x", offset=5, size=10))
