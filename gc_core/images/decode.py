"""Decode the bytes of an image file into RGB pixels at working scale.

Letters: C image channels (3), H W pixels.
"""

import io
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from gc_core.images import formats, gif, jpeg, png
from gc_core.images.errors import ImageError

MAX_PIXELS = 200_000_000
"""Larger images are refused before they are unpacked: a small file can claim to be a huge image."""
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow warns beyond this, and refuses beyond twice this
MAX_WHOLE_PIXELS = 100_000_000
"""Most pixels of an image that cannot be unpacked at a part of its size: all but plain JPEGs. Together with the copies
that converting makes, it takes up to 20 bytes a pixel."""
LARGE_PIXELS = 10_000_000
"""Larger images that cannot be unpacked at a part of their size are decoded one at a time: each takes 0.2 GB and
more."""
MOST_SCANS = 100
"""Most scans of a progressive JPEG: each takes as long as unpacking it once. Cameras and programs write up to 20."""
MOST_SCANNED_PIXELS = 2_500_000_000
"""Pixels of a JPEG times its scans."""
MOST_TILE_PIXELS = 10_000_000
"""Most pixels of a TIFF tile that is larger than its image."""
MOST_TEXT_BYTES = 4 << 20
"""Largest PNM whose pixels are written as text, which are read one by one."""
STRIP_PIXELS = 4_000_000
"""Images with transparency, or with more than 8 bits, are converted in strips of about so many pixels."""

DRAFT_FACTOR = 2
"""A JPEG is unpacked at 1/2, 1/4 or 1/8 of its size while that leaves this many times the pixels wanted, each way: what
Lanczos then throws away hides how the codec averaged."""

_LARGE = threading.Lock()
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transpose by EXIF orientation (2.3, tag 0x0112). Pillow's own function rewrites all EXIF, and fails on odd fields."""

