"""Small files that would take minutes are refused by what they say of themselves, before the work is done; and honest
ones beside them are not. Nothing here is timed: the work that must not be begun is made to fail."""

import contextlib
import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from gc_core.images import ImageError, budget, decode, ranges, sources, tar, zip
from gc_core.images.ref import ImageRef, listed_in
from gc_core.io import objects
from gc_core.io.location import Location


def encoded(form: str, side: int = 40, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((side, side), 50).save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(count: int, kind: bytes) -> bytes:
    whole = encoded("PNG")
    return whole[:33] + chunk(kind, b"") * count + whole[33:]


def with_segments(count: int, segment: bytes) -> bytes:
    whole = encoded("JPEG")
    return whole[:2] + segment * count + whole[2:]


def with_blocks(count: int) -> bytes:
    whole = encoded("GIF")
    assert whole[10] & 128, "a palette"
    place = 13 + (3 << (whole[10] & 7) + 1)
    return whole[:place] + b"\x21\xfe\x01a\0" * count + whole[place:]


LONG = {
    "chunks beside pixels": (lambda count: with_chunks(count, b"prVt"), 9_000, 11_000, "chunks in a PNG"),
    "chunks of pixels": (lambda count: with_chunks(count, b"IDAT"), 9_000, 210_000, "chunks in a PNG"),
    "segments": (lambda count: with_segments(count, b"\xff\xfe\0\2"), 5_000, 21_000, "segments in a JPEG"),
    "fill bytes": (lambda count: with_segments(count, b"\xff"), 900, 2_000, "bytes between the segments"),
    "blocks": (with_blocks, 5_000, 60_000, "blocks before the image"),
    "numbers as text": (lambda side: text(side), 40, 1200, "bytes of text"),
}


def text(side: int) -> bytes:
    return b"P2\n%d %d\n255\n" % (side, side) + b"127 " * side**2


@pytest.mark.parametrize("kind", LONG)
def test_files_of_very_many_pieces_are_refused_before_they_are_opened(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, few, many, said = LONG[kind]
    assert decode(make(few), 256).shape == (3, 40, 40), "the control"
    monkeypatch.setattr(Image, "open", lambda *args, **options: pytest.fail("it was opened"))
    with pytest.raises(ImageError, match=said):
        decode(make(many), 256)


def test_scans_count_as_often_as_the_image_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    small = encoded("JPEG", 16)
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", lambda self: pytest.fail("it was unpacked"))
    place = small.index(b"\xff\xc0")
    large = small[: place + 5] + struct.pack(">HH", 9_700, 9_900) + small[place + 9 : -2]
    with pytest.raises(ImageError, match=r"^more than 2500 megapixels \(41 scans of 9900 x 9700 px\)$"):
        decode(large + b"\xff\xda\0\2" * 40 + b"\xff\xd9", 256)


@pytest.mark.parametrize("scans", [1, 2])
def test_a_plain_jpeg_of_several_scans_is_decoded_alone_for_it_is_held_whole(
    scans: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libjpeg keeps the coefficients of all pixels as soon as they come in more than one scan."""
    monkeypatch.setitem(decode.__globals__, "LARGE_PIXELS", 100)
    held: list[bool] = []
    lock, load = decode.__globals__["_LARGE"], JpegImagePlugin.JpegImageFile.load
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", lambda self: held.append(lock.locked()) or load(self))
    content = encoded("JPEG")
    if scans == 2:
        content = content[:-2] + content[content.index(b"\xff\xda") :]
    with contextlib.suppress(ImageError):  # a second scan of grey is one too many
        decode(content, 256)
    assert held[0] is (scans == 2)


def tiff(tile: int) -> bytes:
    """A tiled TIFF of 64 x 64 grey pixels, in one tile."""
    pixels = bytes(64 * 64)
    entries = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1), (322, tile), (323, tile)]
    entries += [(324, 8), (325, len(pixels))]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + bytes(4)


def test_a_tile_that_is_far_larger_than_its_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode(tiff(64), 256).shape == (3, 64, 64), "the control"
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", lambda self: pytest.fail("it was unpacked"))
    with pytest.raises(ImageError, match=r"^more than 10 megapixels \(tiles of 50000 x 50000 px in an image of 64 x"):
        decode(tiff(50_000), 256)


def pax(kind: bytes, attributes: list[tuple[str, str]]) -> bytes:
    return tarfile.TarInfo._create_pax_generic_header(dict(attributes), kind, "utf-8")


def image_member(name: str) -> bytes:
    content = encoded("PNG")
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


@pytest.mark.parametrize("kind", [b"g", b"x"])
def test_attributes_that_every_member_would_be_compared_with_are_few(tmp_path: Path, kind: bytes) -> None:
    for count, errors in ((900, [False]), (1100, [True])):
        attributes = [(f"key{number}", "v") for number in range(count)]
        (tmp_path / "a.tar").write_bytes(pax(kind, attributes) + image_member("a.png") + bytes(1024))
        found = list(tar.scan(Location.parse((tmp_path / "a.tar").as_uri())))
        assert [bool(each.error) for each in found] == errors
    assert found[0].error == "damaged archive (more than 1,000 attributes in a header)"


def test_global_attributes_add_up(tmp_path: Path) -> None:
    parts = [pax(b"g", [(f"key{part} {number}", "v") for number in range(500)]) for part in range(3)]
    (tmp_path / "a.tar").write_bytes(b"".join(parts) + image_member("a.png") + bytes(1024))
    (found,) = tar.scan(Location.parse((tmp_path / "a.tar").as_uri()))
    assert found.error == "damaged archive (more than 1,000 attributes in a header)"


def test_a_name_of_a_megabyte_is_told_by_its_beginning(tmp_path: Path) -> None:
    content = pax(b"x", [("path", "a" * 1_000_000 + ".png")]) + image_member("a.png") + image_member("b.png")
    (tmp_path / "a.tar").write_bytes(content + bytes(1024))
    (file,) = sources.find(str(tmp_path / "a.tar"), stimulus_px=59, max_stimuli=1).containers
    long, good = listed_in(sources.scan(file))
    assert long.error == "a name of 1,000,004 characters (expected at most 4,096)"
    assert len(long.ref.member) < 100
    assert (good.ref.member, good.error) == ("b.png", "")


def test_sizes_are_looked_at_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = budget.MOST_IMAGE_BYTES + 1
    with (tmp_path / "a.png").open("wb") as sparse:
        sparse.truncate(huge)
    url = (tmp_path / "a.png").as_uri()
    for module in (tar, zip):
        monkeypatch.setattr(module, "read_range", lambda *args: pytest.fail("it was read"))
        with pytest.raises(ImageError, match=r"^more than 1,073,741,824 bytes \(1,073,741,825 in one image's file\)$"):
            module.read(ImageRef(url=url, member="a.png", size=huge))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
        with pytest.raises(ImageError, match=r"^more than 1,073,741,824 bytes"):
            ranges.read_whole(Location.parse(url))


def test_an_object_s_size_is_heard_before_its_bytes_are_read(tmp_path: Path) -> None:
    objects.write(Location.parse(tmp_path), "a", bytes(10))
    heard: list[int] = []
    assert objects.read(Location.parse(tmp_path), "a", check_bytes=heard.append) == bytes(10)
    assert heard == [10]

    def refuse(num_bytes: int) -> None:
        raise ImageError(f"{num_bytes} are too many")

    with pytest.raises(ImageError, match=r"^10 are too many$"):
        objects.read(Location.parse(tmp_path), "a", check_bytes=refuse)


def test_a_list_of_a_gigabyte_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_IMAGE_BYTES", 10)
    (tmp_path / "list.txt").write_text("a.png\n" * 9)
    (file,) = sources.find(str(tmp_path / "list.txt"), stimulus_px=59, max_stimuli=1).containers
    (entry,) = listed_in(sources.scan(file))
    assert entry.error.startswith("more than 10 bytes")


def test_pixels_are_those_that_pillow_gives() -> None:
    """The control of all above: what is honest is decoded as it was."""
    for form in ("PNG", "JPEG", "GIF", "TIFF", "PPM"):
        content = encoded(form)
        with Image.open(io.BytesIO(content)) as image:
            expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        np.testing.assert_array_equal(decode(content, 40), expected)
