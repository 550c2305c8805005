"""Every form of image file that is listed decodes; what is no image is not taken for one."""

import io

import numpy as np
import pytest
from PIL import Image

from gc_core.images import decode
from gc_core.images.formats import HEAD_BYTES, PILLOW, SUFFIXES, is_image, suffix_of

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
LOSSY = {"JPEG", "WEBP", "AVIF", "GIF"}
NAMED_BY_LETTERS = {"BMP", "DIB", "PPM"}
OTHER_NAMES = {".jif": "JPEG", ".pjp": "JPEG", ".pjpeg": "JPEG"}


def in_format(name: str, pixels: np.ndarray = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name)
    return buffer.getvalue()


@pytest.mark.parametrize("name", PILLOW)
def test_every_format_decodes_to_the_image(name: str) -> None:
    found = decode(in_format(name), 1000).transpose(1, 2, 0).astype(int)
    assert found.shape == PIXELS.shape
    assert np.abs(found - PIXELS).mean() < (20 if name in LOSSY else 1e-9)


@pytest.mark.parametrize("name", sorted(set(PILLOW) - NAMED_BY_LETTERS))
def test_an_image_is_known_by_its_first_bytes(name: str) -> None:
    assert is_image(in_format(name)[:HEAD_BYTES])


@pytest.mark.parametrize(
    "head",
    [b"", b"RIFF\0\0\0\0WAVEfmt ", b"%!PS-Adobe-3.0", b"GIF 87", b"PAR1", b"BM is text", b"P6 too", b"\0\0\0 ftypisom"],
)
def test_what_is_no_image_is_not_taken_for_one(head: bytes) -> None:
    assert not is_image(head)


def test_every_suffix_is_one_that_decodes() -> None:
    known = Image.registered_extensions() | OTHER_NAMES
    assert {known[suffix] for suffix in SUFFIXES} <= set(PILLOW) | {"DIB"}
    assert {".avif", ".jfif", ".jpe", ".jp2", ".ppm", ".pgm", ".pnm"} <= set(SUFFIXES)


def test_a_dark_16_bit_pnm_image_stays_dark() -> None:
    dark = b"P5 4 4 65535\n" + (200).to_bytes(2, "big") * 16
    assert decode(dark, 8).max() == 1  # 200 of 65,535, not of 255


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.JPG", ".jpg"), ("a.b.png", ".png"), ("a", ""), (".hidden", ""), ("x.y/a", ""), ("n0123_4", ""), ("a. b", "")],
)
def test_a_suffix_is_what_stands_behind_the_last_dot(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