# Pillow warns of what is accepted here, or refused by the rules here. Said once for the process: images are decoded
# on threads, and warnings.catch_warnings in one would change them all.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(content: bytes, resize_px: int, *, enlarge: bool = False) -> NDArray[np.uint8]:
    """RGB pixels (3, H, W), upright as EXIF says, scaled down (Lanczos) to a shorter side of at most `resize_px`; with
    `enlarge` scaled to just that, smaller ones up.

    Grey, palette, CMYK and 16-bit images become RGB; transparency lies on white; of an animation the first frame.

    Raises:
        ImageError: the bytes are no image, a damaged one, or one that takes more memory or time than any honest one.
    """
    if not content:
        raise ImageError("empty file")
    upright, full_size = _upright_rgb(content, resize_px, _num_scans(content))
    scale = resize_px / min(full_size)
    if scale < 1 or (enlarge and scale > 1):
        width, height = (max(1, round(side * scale)) for side in full_size)
        if width * height > MAX_WHOLE_PIXELS:
            raise _too_large(f"{width} x {height} px when enlarged", MAX_WHOLE_PIXELS)
        upright = upright.resize((width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(upright).transpose(2, 0, 1))


def resize_settings(resize_px: int, *, enlarge: bool = False) -> dict[str, Any]:
    """What `decode` does, as a store records it."""
    return {"shorter_side_px": resize_px, "kernel": "lanczos", "enlarge": enlarge, "jpeg_draft_factor": DRAFT_FACTOR}


def _num_scans(content: bytes) -> int:
    """Scans of a JPEG, one of all others; ImageError for files that take long to look at before a pixel is read."""
    if content[:2] in (b"P1", b"P2", b"P3") and len(content) > MOST_TEXT_BYTES:
        raise ImageError(f"pixels written as {len(content):,} bytes of text (save it as binary PNM, or as PNG)")
    if content.startswith(b"GIF8"):
        gif.refuse_many_blocks(content)
    if not content.startswith(b"\xff\xd8"):
        return 1
    if (scans := jpeg.num_scans(content, at_most=MOST_SCANS + 1)) > MOST_SCANS:
        raise ImageError(f"more than {MOST_SCANS} scans (in one JPEG, each takes the time of a whole image)")
    return scans


def _refuse_long(image: Image.Image, num_scans: int) -> None:
    """ImageError if it would take very long, or much memory, to unpack."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height} px")
    if num_scans * width * height > MOST_SCANNED_PIXELS:
        raise _too_large(f"{num_scans} scans of {width} x {height} px", MOST_SCANNED_PIXELS)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = [image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)]
        if tile[0] * tile[1] > max(MOST_TILE_PIXELS, width * height):
            raise _too_large(f"tiles of {tile[0]} x {tile[1]} px in an image of {width} x {height}", MOST_TILE_PIXELS)


def _upright_rgb(content: bytes, resize_px: int, num_scans: int) -> tuple[Image.Image, tuple[int, int]]:
    """The image, and the upright width and height that it has in the file."""
    try:
        with Image.open(io.BytesIO(png.without_long_texts(content)), formats=formats.PILLOW) as image:
            width, height = image.size
            _refuse_long(image, num_scans)
            image.draft(None, (DRAFT_FACTOR * resize_px, DRAFT_FACTOR * resize_px))  # other codecs: does nothing
            whole = image.format != "JPEG" or num_scans > 1 or "progressive" in image.info
            if whole and width * height > MAX_WHOLE_PIXELS:
                raise _too_large(f"{width} x {height} px, not a plain JPEG", MAX_WHOLE_PIXELS)
            with _LARGE if whole and width * height > LARGE_PIXELS else nullcontext():
                image.load()
                return _upright(image, (width, height))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not a {formats.NAMES} image (starts with {content[:12]!r})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # the warning where it is an error
        raise _too_large(str(error)) from None
    except MemoryError:
        raise ImageError("too large to unpack in the available memory") from None
    except Exception as error:  # damaged bytes make Pillow's decoders fail in any way: struct.error, TypeError, ...
        raise ImageError(f"damaged image ({error or type(error).__name__})") from error


def _upright(image: Image.Image, size: tuple[int, int]) -> tuple[Image.Image, tuple[int, int]]:
    """RGB, and the upright width and height that the image has in the file."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # a TIFF was loaded upright, and says so
    width, height = image.size if image.format == "TIFF" else size
    turn = _TO_UPRIGHT.get(orientation)
    if turn is None:
        return _rgb(image), (width, height)
    return _rgb(image).transpose(turn), (height, width) if orientation >= 5 else (width, height)


def _too_large(found: str, most: int = MAX_PIXELS) -> ImageError:
    return ImageError(f"more than {most // 10**6} megapixels ({found})")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError("floating-point pixels (their white level is unknown; save them with 8 or 16 bits)")
    if image.mode.startswith("I"):
        white = _white_of(image)
        return _in_strips(image, lambda strip: _from_wide_grey(strip, white).convert("RGB"))
    if image.has_transparency_data:
        return _in_strips(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The whole from its strips, each pixel converted by itself: the copies are those of a strip."""
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        return convert(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(convert(strip), (0, top))
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _white_of(image: Image.Image) -> int:
    """What stands for white in a grey image of more than 8 bits."""
    if image.mode.startswith("I;16") or image.format == "PPM":
        return 2**16 - 1
    _, largest = cast("tuple[int, int]", image.getextrema())
    # 32 bits hold what the writer liked: the narrowest range that all values fit.
    return next(white for white in (2**8 - 1, 2**16 - 1, 2**32 - 1) if largest <= white)


def _from_wide_grey(image: Image.Image, white: int) -> Image.Image:
    """8 bits of grey from 16 or 32, scaled, where Pillow's own conversion would clip."""
    values = np.asarray(image, dtype=np.float64)
    return Image.fromarray((values * (255 / white)).clip(0, 255).round().astype(np.uint8))
