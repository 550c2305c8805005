"""How a JPEG is built, without unpacking it.

ITU-T T.81, annex B: markers of two bytes, most followed by a segment that says its length; after a start of scan,
packed pixels until the next marker.
"""

import re

from gc_core.images.errors import ImageError

MOST_SEGMENTS = 20_000
"""Most segments of an image; the longest metadata take some hundred."""
MOST_FILL_BYTES = 1000
"""Most fill bytes between two segments before the first scan; decoders pass over them one by one."""
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Marker outside packed pixels, in which ff is followed by 00, or begins a restart marker."""
_END, _SCAN, _START, _TEMPORARY = 0xD9, 0xDA, 0xD8, 0x01


def num_scans(content: bytes, *, at_most: int) -> int:
    """Scans of the image, counted up to a number; what stands in other segments or behind its end does not count.

    Raises:
        ImageError: so many segments, or so much between them, that looking at them takes minutes.
    """
    place, scans, segments = 2, 0, 0
    while scans < at_most and (match := _MARKER.search(content, place)):
        marker, segments = match[0][1], segments + 1
        if segments > MOST_SEGMENTS:
            raise ImageError(f"more than {MOST_SEGMENTS:,} segments in a JPEG (save it without its metadata)")
        if not scans and match.start() - place > MOST_FILL_BYTES:
            raise ImageError(f"damaged image ({match.start() - place:,} bytes between the segments of a JPEG)")
        if marker == _END:
            break
        scans += marker == _SCAN
        has_segment = marker not in (_START, _TEMPORARY)
        place = match.end() + (int.from_bytes(content[match.end() : match.end() + 2], "big") if has_segment else 0)
    return scans
