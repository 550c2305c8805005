"""Decoding: every kind of image becomes upright RGB at working scale; all else is an ImageError with its reason.

Letters: C image channels (3), H W pixels.
"""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from gc_core.images import ImageError, decode
from gc_core.images.decode import MAX_PIXELS, resize_settings

ORIENTATION = 0x0112


def scene(height: int = 24, width: int = 36) -> NDArray[np.uint8]:
    """(H, W, 3): smooth, so that lossy files stay close, and different in each corner."""
    down, right = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    colours = (40 + 180 * right + 0 * down, 40 + 180 * down + 0 * right, 200 - 150 * down * right)
    return np.stack(colours, axis=-1).round().astype(np.uint8)


def encode(pixels: NDArray[np.uint8] | NDArray[np.uint16] | Image.Image, file_format: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decoded(content: bytes, resize_px: int = 1000) -> NDArray[np.uint8]:
    """(H, W, 3), as people index images."""
    pixels_CHW = decode(content, resize_px)
    assert pixels_CHW.dtype == np.uint8
    assert pixels_CHW.shape[0] == 3
    assert pixels_CHW.flags.c_contiguous
    return pixels_CHW.transpose(1, 2, 0)


def far_from(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_lossless_files_give_their_very_pixels(file_format: str, options: dict[str, object]) -> None:
    np.testing.assert_array_equal(decoded(encode(scene(), file_format, **options)), scene())


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("GIF", {}),
    ],
)
def test_lossy_files_give_nearly_their_pixels(file_format: str, options: dict[str, object]) -> None:
    found = decoded(encode(scene(), file_format, **options))
    assert far_from(found, scene()) < 30
    assert far_from(found[:, ::-1], scene()) > 100


def test_grey_becomes_three_equal_channels() -> None:
    grey = scene()[..., 0]
    np.testing.assert_array_equal(decoded(encode(grey, "PNG")), np.repeat(grey[..., None], 3, axis=2))


def test_black_and_white_becomes_0_and_255() -> None:
    bits = scene()[..., 0] > 128
    np.testing.assert_array_equal(decoded(encode(Image.fromarray(bits), "PNG"))[..., 1], 255 * bits)


def test_transparency_lies_on_white() -> None:
    alpha = np.zeros((24, 36), np.uint8)
    alpha[:, :12], alpha[:, 12:24] = 255, 128
    found = decoded(encode(np.dstack([scene(), alpha]), "PNG"))
    mixed = scene() * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)
    assert far_from(found, mixed.round().astype(np.uint8)) <= 1
    assert (found[:, 24:] == 255).all()


def test_grey_with_transparency_lies_on_white() -> None:
    grey, alpha = scene()[..., 0], np.zeros((24, 36), np.uint8)
    alpha[:12] = 255
    found = decoded(encode(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"))
    np.testing.assert_array_equal(found[:12, :, 2], grey[:12])
    assert (found[12:] == 255).all()


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])], ids=["one index", "an alpha for each"])
def test_palette_colours_are_looked_up_and_clear_ones_are_white(transparency: int | bytes) -> None:
    indices = np.repeat([[0, 1, 2]], 2, axis=0).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    found = decoded(encode(image, "PNG", transparency=transparency))[0]
    assert found[0].tolist() == [200, 0, 0]
    assert found[1].tolist() == [255, 255, 255]
    assert found[2].tolist() == ([0, 0, 200] if transparency == 1 else [127, 127, 227])


def test_a_palette_without_transparency_is_just_colours() -> None:
    image = Image.fromarray(scene()).quantize(200)
    np.testing.assert_array_equal(decoded(encode(image, "PNG")), np.asarray(image.convert("RGB")))


def test_cmyk_inks_become_light() -> None:
    inks = np.zeros((8, 24, 4), np.uint8)
    inks[:, :8, 0], inks[:, 8:16, 3] = 255, 255  # cyan, black, paper
    found = decoded(encode(Image.fromarray(inks, "CMYK"), "TIFF"))
    assert [found[4, x].tolist() for x in (4, 12, 20)] == [[0, 255, 255], [0, 0, 0], [255, 255, 255]]
    assert far_from(decoded(encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=95))[4, 20], np.uint8([255] * 3)) < 5


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bits_of_grey_are_scaled_not_clipped(file_format: str) -> None:
    wide = (np.arange(24 * 36).reshape(24, 36) * (65535 / (24 * 36 - 1))).astype(np.uint16)
    found = decoded(encode(wide, file_format))
    assert far_from(found[..., 0], (wide / 257).round().astype(np.uint8)) == 0
    assert found[0, 0, 0] == 0
    assert found[-1, -1, 0] == 255
    assert len(np.unique(found)) > 200


def test_a_dark_image_of_16_bits_stays_dark() -> None:
    assert decoded(encode(np.full((8, 8), 255, np.uint16), "PNG")).max() == 1


