"""Images inside zip files: listed once by the directory, then read by offset; nothing is ever unpacked to disk.

APPNOTE.TXT 6.3: 4.3.7 local headers, 4.3.12 the directory, 4.3.14 to 4.3.16 its end.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from gc_core.images import budget
from gc_core.images.decode import ImageError
from gc_core.images.formats import SUFFIXES
from gc_core.images.ranges import open_ranges, read_range
from gc_core.images.ref import ImageRef, Listed
from gc_core.io.location import Location

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x41
"""Bits 0 and 6 of a member's flags."""
_UTF8 = 0x800
_LOCAL, _ENTRY = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
_END, _LOCATOR, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT = (1 << 16) - 1
_NAME_GUESS_BYTES = 1024
"""Read before a member in the same request: its header, its name and extra fields."""
_IN_EXTRA_32, _IN_EXTRA_16 = 0xFFFFFFFF, 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    name: str
    flags: int
    method: int
    packed_bytes: int
    bytes: int
    offset: int
    """First byte of its local header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    start: int
    num_bytes: int
    num_members: int
    shift: int
    """What stands before the archive: offsets in it are short by that."""


def scan(location: Location, other: Callable[[str], None] = lambda name: None) -> Iterator[Listed]:
    """Every image in an archive, in the order of its directory; what cannot be read later with its reason. `other`
    hears the names of files that are no images.

    Raises:
        OSError: the archive cannot be reached.
    """
    with open_ranges(location) as file:
        try:
            directory = _find_directory(file)
            if directory.shift and file.seek(0) == 0 and file.read(4) == b"PK\3\4":
                yield _rest(location, "another archive stands before the last one (joined zips: split them)")
            yield from _images(location, file, directory, other)
        except (ImageError, struct.error) as error:
            yield _rest(location, f"damaged archive ({error})")


def read(ref: ImageRef) -> bytes:
    """A member's bytes.

    Raises:
        ImageError: it is damaged, or unpacks to far more than an image does.
    """
    budget.refuse_image(ref.size)
    head = read_range(ref.location, ref.offset, _LOCAL.size + _NAME_GUESS_BYTES + ref.size) if ref.size >= 0 else b""
    if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
        raise ImageError("no member of the archive begins here")
    _, _, flags, method, _, _, checksum, _, _, name_bytes, extra_bytes = _LOCAL.unpack_from(head)
    start = _LOCAL.size + name_bytes + extra_bytes
    packed = head[start : start + ref.size]
    if len(packed) < ref.size:
        packed = read_range(ref.location, ref.offset + start, ref.size)
    if len(packed) != ref.size:
        raise ImageError(f"the archive is cut short ({len(packed)} of {ref.size} bytes are there)")
    content = packed if method == _STORED else _inflated(packed)
    if not flags & 8 and zlib.crc32(content) != checksum:  # with bit 3, the checksum stands elsewhere
        raise ImageError("damaged in the archive (its checksum differs)")
    return content


def _images(
    location: Location, file: BinaryIO, directory: _Directory, other: Callable[[str], None]
) -> Iterator[Listed]:
    for member in _members(file, directory):
        if member.name.lower().endswith(SUFFIXES):
            ref = ImageRef(url=location.url, member=member.name, offset=member.offset, size=member.packed_bytes)
            yield Listed(ref=ref, error=_reason(member))
        elif not member.name.endswith("/"):
            other(member.name)


def _reason(member: _Member) -> str:
    """Why a member cannot be read; empty where it can."""
    if member.flags & _ENCRYPTED:
        return "encrypted in the archive (unpack it with its password)"
    if member.method not in (_STORED, _DEFLATED):
        return f"packed by method {member.method} in the archive (expected stored or deflated: pack it again)"
    if member.bytes > _most_bytes(member.packed_bytes):
        return f"unpacks to far more than an image does ({member.packed_bytes:,} bytes to {member.bytes:,})"
    return ""


def _members(file: BinaryIO, directory: _Directory) -> Iterator[_Member]:
    """The directory's entries, read one after the other."""
    file.seek(directory.start)
    read_bytes = 0
    for _ in range(directory.num_members):
        fixed = file.read(_ENTRY.size)
        if len(fixed) < _ENTRY.size or fixed[:4] != b"PK\1\2":
            raise ImageError("its directory is cut short or damaged")
        _, _, _, flags, method, _, _, _, packed, size, name_bytes, extra_bytes, comment_bytes, _, _, _, offset = (
            _ENTRY.unpack(fixed)
        )
        name, extra, _ = file.read(name_bytes), file.read(extra_bytes), file.read(comment_bytes)
        read_bytes += _ENTRY.size + name_bytes + extra_bytes + comment_bytes
        if read_bytes > directory.num_bytes:
            raise ImageError("its directory is longer than it says")
        size, packed, offset = _from_extra(extra, (size, packed, offset))
        yield _Member(
            name=name.decode("utf-8" if flags & _UTF8 else "cp437", errors="replace"),
            flags=flags,
            method=method,
            packed_bytes=packed,
            bytes=size,
            offset=offset + directory.shift,
        )


