"""Bytes under URLs: read, write, write once, list; local folders and object stores alike.

A name is an object's key below a location, plain text with slashes.
"""

import contextlib
import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore

from gc_core.io import s3
from gc_core.io.location import Location

T = TypeVar("T")

PAUSES_S = (0.1, 0.5, 2, 4)
"""Pauses before each further try of a request that got no answer."""


class UnavailableError(OSError):
    """A store did not answer, or was overtaken: another try may succeed. What no try mends is another OSError."""


if TYPE_CHECKING:
    from obstore import ObjectMeta
    from typing_extensions import Buffer

STREAM_BYTES = 32 << 20
"""Piece of an object that is written or read piece by piece. Object stores take 10,000 pieces: 320 GB."""


def open_folder(location: Location, *, create: bool = False) -> ObjectStore:
    """The store whose keys are relative to `location`.

    Raises:
        FileNotFoundError: a local folder does not exist and `create` is off.
    """
    if not location.is_local:
        return s3.open_prefix(location.bucket, location.path)
    path = location.local_path
    if not create and not path.is_dir():
        raise FileNotFoundError(f"{location}: no such folder")
    return LocalStore(path, mkdir=create)


@contextmanager
def one_line_errors(location: Location, *name: str) -> Iterator[None]:
    """The store's errors in one line that names the object: obstore prints a page, and its errors are no OSErrors."""
    try:
        yield
    except (BaseError, OSError) as error:
        where = location / name[0] if name else location
        raise _in_one_line(error, where) from None  # a store's text repeats keys and signatures


def read(location: Location, name: str, *, check_bytes: Callable[[int], None] = lambda num_bytes: None) -> bytes:
    """The object's bytes. `check_bytes` hears how many there are before they are read, and may refuse by raising.

    Raises:
        FileNotFoundError: there is none. PermissionError: the store refuses. UnavailableError: it does not answer.
            OSError: its bucket is missing, the disk is full (so do all functions here).
    """
    return read_tagged(location, name, check_bytes=check_bytes)[0]


def read_tagged(
    location: Location, name: str, *, check_bytes: Callable[[int], None] = lambda num_bytes: None
) -> tuple[bytes, str]:
    """The object's bytes and their tag."""
    with one_line_errors(location, name):
        result = obstore.get(*client_and_key(location, name))
        check_bytes(result.meta["size"])
        return bytes(result.bytes()), result.meta["e_tag"] or ""


def read_range(location: Location, name: str, start: int, stop: int) -> memoryview:
    """Some of the object's bytes, in one request and without a copy."""
    with one_line_errors(location, name):
        folder, key = client_and_key(location, name)
        return memoryview(obstore.get_range(folder, key, start=start, length=stop - start))


def read_tail(location: Location, name: str, num_bytes: int) -> memoryview:
    """The object's last bytes, fewer if it has fewer."""
    with one_line_errors(location, name):
        folder, key = client_and_key(location, name)
        return memoryview(obstore.get(folder, key, options={"range": {"suffix": num_bytes}}).bytes())


def write(location: Location, name: str, content: bytes, *, media_type: str | None = None) -> None:
    """Replace the object as a whole: readers see the old bytes or the new, never a part.

    `media_type`, such as text/html, is what a browser hears of an object in a bucket; a file has none.
    """
    attributes = {"Content-Type": media_type} if media_type and not location.is_local else None
    with one_line_errors(location, name):
        obstore.put(*client_and_key(location, name, create=True), content, attributes=attributes)
        _to_disk(location, name)


def write_once(location: Location, name: str, content: bytes) -> bool:
    """Write unless the object exists; False if it did. Of racing writers at most one gets True, and one's bytes stay.

    A writer whose answer was lost on the way is told False for its own bytes: whoever needs to know compares them.
    """
    return create(location, name, content) is not None


