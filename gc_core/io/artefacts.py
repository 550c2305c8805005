"""SHA-256 of what is finished: recorded where it is named, checked when it is read. Storage notices no flipped bit.

A JSON record carries the hash of its own content (`sealed`); the record that names a file carries the file's. What was
written before there were hashes has none, and is read as it is.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gc_core.io import objects
from gc_core.io.location import Location

SEAL = "record_sha256"
HASH_DIGITS = 64
_HASH = f"[0-9a-f]{{{HASH_DIGITS}}}"


class DamagedError(ValueError):
    """Bytes are not those that were recorded, or cannot be read as what they should be."""


def digest(content: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the hash of everything else in it."""
    content = {name: value for name, value in record.items() if name != SEAL}
    return {**content, SEAL: _digest_of_json(content)}


def unsealed(record: Mapping[str, Any], where: str | Location) -> dict[str, Any]:
    """The record without its hash, which is checked if there is one.

    Raises:
        DamagedError: it is another record's.
    """
    content = {name: value for name, value in record.items() if name != SEAL}
    if SEAL not in record and not _is_renamed_seal(record):
        return content
    if record.get(SEAL) != _digest_of_json(content):
        raise DamagedError(f"{where}: was changed or damaged since it was written (its own SHA-256 differs)")
    return content


def _is_renamed_seal(record: Mapping[str, Any]) -> bool:
    """Whether an entry is the hash of all others: a seal whose own name was damaged."""
    hashes = {name: value for name, value in record.items() if isinstance(value, str) and len(value) == HASH_DIGITS}
    others = ({other: value for other, value in record.items() if other != name} for name in hashes)
    return any(_digest_of_json(rest) == recorded for rest, recorded in zip(others, hashes.values(), strict=True))


def hashes_in(record: Mapping[str, Any], where: str | Location) -> dict[str, str]:
    """The SHA-256 of each file that a record names; early versions named none.

    Raises:
        DamagedError: what stands there is no such list.
    """
    files = record.get("files", {})
    known = isinstance(files, dict) and all(isinstance(h, str) and re.fullmatch(_HASH, h) for h in files.values())
    if not known:
        raise DamagedError(f"{where}: its 'files' are not names with their SHA-256; restore it from a copy")
    return files


def check(content: bytes | memoryview, expected: str | None, where: str | Location, remedy: str) -> None:
    """Raise DamagedError unless the bytes have this SHA-256; None: none was recorded."""
    if expected is not None and (found := digest(content)) != expected:
        raise DamagedError(f"{_other_hash(where, found, expected)}; {remedy}")


@contextmanager
def checked_file(location: Location, name: str, expected: str | None, remedy: str) -> Iterator[Path]:
    """An object as a file on this machine, which was read once, piece by piece, to see that it is what was recorded.

    Raises:
        DamagedError: it is not. FileNotFoundError: there is none.
    """
    with objects.as_file(location, name) as path:
        if expected is not None and (found := _digest_of_file(path)) != expected:
            raise DamagedError(_other_hash(location / name, found, expected) + f"; {remedy}")
        yield path


def fault_of(location: Location, name: str, expected: str) -> str | None:
    """What is wrong with an object, read piece by piece; None if it has this SHA-256."""
    url = location / name
    try:
        with objects.as_file(location, name) as path:
            found = _digest_of_file(path)
    except FileNotFoundError:
        return f"{url}: is missing"
    return None if found == expected else _other_hash(url, found, expected)


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _other_hash(where: str | Location, found: str, expected: str) -> str:
    return f"{where}: SHA-256 {found[:12]}... found, {expected[:12]}... was recorded"


def _digest_of_json(content: Mapping[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
