"""How a GIF is built before its first image, without unpacking it.

GIF89a, appendix A: a screen descriptor, a palette, then extensions (33, a label, sub-blocks that each say their length,
and an empty one) until an image (44).
"""

from gc_core.images.errors import ImageError

MOST_BLOCKS = 100_000
"""Most extension blocks before the first image. Metadata that a program writes has some thousand."""
_EXTENSION = 0x21
_PALETTE_AT, _HEADER_BYTES = 10, 13


def refuse_many_blocks(content: bytes) -> None:
    """ImageError where so many blocks stand before the image that looking at them takes minutes."""
    packed = content[_PALETTE_AT] if len(content) > _PALETTE_AT else 0
    place, blocks = _HEADER_BYTES + (3 << (packed & 7) + 1 if packed & 128 else 0), 0
    while content[place : place + 1] == bytes([_EXTENSION]):
        place += 2
        while (size := content[place] if place < len(content) else 0) and blocks <= MOST_BLOCKS:
            place, blocks = place + 1 + size, blocks + 1
        place, blocks = place + 1, blocks + 1
        if blocks > MOST_BLOCKS:
            raise ImageError(f"more than {MOST_BLOCKS:,} blocks before the image (save it without its metadata)")
