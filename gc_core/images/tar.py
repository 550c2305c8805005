"""Pictures inside tar files: listed once by their headers, then read by offset and size; nothing is ever unpacked."""

import tarfile
from collections.abc import Iterator
from typing import IO

from gc_core.images.decode import ImageError
from gc_core.images.formats import SUFFIXES
from gc_core.images.ranges import open_ranges, read_range
from gc_core.images.ref import ImageRef, Listed

_DAMAGE = (tarfile.TarError, ValueError, OverflowError, ArithmeticError, LookupError)
"""What Python's tarfile raises for headers that mean nothing. OSError is none of them: that is the network."""


def scan(url: str) -> Iterator[Listed]:
    """Every picture in an archive, and in archives inside it (ImageNet's own training set is a tar of tars), in the
    order they stand in.

    A link, a sparse file, an archive that is cut or damaged: listed with the reason, for their bytes do not stand
    in one place.

    Raises:
        OSError: the archive cannot be reached.
    """
    with open_ranges(url) as file:
        yield from _Archive(file, url=url, inside="", base=0).pictures()


def read(ref: ImageRef) -> bytes:
    """A member's bytes.

    Raises:
        ImageError: the archive ends inside the member.
    """
    content = read_range(ref.url, ref.offset, ref.size) if ref.size >= 0 else b""
    if len(content) != ref.size:
        raise ImageError(f"the archive is cut ({len(content)} of {ref.size} bytes are there)")
    return content


class _Archive:
    """One tar that begins at byte `base` of the file at `url`; names of its members begin with `inside`."""

    def __init__(self, file: IO[bytes], *, url: str, inside: str, base: int) -> None:
        self._file, self._url, self._inside, self._base = file, url, inside, base
        self._size = file.seek(0, 2)
        file.seek(0)

    def pictures(self) -> Iterator[Listed]:
        try:
            with tarfile.TarFile(fileobj=self._file, mode="r") as archive:
                archive.offset = 0  # it has looked at the first member already
                while self._goes_on(archive.offset):
                    self._file.seek(archive.offset)
                    yield from self._pictures_of(archive, tarfile.TarInfo.fromtarfile(archive))
        except _DAMAGE as error:
            yield self._rest(self._damage(error))

    def _goes_on(self, offset: int) -> bool:
        """Whether a member begins here, and not the archive's end mark.

        `TarFile.next` would keep every member in memory, and take a damaged header, or the end of a cut file, for the
        end of the archive.
        """
        self._file.seek(offset)
        block = self._file.read(tarfile.BLOCKSIZE)
        if not block:
            raise tarfile.ReadError("it ends without its end mark and may be cut")
        return any(block)

    def _pictures_of(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[Listed]:
        name = member.name.lower()
        if name.endswith(".tar") and not self._inside and member.isreg() and not member.issparse():
            inner = archive.extractfile(member)
            assert inner is not None, "a regular member has content"
            yield from _Archive(inner, url=self._url, inside=f"{member.name}/", base=member.offset_data).pictures()
        elif name.endswith(SUFFIXES) and not member.isdir():
            offset, size = self._base + member.offset_data, member.size
            ref = ImageRef(url=self._url, member=self._inside + member.name, offset=offset, size=size)
            yield Listed(ref=ref, error=self._reason(member))

    def _reason(self, member: tarfile.TarInfo) -> str:
        if not member.isreg():
            return "no file of its own (a link or a device inside the archive)"
        if member.issparse():
            return "a sparse file inside the archive (its bytes do not stand in one piece)"
        if member.offset_data + member.size > self._size:
            return "the archive is cut (it ends inside this picture)"
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