def _from_extra(extra: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """Size, packed size and offset, those of 32 ones from the zip64 field (4.5.3)."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            widened = [next(wide, value) if value == _IN_EXTRA_32 else value for value in values]
            return widened[0], widened[1], widened[2]
        extra = extra[4 + length :]
    return values


def _find_directory(file: BinaryIO) -> _Directory:
    file_bytes = file.seek(0, 2)
    tail_start = max(0, file_bytes - _END.size - _LONGEST_COMMENT)
    file.seek(tail_start)
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        raise ImageError("no directory at its end: it is cut short, or not a zip")
    _, disk, _, _, num_members, num_bytes, start, _ = _END.unpack_from(tail, place)
    end = tail_start + place
    if _IN_EXTRA_16 in (num_members, disk) or _IN_EXTRA_32 in (num_bytes, start):
        end, num_members, num_bytes, start = _wide_end(file, end, (num_members, num_bytes, start))
    elif disk:
        raise ImageError("one part of a split archive: join its parts")
    shift = end - num_bytes - start
    if shift < 0 or num_members * _ENTRY.size > num_bytes:
        raise ImageError("its end does not match its directory")
    return _Directory(start=end - num_bytes, num_bytes=num_bytes, num_members=num_members, shift=shift)


def _wide_end(file: BinaryIO, end: int, narrow: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Where a zip64 directory ends, its number of members, its bytes and its start; the same as given without one."""
    locator_start = end - _LOCATOR.size
    if locator_start < _END64.size:
        return end, *narrow
    file.seek(locator_start - _END64.size)  # its extensible part is empty, wherever such archives were met
    record = _END64.unpack(file.read(_END64.size))
    if file.read(4) != b"PK\6\7" or record[0] != b"PK\6\6":
        return end, *narrow
    return locator_start - _END64.size, record[7], record[8], record[9]


def _inflated(packed: bytes) -> bytes:
    most_bytes = _most_bytes(len(packed))
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = stream.decompress(packed, most_bytes + 1)
    except zlib.error as error:
        raise ImageError(f"damaged in the archive ({error})") from None
    if len(content) > most_bytes:
        raise ImageError(f"unpacks to far more than an image does ({len(packed):,} bytes to more than {most_bytes:,})")
    if not stream.eof:
        raise ImageError("damaged in the archive (it ends too soon)")
    return content


def _most_bytes(packed_bytes: int) -> int:
    return budget.most_unpacked(packed_bytes, most_bytes=budget.MOST_IMAGE_BYTES)


def _rest(location: Location, error: str) -> Listed:
    return Listed(ref=ImageRef(url=location.url, member="(the rest of the archive)", offset=-1), error=error)