@pytest.mark.parametrize(("largest", "expected"), [(255, 255), (65535, 255), (2**31 - 1, 127), (100, 100)])
def test_32_bits_of_grey_fill_the_range_that_their_values_need(largest: int, expected: int) -> None:
    wide = Image.fromarray(np.array([[0, largest], [0, largest]], np.int32))
    assert decoded(encode(wide, "TIFF"))[0, :, 0].tolist() == [0, expected]


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        decode(encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), 64)


MADE_UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
"""What EXIF asks a viewer to do, by the position of row 0 and column 0 (EXIF 2.3, table 6)."""

STORED = {
    "RGB": lambda: Image.fromarray(scene()),
    "RGBA": lambda: Image.fromarray(np.dstack([scene(), np.full((24, 36), 255, np.uint8)])),
    "palette": lambda: Image.fromarray(scene()[..., 0] // 100).convert("P"),
    "16 bits": lambda: Image.fromarray(scene()[..., 0].astype(np.uint16) * 257),
}


@pytest.mark.parametrize("orientation", MADE_UPRIGHT)
@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_images_are_turned_upright_as_exif_says(file_format: str, kind: str, orientation: int) -> None:
    stored = STORED[kind]()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    expected = MADE_UPRIGHT[orientation](decoded(encode(stored, file_format)))
    np.testing.assert_array_equal(decoded(encode(stored, file_format, exif=exif)), expected)


@pytest.mark.parametrize("orientation", MADE_UPRIGHT)
@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_lossy_images_are_turned_upright_as_exif_says(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    found = decoded(encode(scene(), file_format, quality=95, exif=exif))
    assert far_from(found, MADE_UPRIGHT[orientation](scene())) < 30


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    np.testing.assert_array_equal(decoded(encode(scene(), "PNG", exif=exif)), scene())


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 100))
@settings(max_examples=40)
def test_images_are_scaled_down_to_the_exact_shorter_side_and_never_up(height: int, width: int, resize: int) -> None:
    found = decoded(encode(scene(height, width), "BMP"), resize).shape[:2]
    if min(height, width) <= resize:
        assert found == (height, width)
    else:
        assert min(found) == resize
        assert abs(max(found) - max(height, width) * resize / min(height, width)) <= 0.5
        assert (found[0] >= found[1]) == (height >= width) or found[0] == found[1]


def test_the_scale_counts_after_turning_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert decoded(encode(scene(20, 60), "PNG", exif=exif), 10).shape == (30, 10, 3)


def test_scaling_down_averages() -> None:
    """Every second pixel alone would give black or white."""
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    found = decoded(encode(stripes, "PNG"), 16)[2:-2, 2:-2]
    assert found.min() > 115
    assert found.max() < 140


