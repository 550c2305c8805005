"""Bytes under URLs: read, write, write once, list; local folders and object stores alike.

A location is a path or a URL; a name is an object's key below it, plain text with slashes. In URLs, names stand
percent-encoded.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError
from obstore.store import LocalStore, ObjectStore, from_url

if TYPE_CHECKING:
    from typing_extensions import Buffer

STREAM_BYTES = 32 << 20
"""Of an object that is written or read piece by piece. Object stores take 10,000 pieces: 320 GB."""


def normalise(location: str) -> str:
    """A URL without trailing slash for a path or a URL: `/data/run` becomes `file:///data/run`.

    Raises:
        ValueError: the URL is not one that this system stores to.
    """
    parts = urlsplit(location)
    if not parts.scheme:
        return Path(local_path(location)).resolve().as_uri()
    if parts.scheme not in ("file", "s3"):
        raise ValueError(
            f"{location}: scheme {parts.scheme!r} found, expected a path, file:///path or s3://bucket/prefix"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"{location}: a bare '?' or '#' found in a URL; write %3F or %23")
    if parts.scheme == "s3":
        if not parts.netloc:
            raise ValueError(f"{location}: no bucket found, expected s3://bucket/prefix")
        return location.rstrip("/")
    if parts.netloc:
        raise ValueError(f"{location}: host {parts.netloc!r} found, expected three slashes: file:///{parts.netloc}...")
    return Path(local_path(location)).resolve().as_uri()


def local_path(location: str) -> str:
    """The path behind a path or file:// URL, `~` expanded in a path."""
    parts = urlsplit(location)
    return unquote(parts.path) if parts.scheme == "file" else str(Path(location).expanduser())


def is_local(location: str) -> bool:
    """Whether the location is a folder on this machine."""
    return urlsplit(location).scheme in ("", "file")


def join(location: str, *names: str) -> str:
    """The URL of something below `location`."""
    return "/".join([normalise(location), *(quote(name) for name in names)])


def split(url: str) -> tuple[str, str]:
    """An object's folder, a URL, and its name there: `read(*split(join(location, name)))` reads that object."""
    folder, _, name = url.rpartition("/")
    return folder, unquote(name)


def open_folder(location: str, *, create: bool = False) -> ObjectStore:
    """The store whose keys are relative to `location`.

    Raises:
        FileNotFoundError: a local folder does not exist and `create` is off.
    """
    url = normalise(location)
    if not is_local(url):
        return from_url(url)
    path = Path(local_path(url))
    if not create and not path.is_dir():
        raise FileNotFoundError(f"{location}: no such folder")
    return LocalStore(path, mkdir=create)


@contextmanager
def one_line_errors(location: str, *name: str) -> Iterator[None]:
    """The store's errors in one line that names the object: obstore prints a page, and its errors are no OSErrors."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{join(location, *name)}: not found") from None
    except (PermissionDeniedError, PermissionError):
        raise PermissionError(f"{join(location, *name)}: permission denied") from None
    except (BaseError, OSError) as error:
        raise OSError(f"{join(location, *name)}: {str(error).splitlines()[0]}") from error


def read(location: str, name: str) -> bytes:
    """The object's bytes.

    Raises:
        FileNotFoundError: there is none. OSError: the store cannot be reached or refuses (so do all functions here).
    """
    with one_line_errors(location, name):
        return bytes(obstore.get(open_folder(location), name).bytes())


def write(location: str, name: str, content: bytes) -> None:
    """Replace the object as a whole: readers see the old bytes or the new, never a part."""
    with one_line_errors(location, name):
        obstore.put(open_folder(location, create=True), name, content)


def write_once(location: str, name: str, content: bytes) -> bool:
    """Write unless the object exists; False if it did. Of racing writers exactly one gets True."""
    with one_line_errors(location, name):
        try:
            obstore.put(open_folder(location, create=True), name, content, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True


def delete(location: str, name: str) -> None:
    """Remove the object, if there is one."""
    with one_line_errors(location, name):
        try:
            obstore.delete(open_folder(location), name)
        except FileNotFoundError:
            return


def sizes(location: str) -> dict[str, int]:
    """Size in bytes of every object below the location, by name; empty where nothing is."""
    with one_line_errors(location):
        try:
            batches = obstore.list(open_folder(location))
        except FileNotFoundError:
            return {}
        return {entry["path"]: entry["size"] for batch in batches for entry in batch}


def size(location: str, name: str) -> int:
    """The object's size in bytes; FileNotFoundError if there is none."""
    with one_line_errors(location, name):
        return obstore.head(open_folder(location), name)["size"]


@contextmanager
def stream_to(location: str, name: str) -> Iterator[BinaryIO]:
    """Replace an object by what is written in the block; readers see the old bytes or the new, never a part.

    An error in the block leaves the old object. Memory: a few pieces of STREAM_BYTES.
    """
    with one_line_errors(location, name):
        writer = obstore.open_writer(open_folder(location, create=True), name, buffer_size=STREAM_BYTES)
        stream = io.BufferedWriter(_Pieces(writer), STREAM_BYTES)
        yield stream
        stream.flush()
        writer.close()  # and not after an error: closing completes the object


@contextmanager
def as_file(location: str, name: str) -> Iterator[Path]:
    """The object as a file on this machine, for as long as the block lasts; FileNotFoundError if there is none."""
    with one_line_errors(location, name):
        if is_local(location):
            yield Path(local_path(location)) / name
            return
        with tempfile.NamedTemporaryFile() as copy:
            for piece in obstore.get(open_folder(location), name).stream(STREAM_BYTES):
                copy.write(piece)
            copy.flush()
            yield Path(copy.name)


def folders(location: str) -> list[str]:
    """Names of the folders directly below the location, empty and half-written ones included."""
    with one_line_errors(location):
        try:
            return sorted(obstore.list_with_delimiter(open_folder(location))["common_prefixes"])
        except FileNotFoundError:
            return []


def delete_folder(location: str) -> None:
    """Remove everything below the location, if there is anything."""
    with one_line_errors(location):
        if is_local(location):
            shutil.rmtree(local_path(location), ignore_errors=not Path(local_path(location)).exists())
        else:
            obstore.delete(open_folder(location), list(sizes(location)))


class _Pieces(io.RawIOBase):
    """Bytes are copied before they are sent: the giver may use their memory again at once."""

    def __init__(self, writer: "obstore.WritableFile") -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, content: "Buffer", /) -> int:
        return self._writer.write(bytes(memoryview(content)[:STREAM_BYTES]))