def create(location: Location, name: str, content: bytes) -> str | None:
    """`write_once`, with the tag by which `stat` knows these bytes again; None if the object existed."""
    with one_line_errors(location, name):
        try:
            folder, key = client_and_key(location, name, create=True)
            done = _repeated(lambda: obstore.put(folder, key, content, mode="create", use_multipart=False))
        except AlreadyExistsError:
            return None
        _to_disk(location, name)
        return done["e_tag"] or ""


def stat(location: Location, name: str) -> tuple[int, str]:
    """The object's size in bytes, and its tag: another when other bytes are written there."""
    with one_line_errors(location, name):
        meta = obstore.head(*client_and_key(location, name))
        return meta["size"], meta["e_tag"] or ""


def delete(location: Location, name: str) -> None:
    """Remove the object, if there is one."""
    with one_line_errors(location, name):
        try:
            folder, key = client_and_key(location, name)
            _repeated(lambda: obstore.delete(folder, key))
        except FileNotFoundError:
            return


def sizes(location: Location) -> dict[str, int]:
    """Size in bytes of every object below the location, by name; empty where nothing is."""
    with one_line_errors(location):
        try:
            entries = _listed(location)
        except FileNotFoundError:
            return {}
        return {entry["path"]: entry["size"] for entry in entries}


def ages(location: Location) -> dict[str, tuple[int, float]]:
    """Size in bytes, and seconds since it was last written, of every object below the location, by name; on a disk what
    was cut off in writing (`NAME#1`) too. Ages compare the store's clock with this machine's, and may be negative."""
    now_s = time.time()
    with one_line_errors(location):
        if not location.is_local:
            return {
                each["path"]: (each["size"], now_s - each["last_modified"].timestamp()) for each in _listed(location)
            }
        found: dict[str, tuple[int, float]] = {}
        for name, path in _files(location.local_path):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                about = path.lstat()
                found[name] = (about.st_size, now_s - about.st_mtime)
        return found


def unlink(location: Location, name: str) -> None:
    """Remove an object like `delete`; on a disk also one cut off in writing, and the folders that are empty then."""
    if not location.is_local:
        delete(location, name)
        return
    top, path = location.local_path, location.local_path / name
    with one_line_errors(location, name):
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # one is not empty, or another process was faster
            for folder in takewhile(lambda folder: folder != top, path.parents):
                folder.rmdir()


def size(location: Location, name: str) -> int:
    """The object's size in bytes; FileNotFoundError if there is none."""
    return stat(location, name)[0]


@contextmanager
def stream_to(location: Location, name: str) -> Iterator[BinaryIO]:
    """Replace an object by what is written in the block; readers see the old bytes or the new, never a part.

    An error in the block leaves the old object. Memory: a few pieces of STREAM_BYTES.
    """
    with one_line_errors(location, name):
        writer = obstore.open_writer(open_folder(location, create=True), name, buffer_size=STREAM_BYTES)
        stream = io.BufferedWriter(_Pieces(writer), STREAM_BYTES)
        yield stream
        stream.flush()
        writer.close()  # and not after an error: closing completes the object
        _to_disk(location, name)


@contextmanager
def as_file(location: Location, name: str) -> Iterator[Path]:
    """The object as a file on this machine, for as long as the block lasts; FileNotFoundError if there is none."""
    with one_line_errors(location, name):
        if location.is_local:
            yield location.local_path / name
            return
        with tempfile.NamedTemporaryFile() as copy:
            for piece in obstore.get(open_folder(location), name).stream(STREAM_BYTES):
                copy.write(piece)
            copy.flush()
            yield Path(copy.name)


def folders(location: Location) -> list[str]:
    """Names of the folders directly below the location, empty and half-written ones included."""
    with one_line_errors(location):
        try:
            return sorted(obstore.list_with_delimiter(open_folder(location))["common_prefixes"])
        except FileNotFoundError:
            return []


