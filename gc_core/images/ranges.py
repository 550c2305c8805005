"""Parts of files under URLs: a range of bytes, a file to seek in, and the files below a folder as they are found."""

import io
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

import obstore
from obstore.exceptions import BaseError

from gc_core.images import budget
from gc_core.images.walk import ListedFile, walk
from gc_core.io import objects, s3
from gc_core.io.location import Location

BUFFER_BYTES = 1 << 20
LIST_BATCH = 1000


def read_range(location: Location, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on; fewer where the file ends before.

    Raises:
        FileNotFoundError: there is no such file. OSError: it cannot be read.
    """
    folder, name = location.split()
    if not location.is_local:
        return bytes(objects.read_range(folder, name, offset, offset + size)) if size else b""
    with objects.one_line_errors(folder, name), location.local_path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, offset)


def read_whole(location: Location) -> bytes:
    """A file's bytes.

    Raises:
        ImageError: it has more bytes than any image.
        FileNotFoundError: there is no such file. OSError: it cannot be read, or is no regular file: a pipe would be
            waited for without end.
    """
    folder, name = location.split()
    if not location.is_local:
        return objects.read(folder, name, check_bytes=budget.refuse_image)
    path = location.local_path
    with objects.one_line_errors(folder, name):
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("not a regular file (a folder, a pipe, a socket or a device)")
        budget.refuse_image(path.stat().st_size)
        return path.read_bytes()


def open_ranges(location: Location) -> BinaryIO:
    """A file to read and seek in. On object storage, one request brings a buffer of 1 MiB."""
    folder, name = location.split()
    with objects.one_line_errors(folder, name):
        if location.is_local:
            return location.local_path.open("rb")
        return io.BufferedReader(RangeFile(location, objects.size(folder, name)), BUFFER_BYTES)


def each_file(location: Location) -> Iterator[list[ListedFile]]:
    """Every file below a folder, in batches as they are found, in no order."""
    with objects.one_line_errors(location):
        if location.is_local:
            yield from _batches(walk(location.local_path))
            return
        try:
            for batch in obstore.list(objects.open_folder(location), chunk_size=LIST_BATCH):
                yield [ListedFile(entry["path"], entry["size"]) for entry in batch]
        except BaseError as error:
            if not s3.is_odd_key(str(error)):
                raise
            yield from _batches(_with_odd_keys(location))


def _with_odd_keys(location: Location) -> Iterator[ListedFile]:
    """List with botocore: obstore refuses a bucket for one key with an empty part between slashes."""
    for key, size in s3.list_keys(location):
        odd = "//" in key or key.startswith("/")
        if not (key.endswith("/") or not key):
            yield ListedFile(key, size, "key with an empty part between slashes (rename it)" if odd else "")


def _batches(files: Iterable[ListedFile]) -> Iterator[list[ListedFile]]:
    them = iter(files)
    while batch := list(islice(them, LIST_BATCH)):
        yield batch


class RangeFile(io.RawIOBase):
    """An object as an unbuffered file; each read is a request."""

    def __init__(self, location: Location, size: int) -> None:
        self._location, self._size, self._position = location, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        content = read_range(self._location, self._position, count)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
