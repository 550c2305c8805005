"""Images in tar files: read by offset exactly as they were put in; what has no bytes in one place is told, not
skipped."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gc_core.images import ImageError, ImageRef, tar
from gc_core.images.ref import Listed
from gc_core.io.location import Location
from support.image_files import add, as_tar, png

IMAGES = {
    "a.png": png(1),
    "deep/er/b.JPEG": png(2, 300),
    "x" * 150 + "/" + "y" * 120 + ".png": png(3),
    "ü ñ #50%.webp": png(4),
    "empty.png": b"",
    "../../outside.png": png(5),
    "/etc/absolute.png": png(6),
}
OTHERS = {"a.cls": b"7", "a.json": b"{}", "notes.txt": b"text", "png": b""}


def scanned(path: Path) -> list[Listed]:
    return list(tar.scan(Location.parse(path.as_uri())))


def read_all(path: Path) -> dict[str, bytes]:
    listed = scanned(path)
    assert not any(entry.error for entry in listed)
    return {entry.ref.member: tar.read(entry.ref) for entry in listed}


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_members_are_read_in_their_order_as_they_were_put_in(tmp_path: Path, tar_format: int) -> None:
    path = as_tar(tmp_path / "a b.tar", OTHERS | IMAGES | {"z.png": png(9)}, format=tar_format)
    found = read_all(path)
    assert list(found) == [*IMAGES, "z.png"]
    assert found == IMAGES | {"z.png": png(9)}


def test_the_tar_program_s_own_archives_are_read(tmp_path: Path) -> None:
    for name, content in {"one.png": png(1), "long" * 30 + ".png": png(2)}.items():
        (tmp_path / name).write_bytes(content)
    subprocess.run(["tar", "cf", "all.tar", *sorted(p.name for p in tmp_path.iterdir())], cwd=tmp_path, check=True)
    assert sorted(read_all(tmp_path / "all.tar").values()) == sorted([png(1), png(2)])


def test_nothing_is_written_and_no_name_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = as_tar(tmp_path / "inner/a.tar", IMAGES)
    before = sorted(tmp_path.rglob("*"))
    read_all(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_tars_inside_a_tar_are_looked_into_once(tmp_path: Path) -> None:
    """ImageNet's training set: a tar of a thousand tars. Deeper ones are no images."""
    innermost = as_tar(tmp_path / "2.tar", {"deepest.png": png(9)}).read_bytes()
    inner = as_tar(tmp_path / "1.tar", {"b.png": png(2), "2.tar": innermost}).read_bytes()
    outer = as_tar(tmp_path / "0.tar", {"a.png": png(1), "n01.tar": inner, "c.png": png(3)})
    assert read_all(outer) == {"a.png": png(1), "n01.tar/b.png": png(2), "c.png": png(3)}


def test_a_link_is_listed_with_its_reason(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "a.png", png(1))
        for name, kind in (("soft.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE), ("dev.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else "a.png"
            archive.addfile(member)
    assert [(entry.ref.member, entry.error[:19]) for entry in scanned(tmp_path / "a.tar")] == [
        ("a.png", ""),
        ("soft.png", "not a regular file "),
        ("hard.png", "not a regular file "),
        ("dev.png", "not a regular file "),
    ]


@pytest.mark.parametrize("tar_format", ["gnu", "posix"])
def test_a_sparse_file_is_listed_with_its_reason_and_hides_no_other(tmp_path: Path, tar_format: str) -> None:
    with (tmp_path / "holes.png").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"data")
    (tmp_path / "z.png").write_bytes(png(7))
    command = ["tar", "cf", "a.tar", "--sparse", f"--format={tar_format}", "holes.png", "z.png"]
    subprocess.run(command, cwd=tmp_path, check=True)
    sparse, plain = scanned(tmp_path / "a.tar")
    assert sparse.error.startswith("a sparse file")
    assert tar.read(plain.ref) == png(7)


def test_every_cut_of_an_archive_is_told(tmp_path: Path) -> None:
    """Wherever it ends, images that are whole are read, and one row says that something is missing."""
    whole = as_tar(tmp_path / "whole.tar", {"a.png": png(1), "b.png": png(2)}).read_bytes()
    end_mark = whole.index(png(2)) // 512 * 512 + 512
    cut = tmp_path / "cut.tar"
    for length in [*range(0, end_mark + 1, 100), end_mark]:
        cut.write_bytes(whole[:length])
        listed = scanned(cut)
        assert listed[-1].error
        for entry in listed:
            if not entry.error:
                assert tar.read(entry.ref) in (png(1), png(2))
    cut.write_bytes(whole[: end_mark + 512])
    assert not any(entry.error for entry in scanned(cut))


def test_a_damaged_header_does_not_pass_for_the_end(tmp_path: Path) -> None:
    path = as_tar(tmp_path / "a.tar", {"a.png": png(1), "b.png": png(2), "c.png": png(3)})
    content = bytearray(path.read_bytes())
    content[content.index(b"b.png") + 3] ^= 1
    path.write_bytes(content)
    assert [(entry.ref.member, entry.error) for entry in scanned(path)] == [
        ("a.png", ""),
        ("(the rest of the archive)", "damaged archive (bad checksum)"),
    ]


@pytest.mark.parametrize("content", [b"", b"<html>", b"\0" * 100, b"x" * 5000])
def test_what_is_no_archive_is_one_row_with_its_reason(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    (only,) = scanned(tmp_path / "a.tar")
    assert only.error.startswith("damaged archive (")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_archive_says_what_to_do(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as archive:
        add(archive, "a.png", png(1))
    (only,) = scanned(tmp_path / "a.tar")
    assert only.error.startswith("a compressed archive (")
    assert only.error.endswith("decompress it)")


def test_an_archive_without_members_has_no_images(tmp_path: Path) -> None:
    assert scanned(as_tar(tmp_path / "a.tar", {})) == []


def test_an_archive_that_shrank_is_an_image_error(tmp_path: Path) -> None:
    path = as_tar(tmp_path / "a.tar", {"a.png": png(1)})
    (entry,) = scanned(path)
    path.write_bytes(path.read_bytes()[:520])
    with pytest.raises(ImageError, match=r"^the archive is cut short \(8 of \d+ bytes are there\)$"):
        tar.read(entry.ref)


def test_a_row_without_a_place_is_an_image_error(tmp_path: Path) -> None:
    path = as_tar(tmp_path / "a.tar", {"a.png": png(1)})
    with pytest.raises(ImageError):
        tar.read(ImageRef(url=path.as_uri(), member="(the rest of the archive)", offset=-1))


def test_an_archive_out_of_reach_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.tar: not found"):
        scanned(tmp_path / "gone.tar")


def small_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "ü" * 60 + ".png", png(1))
        add(archive, "b.png", png(2))
    return buffer.getvalue()[:4608]


ARCHIVE = small_archive()


@given(st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=150)
def test_any_damage_is_images_and_reasons_and_no_other_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(ARCHIVE)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    path.write_bytes(content)
    for entry in scanned(path):
        if not entry.error:
            assert len(tar.read(entry.ref)) == entry.ref.size
