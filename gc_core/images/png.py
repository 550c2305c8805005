"""What stands beside the pixels in a PNG: long texts and colour profiles, which say nothing about them, are cut out.

PNG, third edition, section 5: 8 bytes of signature; then chunks, each a length, a type, its content and a checksum.
"""

import zlib
from collections.abc import Iterator
from itertools import pairwise

from PIL import PngImagePlugin

from gc_core.images.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = PngImagePlugin.MAX_TEXT_CHUNK
"""Longest text or profile, unpacked; Pillow refuses an image with a longer one."""
MOST_TOGETHER_BYTES = PngImagePlugin.MAX_TEXT_MEMORY // 2
"""Most bytes of all texts and profiles of an image, unpacked."""

MOST_CHUNKS = 10_000
"""Beside those with pixels; of those, 200,000: programs fill them with 8 KiB and more."""

_PIXELS = b"IDAT"
_BESIDE = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def without_long_texts(content: bytes) -> bytes:
    """Remove the texts and profiles of a PNG that are too long for Pillow; other files stay as they are.

    Raises:
        ImageError: it has so many chunks that looking at them takes minutes.

    Memory: a copy of the file, where something is cut out; unpacked, never more than `MOST_BYTES` of a chunk.
    """
    if not content.startswith(SIGNATURE):
        return content
    dropped, together_bytes = [], 0
    for kind, start, stop in _chunks(content):
        if kind in _BESIDE:
            size_bytes = _unpacked_bytes(kind, content[start + 8 : stop - 4])
            if size_bytes > MOST_BYTES or together_bytes + size_bytes > MOST_TOGETHER_BYTES:
                dropped.append((start, stop))
            else:
                together_bytes += size_bytes
    return _without(content, dropped)


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, first byte and end of every chunk that is whole."""
    start, beside, pixels = len(SIGNATURE), 0, 0
    while (stop := start + 12 + int.from_bytes(content[start : start + 4], "big")) <= len(content):
        kind = content[start + 4 : start + 8]
        pixels, beside = pixels + (kind == _PIXELS), beside + (kind != _PIXELS)
        if beside > MOST_CHUNKS or pixels > 20 * MOST_CHUNKS:
            raise ImageError(f"more than {MOST_CHUNKS:,} chunks in a PNG (save it again in one piece)")
        yield kind, start, stop
        start = stop


def _unpacked_bytes(kind: bytes, chunk: bytes) -> int:
    """Size of a chunk's text or profile; `MOST_BYTES` + 1 stands for all that are larger."""
    packed = _packed(kind, chunk)
    if packed is None:
        return min(len(chunk), MOST_BYTES)  # one of any length is taken, all together are not
    try:
        return len(zlib.decompressobj().decompress(packed, MOST_BYTES + 1))
    except zlib.error:
        return 0  # Pillow passes it over


def _packed(kind: bytes, chunk: bytes) -> bytes | None:
    """The deflated part of a chunk; None where it has none."""
    _, _, rest = chunk.partition(b"\0")
    if kind in (b"zTXt", b"iCCP"):
        return rest[1:]
    if kind == b"iTXt" and rest[:1] not in (b"", b"\0"):
        return rest[2:].split(b"\0", 2)[-1]
    return None


def _without(content: bytes, dropped: list[tuple[int, int]]) -> bytes:
    if not dropped:
        return content
    ends = [0, *(place for span in dropped for place in span), len(content)]
    return b"".join(content[start:stop] for start, stop in list(pairwise(ends))[::2])
