"""How a JPEG is built, without unpacking it.

ITU-T T.81, annex B: markers of two bytes, most followed by a segment that says its length; after a start of scan,
packed pixels until the next marker.
"""

import re

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In packed pixels, ff is followed by 00, or is a restart marker."""
_END, _SCAN, _START, _TEMPORARY = 0xD9, 0xDA, 0xD8, 0x01


def num_scans(content: bytes, *, at_most: int) -> int:
    """Scans of the picture, counted up to a number; what stands in other segments or behind its end does not count."""
    place, scans = 2, 0
    while scans < at_most and (found := _MARKER.search(content, place)):
        marker = found[0][1]
        if marker == _END:
            break
        scans += marker == _SCAN
        has_segment = marker not in (_START, _TEMPORARY)
        place = found.end() + (int.from_bytes(content[found.end() : found.end() + 2], "big") if has_segment else 0)
    return scans
