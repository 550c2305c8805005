"""Images inside tar files: listed once by their headers, then read by offset and size; nothing is ever unpacked."""

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import IO

from gc_core.images import budget
from gc_core.images.decode import ImageError
from gc_core.images.formats import SUFFIXES
from gc_core.images.ranges import open_ranges, read_range
from gc_core.images.ref import ImageRef, Listed
from gc_core.io.location import Location

_DAMAGE = (tarfile.TarError, ValueError, OverflowError, ArithmeticError, LookupError, RecursionError)
"""What Python's tarfile raises for headers that mean nothing. OSError is none of them: that is the network."""
MOST_HEADER_BYTES = 1 << 20
"""Longest name or list of attributes before a member; tarfile reads them whole."""
LONGEST_NUMBER = 1000
"""Digits in a row in such a list: tarfile searches for numbers in a time that grows with their square."""
MOST_KEYS = 1000
"""Attributes of a member, or of all that follow: tarfile goes through the latter for each."""
MOST_MEMBERS = 50_000_000
"""Most members of an archive. ImageNet's largest has 1.3 million."""
_LONG_HEADERS = frozenset(b"xgXLK")
"""Types of headers whose content tells of the next member: pax (x, g, X), and long names of GNU (L, K)."""
_ZEROS_AT_ONCE = 1 << 20


def scan(location: Location, other: Callable[[str], None] = lambda name: None) -> Iterator[Listed]:
    """Every image in an archive, and in archives inside it (ImageNet's own training set is a tar of tars), in the
    order they stand in. `other` hears the names of files that are no images.

    A link, a sparse file, an archive that is cut or damaged: listed with the reason, for their bytes do not stand
    in one place.

    Raises:
        OSError: the archive cannot be reached.
    """
    with open_ranges(location) as file:
        yield from _Archive(file, url=location.url, inside="", base=0, other=other).images()


def read(ref: ImageRef) -> bytes:
    """A member's bytes.

    Raises:
        ImageError: the archive ends inside the member.
    """
    budget.refuse_image(ref.size)
    content = read_range(ref.location, ref.offset, ref.size) if ref.size >= 0 else b""
    if len(content) != ref.size:
        raise ImageError(f"the archive is cut short ({len(content)} of {ref.size} bytes are there)")
    return content


def _size_in(header: bytes) -> int:
    """A member's bytes: octal digits, or (GNU) a number to the base of 256; tarfile.HeaderError if it is neither."""
    digits = header[124:136]
    if digits[0] in (0o200, 0o377):
        return int.from_bytes(digits[1:], "big") - (256 ** (len(digits) - 1) if digits[0] == 0o377 else 0)
    return int(digits.partition(b"\0")[0].strip() or b"0", 8)


class _Archive:
    """One tar that begins at byte `base` of the file at `url`; names of its members begin with `inside`."""

    def __init__(self, file: IO[bytes], *, url: str, inside: str, base: int, other: Callable[[str], None]) -> None:
        self._other = other
        self._file, self._url, self._inside, self._base = file, url, inside, base
        self._size = file.seek(0, 2)
        file.seek(0)

    def images(self) -> Iterator[Listed]:
        try:
            with tarfile.TarFile(fileobj=io.BytesIO(bytes(2 * tarfile.BLOCKSIZE))) as archive:
                archive.fileobj, place = self._file, 0  # it would read the first member before it could be looked at
                for _ in range(MOST_MEMBERS):
                    if (place := self._next_header(place)) is None:
                        return
                    self._file.seek(place)
                    member = tarfile.TarInfo.fromtarfile(archive)
                    if max(len(member.pax_headers), len(archive.pax_headers)) > MOST_KEYS:
                        raise tarfile.ReadError(f"more than {MOST_KEYS:,} attributes in a header")
                    yield from self._images_of(archive, member)
                    if archive.offset <= place:
                        raise tarfile.ReadError("a member of negative size")
                    place = archive.offset
                raise tarfile.ReadError(f"more than {MOST_MEMBERS:,} members")
        except _DAMAGE as error:
            yield self._rest(self._damage(error))

    def _next_header(self, place: int) -> int | None:
        """Where the next member begins, past end marks, which stand between archives that were joined; None at the end.

        `TarFile.next` would keep every member in memory, and take a damaged header, or the end of a cut file, for the
        end of the archive.
        """
        self._file.seek(min(place, self._size))
        block = self._file.read(tarfile.BLOCKSIZE)
        if not block:
            raise tarfile.ReadError("it ends without its end mark and may be cut short")
        if len(block) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends inside a block")
        while block and not any(block):
            place += len(block)
            block = self._file.read(_ZEROS_AT_ONCE)
            zeros = len(block) - len(block.lstrip(b"\0"))
            if zeros < len(block):  # headers begin at whole blocks
                place += zeros - zeros % tarfile.BLOCKSIZE
                self._file.seek(place)
                block = self._file.read(tarfile.BLOCKSIZE)
        if not block:
            return None
        self._check_long_headers(place)
        return place

    def _check_long_headers(self, place: int) -> None:
        """Raise for what tarfile would take very long, or much memory, to read."""
        while True:
            self._file.seek(place)
            block = self._file.read(tarfile.BLOCKSIZE)
            if len(block) < tarfile.BLOCKSIZE or block[156] not in _LONG_HEADERS:
                return
            size = _size_in(block)
            if not 0 <= size <= MOST_HEADER_BYTES:
                raise tarfile.ReadError(f"a header of {size:,} bytes")
            if re.search(rb"\d{%d}" % LONGEST_NUMBER, self._file.read(size)):
                raise tarfile.ReadError(f"a number of more than {LONGEST_NUMBER} digits in a header")
            place += tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))

    def _images_of(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[Listed]:
        name = member.name.lower()
        if name.endswith(".tar") and not self._inside and member.isreg() and not member.issparse():
            inner = archive.extractfile(member)
            assert inner is not None, "a regular member has content"
            inside, base = f"{member.name}/", member.offset_data
            yield from _Archive(inner, url=self._url, inside=inside, base=base, other=self._other).images()
        elif name.endswith(SUFFIXES) and not member.isdir():
            offset, size = self._base + member.offset_data, member.size
            ref = ImageRef(url=self._url, member=self._inside + member.name, offset=offset, size=size)
            yield Listed(ref=ref, error=self._reason(member))
        elif not member.isdir():
            self._other(member.name)

    def _reason(self, member: tarfile.TarInfo) -> str:
        if not member.isreg():
            return "not a regular file (a link or a device inside the archive)"
        if member.issparse():
            return "a sparse file inside the archive (its bytes are not contiguous)"
        if member.size < 0:
            return "a negative size in the archive"
        if member.offset_data + member.size > self._size:
            return "the archive is cut short (it ends inside this image)"
        return ""

    def _rest(self, error: str) -> Listed:
        ref = ImageRef(url=self._url, member=f"{self._inside}(the rest of the archive)", offset=-1)
        return Listed(ref=ref, error=error)

    def _damage(self, error: Exception) -> str:
        self._file.seek(0)
        start = self._file.read(12)
        if start[:2] in (b"\x1f\x8b", b"BZ") or start[:4] in (b"\xfd7zX", b"\x28\xb5\x2f\xfd"):
            return "a compressed archive (members are read by their place, which needs a plain .tar: decompress it)"
        return f"damaged archive ({error})"
