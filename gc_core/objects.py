"""Bytes under URLs: read, write, write once, list; local folders and object stores alike."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore, ObjectStore, from_url


def normalise(location: str) -> str:
    """A URL without trailing slash for a path or a URL: `/data/run` becomes `file:///data/run`.

    Raises:
        ValueError: the scheme is not one that this system stores to.
    """
    scheme = urlsplit(location).scheme
    if scheme in ("", "file"):
        return Path(local_path(location)).resolve().as_uri()
    if scheme != "s3":
        raise ValueError(f"{location}: scheme {scheme!r} found, expected a path, file:// or s3://bucket/prefix")
    return location.rstrip("/")


def local_path(location: str) -> str:
    """The path behind a path or file:// URL, `~` expanded."""
    parts = urlsplit(location)
    return unquote(parts.path) if parts.scheme == "file" else os.path.expanduser(location)


def is_local(location: str) -> bool:
    """Whether the location is a folder on this machine."""
    return urlsplit(location).scheme in ("", "file")


def join(location: str, *names: str) -> str:
    """The URL of something below `location`."""
    return "/".join([location.rstrip("/"), *names])


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


def read(location: str, name: str) -> bytes:
    """The object's bytes; FileNotFoundError if there is none."""
    return bytes(obstore.get(open_folder(location), name).bytes())


def write(location: str, name: str, content: bytes) -> None:
    """Replace the object as a whole: readers see the old bytes or the new, never a part."""
    obstore.put(open_folder(location, create=True), name, content)


def write_once(location: str, name: str, content: bytes) -> bool:
    """Write unless the object exists; False if it did. Of racing writers exactly one gets True."""
    try:
        obstore.put(open_folder(location, create=True), name, content, mode="create", use_multipart=False)
    except AlreadyExistsError:
        return False
    return True


def sizes(location: str) -> dict[str, int]:
    """Size in bytes of every object below the location, by name; empty where nothing is."""
    try:
        batches = obstore.list(open_folder(location))
    except FileNotFoundError:
        return {}
    return {entry["path"]: entry["size"] for batch in batches for entry in batch}


def size(location: str, name: str) -> int:
    """The object's size in bytes; FileNotFoundError if there is none."""
    return obstore.head(open_folder(location), name)["size"]