def plainly(content: bytes, resize_px: int) -> NDArray[np.uint8]:
    """(H, W, 3): the reference, which unpacks every pixel before it scales."""
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    scale = resize_px / min(upright.size)
    width, height = (round(side * scale) for side in upright.size)
    return np.asarray(upright.resize((width, height), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("side", [63, 64, 127, 128, 129, 200, 256, 512, 515])
def test_a_jpeg_unpacked_at_a_fraction_of_its_size_is_scaled_to_the_same_size_and_nearly_the_same_pixels(
    side: int, progressive: bool
) -> None:
    content = encode(scene(side, side * 3 // 2 + 1), "JPEG", quality=95, progressive=progressive)
    found, expected = decoded(content, 32), plainly(content, 32)
    assert found.shape == expected.shape
    assert far_from(found, expected) <= 8
    if side < 128:  # less than half of it would be left of twice the pixels wanted
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("side", "fraction"), [(127, 1), (128, 2), (255, 2), (256, 4), (511, 4), (512, 8), (4000, 8)])
def test_a_jpeg_is_unpacked_at_the_smallest_size_that_leaves_twice_the_pixels(
    side: int, fraction: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[int, int]] = []
    load = JpegImageFile.load

    def recorded(image: JpegImageFile) -> object:
        loaded.append(image.size)
        return load(image)

    content = encode(np.zeros((side, side + 1, 3), np.uint8), "JPEG")
    monkeypatch.setattr(JpegImageFile, "load", recorded)
    assert decode(content, 32).shape == (3, 32, round((side + 1) * 32 / side))
    assert loaded[0] == (-(-(side + 1) // fraction), -(-side // fraction))


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_a_turned_jpeg_unpacked_at_a_fraction_has_the_size_and_pixels_of_the_upright_one(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encode(scene(301, 203), "JPEG", quality=95, exif=exif)
    found, expected = decoded(content, 32), plainly(content, 32)
    assert found.shape == expected.shape
    assert far_from(found, expected) <= 8


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_unpacked_at_a_fraction_alike(mode: str) -> None:
    content = encode(Image.fromarray(scene(300, 400)).convert(mode), "JPEG", quality=95)
    assert far_from(decoded(content, 32), plainly(content, 32)) <= 8


def test_the_store_records_how_images_are_scaled() -> None:
    assert resize_settings(256) == {
        "shorter_side_px": 256,
        "kernel": "lanczos",
        "enlarge": False,
        "jpeg_draft_factor": 2,
    }


def claims(width: int, height: int) -> bytes:
    """A PNG file that says to be a huge grey image, and ends soon."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS, 2), (1, MAX_PIXELS + 1), (100_000, 100_000), (15_000,) * 2])
def test_a_small_file_that_claims_a_huge_image_is_refused_unpacked(width: int, height: int) -> None:
    with pytest.raises(ImageError, match=r"^more than 200 megapixels \("):
        decode(claims(width, height), 64)


@pytest.mark.filterwarnings("ignore")
def test_a_huge_claim_is_refused_alike_where_warnings_are_no_errors() -> None:
    with pytest.raises(ImageError, match=r"^more than 200 megapixels \(15000 x 15000 px\)$"):
        decode(claims(15_000, 15_000), 64)


def test_an_honest_claim_is_accepted() -> None:
    assert decode(claims(30, 30), 64).shape == (3, 30, 30)


def test_pillows_warnings_stay_out_of_a_jobs_output() -> None:
    """Here warnings are errors; in a job they would stand between the lines of its progress."""
    image = "Image.new('L', (9, 9)).save(f, 'JPEG', exif=b'Exif\\0\\0MM\\0*\\0\\0\\0\\x08\\0\\x09')"
    code = f"import io; from PIL import Image; f = io.BytesIO(); {image}; "
    quiet = code + "from gc_core.images import decode; print(decode(f.getvalue(), 8).shape)"
    loud = code + "Image.open(f).getexif()"
    ran = [subprocess.run([sys.executable, "-c", c], capture_output=True, text=True) for c in (quiet, loud)]
    assert (ran[0].stdout, ran[0].stderr) == ("(3, 8, 8)\n", "")
    assert "UserWarning" in ran[1].stderr


JPEG = encode(scene(), "JPEG", quality=80, exif=Image.Exif())
FILES = {
    "JPEG": JPEG,
    "progressive": encode(scene(), "JPEG", progressive=True),
    "PNG": encode(np.dstack([scene(), scene()[..., 0]]), "PNG"),
    "WEBP": encode(scene(), "WEBP"),
    "GIF": encode(scene(), "GIF"),
    "TIFF": encode(scene(), "TIFF", compression="tiff_lzw"),
    "BMP": encode(scene(), "BMP"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"^empty file$"),
        (b"<!DOCTYPE html><html><body>404", r"^not a JPEG, .* \(starts with b'<!DOCTYPE ht'\)$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", r"^not a JPEG, "),
        (b"\x00" * 1000, r"^not a JPEG, "),
        (JPEG[:-60], r"^damaged image \(image file is truncated"),
        (JPEG[:20], r"^(damaged image|not a JPEG)"),
        (FILES["PNG"][:-30], r"^damaged image"),
    ],
    ids=["empty", "html", "eps", "zeros", "most of a JPEG", "20 bytes of JPEG", "most of a PNG"],
)
def test_what_is_no_image_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(content, 64)


def accepted(content: bytes) -> bool:
    """Whether the bytes decode; any error but ImageError escapes."""
    try:
        pixels_CHW = decode(content, 16)
    except ImageError:
        return False
    assert pixels_CHW.dtype == np.uint8
    assert pixels_CHW.shape[0] == 3
    assert min(pixels_CHW.shape[1:]) <= 16
    return True


@given(st.binary(max_size=300), st.sampled_from([b"", *[content[:12] for content in FILES.values()]]))
@settings(max_examples=150)
def test_any_bytes_are_an_image_or_an_image_error(tail: bytes, magic: bytes) -> None:
    accepted(magic + tail)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's about damaged metadata
@pytest.mark.parametrize("kind", FILES)
@given(st.data())
@settings(max_examples=60)
def test_a_damaged_image_is_an_image_or_an_image_error(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    places = st.one_of(st.integers(0, min(80, len(content) - 1)), st.integers(0, len(content) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        content[place] = value
    accepted(bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content))


@pytest.mark.parametrize("kind", FILES)
def test_the_undamaged_files_are_accepted(kind: str) -> None:
    assert accepted(FILES[kind])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_every_truncation_is_refused_or_an_image(kind: str) -> None:
    content = FILES[kind]
    answers = [accepted(content[:length]) for length in range(0, len(content) * 3 // 4, 3)]
    assert not all(answers)
    assert not answers[1]


def test_a_damaged_exif_field_is_no_other_error() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010E] = "a description"
    content = bytearray(encode(scene(), "JPEG", exif=exif))
    start = content.index(b"Exif\x00\x00")
    for place in range(start, start + 60):
        for value in (0, 1, 255):
            damaged = content.copy()
            damaged[place] = value
            accepted(bytes(damaged))
