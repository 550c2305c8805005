"""What strangers' files may cost before they are refused: bytes that they unpack to, and rows that they claim."""

from gc_core.images.decode import ImageError

MOST_IMAGE_BYTES = 1 << 30
"""Largest file of one image."""
MOST_TOGETHER_BYTES = 4 << 30
"""Most bytes of images that can only be read together: a row group of Parquet, a batch of Arrow."""
FEW_BYTES, MOST_RATIO = 64 << 20, 100
"""Something may unpack to the first and this many times what is stored of it: images are compressed already."""
FEW_ROWS = 1000
"""A table has at most one row, and one image, a byte that is stored, and these."""


def most_unpacked(stored_bytes: int, *, most_bytes: int = MOST_TOGETHER_BYTES) -> int:
    """Bytes that so many stored ones may unpack to."""
    return min(most_bytes, FEW_BYTES + MOST_RATIO * stored_bytes)


def refuse_together(num_bytes: int, what: str) -> None:
    """ImageError if images that can only be read together have more bytes than a process should hold."""
    if num_bytes > MOST_TOGETHER_BYTES:
        raise ImageError(f"{what} has {num_bytes:,} bytes, expected at most {MOST_TOGETHER_BYTES:,} (write fewer rows)")


def refuse_unpacked(num_bytes: int, stored_bytes: int, what: str) -> None:
    """ImageError if stored bytes unpack, or say that they do, to more than they may."""
    if num_bytes > (most_bytes := most_unpacked(stored_bytes)):
        raise ImageError(
            f"{what} unpacks to more than {most_bytes:,} bytes (write smaller ones; {stored_bytes:,} bytes are stored)"
        )


def refuse_rows(num_rows: int, stored_bytes: int) -> None:
    """ImageError if a table has more rows, or cells of images, than there are bytes."""
    if num_rows > FEW_ROWS + stored_bytes:
        raise ImageError(f"more rows than bytes ({num_rows:,} rows in {stored_bytes:,} bytes cannot be images)")


def refuse_image(num_bytes: int) -> None:
    """ImageError if one image's file has more bytes than any honest one; asked before it is read."""
    if num_bytes > MOST_IMAGE_BYTES:
        raise ImageError(f"more than {MOST_IMAGE_BYTES:,} bytes ({num_bytes:,} in one image's file)")
