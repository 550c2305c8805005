"""Load an image by its name: its bytes, its content key, its pixels."""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gc_core.images import arrow, builtin, moved, parquet, ranges, tar, zip
from gc_core.images.decode import ImageError, decode
from gc_core.images.moved import ReplacedError
from gc_core.images.ref import ImageRef


def load(ref: ImageRef, resize_px: int, *, key: int | None = None, enlarge: bool = False) -> NDArray[np.uint8]:
    """RGB pixels (3, H, W) of an image, at working scale; with a content `key`, of that very image.

    Raises:
        ImageError: it cannot be decoded.
        OSError: it cannot be read. ReplacedError: it is another image than the one that had the key.
    """
    if key is None:
        return pixels(ref, read(ref), resize_px, enlarge=enlarge)
    try:
        content = read(ref)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; if the images have moved, say where to: {moved.option(ref)}") from None
    except ImageError as error:
        raise ReplacedError(_changed(ref)) from error
    if content_key(ref, content) != key:
        raise ReplacedError(_changed(ref))
    return pixels(ref, content, resize_px, enlarge=enlarge)


def read(ref: ImageRef) -> bytes:
    """The bytes of an image's file; none for a stimulus, whose name is all there is.

    Raises:
        ImageError: the archive or Parquet file around it holds no such image.
        OSError: it cannot be read.
    """
    if builtin.is_drawn(ref):
        return b""
    if ref.url.startswith(builtin.BUILTIN):
        return builtin.read(ref)
    if not ref.member:
        return ranges.read_whole(ref.location)
    return _reader_of(ref.url)(ref)


def pixels(ref: ImageRef, content: bytes, resize_px: int, *, enlarge: bool = False) -> NDArray[np.uint8]:
    """RGB pixels (3, H, W), at working scale, of an image whose bytes were read."""
    if builtin.is_drawn(ref):
        return builtin.draw(ref)
    return decode(content, resize_px, enlarge=enlarge)


def content_key(ref: ImageRef, content: bytes) -> int:
    """A 63-bit key of what the image is, wherever it lies: equal copies get equal keys."""
    named = f"{ref.url}/{ref.member}".encode() if builtin.is_drawn(ref) else content
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big") >> 1


def _reader_of(url: str) -> Callable[[ImageRef], bytes]:
    """What reads an image inside such a file."""
    if parquet.is_parquet(url):
        return parquet.read
    if url.lower().endswith(arrow.SUFFIXES):
        return arrow.read
    return zip.read if url.lower().endswith(".zip") else tar.read


def _changed(ref: ImageRef) -> str:
    where = f"{ref.url} ({ref.member})" if ref.member else ref.url
    return f"{where}: its bytes changed since it was indexed; put the image back, or choose another --out"
