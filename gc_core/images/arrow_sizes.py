"""What a batch of rows in an Arrow stream unpacks to, by its header alone.

Arrow's columnar format, "Encapsulated message format" and Message.fbs; FlatBuffers' internals: a table begins with the
distance back to its vtable, which holds the place of each field inside the table.
"""

import struct
from dataclasses import dataclass

from gc_core.images import budget
from gc_core.images.decode import ImageError

MOST_HEADER_BYTES = 64 << 20
"""A header has some bytes for each column."""
_CONTINUES = b"\xff\xff\xff\xff"
_HEADER, _BODY_BYTES = 2, 3
"""Fields of a message."""
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = 0, 1, 2, 3
"""Fields of a batch of rows."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What stands before a message."""

    start: int
    """Bytes before its header."""
    header_bytes: int


def prefix_of(head: bytes) -> Prefix | None:
    """Parse the first eight bytes of a message; None at the end of a stream.

    Raises:
        ImageError: the header is longer than any honest one.
    """
    start = 4 if head[:4] == _CONTINUES else 0  # streams of before Arrow 0.15 have none
    if len(head) < start + 4:
        return None
    (header_bytes,) = struct.unpack_from("<i", head, start)
    if not 0 <= header_bytes <= MOST_HEADER_BYTES:
        raise ImageError(f"damaged Arrow file (a header of {header_bytes:,} bytes)")
    return Prefix(start + 4, header_bytes) if header_bytes else None


def body_bytes(header: bytes) -> int:
    """What a message's header says of the length of its body.

    Raises:
        struct.error: it is no header.
    """
    place = _field(header, _table(header, 0), _BODY_BYTES)
    return struct.unpack_from("<q", header, place)[0] if place else 0


def refuse_batch(header: bytes, body: memoryview) -> None:
    """Look at a batch of rows before it is unpacked.

    Raises:
        ImageError: it unpacks to far more than is stored, or has more rows than bytes.
        struct.error: it is no batch.
    """
    place = _field(header, _table(header, 0), _HEADER)
    batch = _table(header, place)
    length = _field(header, batch, _LENGTH)
    rows = [struct.unpack_from("<q", header, length)[0]] if length else []
    rows += [length for length, _ in _pairs(header, _field(header, batch, _NODES))]
    budget.refuse_rows(max(rows, default=0), len(body))
    packed = _field(header, batch, _COMPRESSION)
    sizes = (
        _unpacked(body, offset, size) if packed else size
        for offset, size in _pairs(header, _field(header, batch, _BUFFERS))
    )
    budget.refuse_unpacked(sum(sizes), len(body), "its batch of rows")


def _unpacked(body: memoryview, offset: int, size: int) -> int:
    """Unpacked size of a compressed buffer: the bytes before it say it; -1 stands for one that is not packed."""
    if size == 0:
        return 0
    (unpacked,) = struct.unpack_from("<q", body, offset)
    return size if unpacked < 0 else unpacked


def _table(header: bytes, place: int) -> int:
    return place + struct.unpack_from("<I", header, place)[0]


def _field(header: bytes, table: int, number: int) -> int:
    """Where a table's field stands; 0 where it has none."""
    vtable = table - struct.unpack_from("<i", header, table)[0]
    (vtable_bytes,) = struct.unpack_from("<H", header, vtable)
    if 4 + 2 * number >= vtable_bytes:
        return 0
    (distance,) = struct.unpack_from("<H", header, vtable + 4 + 2 * number)
    return table + distance if distance else 0


def _pairs(header: bytes, place: int) -> list[tuple[int, int]]:
    """A vector of two numbers each: rows and nulls of a node, offset and size of a buffer."""
    if not place:
        return []
    start = _table(header, place)
    (count,) = struct.unpack_from("<I", header, start)
    return list(struct.iter_unpack("<qq", header[start + 4 : start + 4 + 16 * count]))