def first_names(location: Location, *, most: int) -> list[str]:
    """Names directly below the location, of objects, files and folders, at most about that many; empty where nothing
    is.

    Raises:
        OSError: the location is a file, or cannot be read.
    """
    with one_line_errors(location):
        try:
            if location.is_local:
                return sorted(path.name for path in location.local_path.iterdir())[:most]
            batch = next(iter(obstore.list(open_folder(location), chunk_size=most)), [])
        except FileNotFoundError:
            return []
        return list(dict.fromkeys(entry["path"].partition("/")[0] for entry in batch))


def delete_named(location: Location, pattern: str) -> None:
    """Remove the objects below the location whose whole name matches, and on a disk the folders that are empty then.

    Whatever else is there, a stranger's, stays.
    """
    with one_line_errors(location):
        if not location.is_local:
            for name in sizes(location):
                if re.fullmatch(pattern, name):
                    delete(location, name)
            return
        top = location.local_path
        for name, path in _files(top):
            if re.fullmatch(rf"({pattern})(#\d+)?", name):  # #: what was cut off in writing
                path.unlink(missing_ok=True)
        _remove_empty_folders(top)


def _to_disk(location: Location, name: str) -> None:
    """Have a local file, and its name in its folder, outlast a loss of power: a record that is written next must not
    outlast what it is of. A bucket does so by itself."""
    if not location.is_local:
        return
    path = location.local_path / name
    for place in (path, path.parent):
        with contextlib.suppress(FileNotFoundError):  # another process has replaced or removed it
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _listed(location: Location) -> "Iterator[ObjectMeta]":
    batches = obstore.list(open_folder(location))  # at once, so that a folder that is not there is told here
    return (entry for batch in batches for entry in batch)


def _files(top: Path) -> Iterator[tuple[str, Path]]:
    """Files below a folder, what was cut off in writing too, by name with slashes."""
    for folder, _, names in os.walk(top, onerror=_unless_gone):
        for path in (Path(folder) / name for name in names):
            yield path.relative_to(top).as_posix(), path


def _unless_gone(error: OSError) -> None:
    """Another process that clears the same folder may be faster."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _remove_empty_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):  # it is not empty, or another process was faster
            Path(folder).rmdir()


def client_and_key(location: Location, name: str, *, create: bool = False) -> tuple[ObjectStore, str]:
    """The client to ask, and the object's key there. A bucket has one client, however many folders are read in it."""
    if location.is_local:
        return open_folder(location, create=create), name
    return s3.open_bucket(location.bucket), "/".join(filter(None, [location.path, name]))


def _repeated(request: Callable[[], T]) -> T:
    """Try again where no answer came, as obstore does for requests that are harmless twice. So are these: the second
    finds done what the first did."""
    for pause_s in PAUSES_S:
        try:
            return request()
        except GenericError as error:
            if not s3.is_silence(str(error)):
                raise
            time.sleep(pause_s)
    return request()


def _in_one_line(error: Exception, location: Location) -> OSError:
    said, url = str(error), location.url
    if not location.is_local and s3.is_missing_bucket(said):
        return OSError(f"{url}: no bucket {location.bucket!r} at {s3.endpoint_name()}; make it, or correct the URL")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{url}: not found")
    if "No space left on device" in said:
        return OSError(f"{url}: no space left on the disk; free some, then run the same command again")
    what = "permission denied" if location.is_local else s3.explain(said)
    refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError))
    if refused or what.startswith("refused"):
        return PermissionError(f"{url}: {what}")
    return UnavailableError(f"{url}: {said.splitlines()[0] if location.is_local else what}")


class _Pieces(io.RawIOBase):
    """Bytes are copied before they are sent: the giver may use their memory again at once."""

    def __init__(self, writer: "obstore.WritableFile") -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, content: "Buffer", /) -> int:
        return self._writer.write(bytes(memoryview(content)[:STREAM_BYTES]))
