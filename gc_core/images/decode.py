"""From the bytes of a picture file to RGB pixels at working scale.

Letters: C image channels (3), H W pixels.
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 200_000_000
"""Larger pictures are refused before they are unpacked: a small file can claim to be a huge picture."""


class ImageError(ValueError):
    """A picture that cannot be used; the message is the reason, fit for a table."""


def decode(content: bytes, resize_px: int) -> NDArray[np.uint8]:
    """RGB pixels (3, H, W), upright as EXIF says, scaled down (Lanczos) so that the shorter side has at most `resize_px`.

    Grey, palette, CMYK and 16-bit pictures become RGB; transparency lies on white.

    Raises:
        ImageError: the bytes are no picture, a damaged one, or one of more than 200 megapixels.
    """
    if not content:
        raise ImageError("empty file")
    try:
        with warnings.catch_warnings(action="ignore"):  # we refuse by our own limit, and warn of nothing we then accept
            return _pixels(content, resize_px)
    except UnidentifiedImageError:
        raise ImageError(f"not a picture (starts with {content[:12]!r})") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"damaged picture ({error})") from error


def _pixels(content: bytes, resize_px: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"{width} x {height} px is more than {MAX_PIXELS // 10**6} megapixels")
        upright = ImageOps.exif_transpose(_rgb(picture))
        scale = resize_px / min(upright.size)
        if scale < 1:
            upright = upright.resize([max(1, round(side * scale)) for side in upright.size], Image.Resampling.LANCZOS)
        return np.ascontiguousarray(np.asarray(upright).transpose(2, 0, 1))


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 or 32 bits of grey: PIL's own conversion would clip instead of scale
        values = np.asarray(picture, dtype=np.float64)
        wide = values / 257 if values.max(initial=0) > 255 else values
        return _with_orientation(Image.fromarray(wide.clip(0, 255).round().astype(np.uint8)).convert("RGB"), picture)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return _with_orientation(Image.alpha_composite(white, layer).convert("RGB"), picture)
    return picture.convert("RGB")


def _with_orientation(made: Image.Image, source: Image.Image) -> Image.Image:
    made.getexif()[0x0112] = source.getexif().get(0x0112, 1)
    return made
