"""From the bytes of a picture file to RGB pixels at working scale.

Letters: C image channels (3), H W pixels.
"""

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from gc_core.images import formats, png

MAX_PIXELS = 200_000_000
"""Larger pictures are refused before they are unpacked: a small file can claim to be a huge picture."""
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow warns beyond this, and refuses beyond twice this

DRAFT_FACTOR = 2
"""A JPEG is unpacked at 1/2, 1/4 or 1/8 of its size while that leaves this many times the pixels wanted, each way: what
Lanczos then throws away hides how the codec averaged."""

_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation (EXIF 2.3, tag 0x0112). Pillow's own function rewrites all EXIF fields, and fails on odd ones."""

# Pillow warns of what is accepted here, or refused by the rules here. Said once for the process: pictures are decoded
# on threads, and warnings.catch_warnings in one would change them all.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(ValueError):
    """A picture that cannot be used; the message is the reason, `KIND (details)`, fit for a table."""


def decode(content: bytes, resize_px: int) -> NDArray[np.uint8]:
    """RGB pixels (3, H, W), upright as EXIF says, scaled down (Lanczos) to a shorter side of at most `resize_px`.

    Grey, palette, CMYK and 16-bit pictures become RGB; transparency lies on white; of an animation the first frame.

    Raises:
        ImageError: the bytes are no picture, a damaged one, or one of more than 200 megapixels.
    """
    if not content:
        raise ImageError("empty file")
    upright, full_size = _upright_rgb(content, resize_px)
    scale = resize_px / min(full_size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in full_size)
        upright = upright.resize((width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(upright).transpose(2, 0, 1))


def resize_settings(resize_px: int) -> dict[str, Any]:
    """What `decode` does, as a store records it."""
    return {"shorter_side_px": resize_px, "kernel": "lanczos", "enlarge": False, "jpeg_draft_factor": DRAFT_FACTOR}


def _upright_rgb(content: bytes, resize_px: int) -> tuple[Image.Image, tuple[int, int]]:
    """The picture, and the upright width and height that it has in the file."""
    try:
        with Image.open(io.BytesIO(png.without_long_texts(content)), formats=formats.PILLOW) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise _too_large(f"{width} x {height} px")
            picture.draft(None, (DRAFT_FACTOR * resize_px, DRAFT_FACTOR * resize_px))  # other codecs: does nothing
            picture.load()
            orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)  # a TIFF was loaded upright, and says so
            if picture.format == "TIFF":
                width, height = picture.size
            turn = _TO_UPRIGHT.get(orientation)
            if turn is None:
                return _rgb(picture), (width, height)
            return _rgb(picture).transpose(turn), (height, width) if orientation >= 5 else (width, height)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not a {formats.NAMES} picture (starts with {content[:12]!r})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # the warning where it is an error
        raise _too_large(str(error)) from None
    except Exception as error:  # damaged bytes make Pillow's decoders fail in any way: struct.error, TypeError, ...
        raise ImageError(f"damaged picture ({error or type(error).__name__})") from error


def _too_large(found: str) -> ImageError:
    return ImageError(f"more than {MAX_PIXELS // 10**6} megapixels ({found})")


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ImageError("floating-point pixels (they say not what is white; save them with 8 or 16 bits)")
    if picture.mode.startswith("I"):
        return _from_wide_grey(picture).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _from_wide_grey(picture: Image.Image) -> Image.Image:
    """8 bits of grey from 16 or 32, scaled, where Pillow's own conversion would clip."""
    values = np.asarray(picture, dtype=np.float64)
    largest = values.max(initial=0)
    if picture.mode.startswith("I;16") or picture.format == "PPM":
        white = 2**16 - 1
    else:  # 32 bits hold what the writer liked: the narrowest range that all values fit
        white = next(w for w in (2**8 - 1, 2**16 - 1, 2**32 - 1) if largest <= w)
    return Image.fromarray((values * (255 / white)).clip(0, 255).round().astype(np.uint8))
