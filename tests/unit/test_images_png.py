"""Texts and colour profiles of any length in a PNG never make it a damaged image, and never cost memory."""

import io
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gc_core.images import ImageError, decode
from gc_core.images.png import MOST_BYTES, without_long_texts

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def png(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", **options)
    return buffer.getvalue()


def with_texts(count: int, length: int, kind: str) -> bytes:
    texts = PngImagePlugin.PngInfo()
    for number in range(count):
        if kind == "iTXt":
            texts.add_itxt(f"t{number}", "a" * length, zip=True)
        else:
            texts.add_text(f"t{number}", "a" * length, zip=kind == "zTXt")
    return png(pnginfo=texts)


def behind_the_pixels(content: bytes, chunk: bytes) -> bytes:
    end = content.index(b"IEND") - 4
    size, checksum = len(chunk) - 4, zlib.crc32(chunk)
    return content[:end] + size.to_bytes(4, "big") + chunk + checksum.to_bytes(4, "big") + content[end:]


VALID = {
    "long zTXt": lambda: with_texts(1, 3 * MOST_BYTES, "zTXt"),
    "long iTXt": lambda: with_texts(1, 3 * MOST_BYTES, "iTXt"),
    "long tEXt": lambda: with_texts(1, 3 * MOST_BYTES, "tEXt"),
    "many zTXt": lambda: with_texts(90, MOST_BYTES - 1, "zTXt"),
    "many tEXt": lambda: with_texts(90, MOST_BYTES - 1, "tEXt"),
    "large profile": lambda: png(icc_profile=bytes(3 * MOST_BYTES)),
    "long text behind the pixels": lambda: behind_the_pixels(
        png(), b"zTXtk\0\0" + zlib.compress(bytes(3 * MOST_BYTES))
    ),
}


@pytest.mark.parametrize("kind", VALID)
def test_a_valid_image_with_long_texts_or_profiles_gives_its_pixels(kind: str) -> None:
    np.testing.assert_array_equal(decode(VALID[kind](), 100).transpose(1, 2, 0), PIXELS)


@pytest.mark.parametrize("content", [png(), with_texts(3, 1000, "zTXt"), png(icc_profile=bytes(5000)), b"", b"\x89PNG"])
def test_all_else_is_left_as_it_is(content: bytes) -> None:
    assert without_long_texts(content) is content


def test_a_bomb_of_a_text_costs_no_memory() -> None:
    content = with_texts(1, 300 * MOST_BYTES, "zTXt")
    tracemalloc.start()
    decode(content, 100)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * MOST_BYTES


def test_a_cut_image_is_still_damaged() -> None:
    content = VALID["large profile"]()
    with pytest.raises(ImageError, match="damaged"):
        decode(content[: content.index(b"IDAT") + 40], 100)


def test_orientation_in_a_short_text_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = png(exif=exif.tobytes(), icc_profile=bytes(3 * MOST_BYTES))
    assert decode(content, 100).shape == (3, 30, 20)
