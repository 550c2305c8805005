"""SHA-256 of what is finished: recorded where it is named, checked when it is read. Storage notices no flipped bit.

A JSON record carries the hash of its own content (`sealed`); the record that names a file carries the file's. What was
written before there were hashes has none, and is read as it is.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from gc_core import objects

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


def unsealed(record: Mapping[str, Any], where: str) -> dict[str, Any]:
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
    return any(_digest_of_json(rest) == found for rest, found in zip(others, hashes.values(), strict=True))


def hashes_in(record: Mapping[str, Any], where: str) -> dict[str, str]:
    """The SHA-256 of each file that a record names; early versions named none.

    Raises:
        DamagedError: what stands there is no such list.
    """
    files = record.get("files", {})
    known = isinstance(files, dict) and all(isinstance(h, str) and re.fullmatch(_HASH, h) for h in files.values())
    if not known:
        raise DamagedError(f"{where}: its 'files' are not names with their SHA-256; restore it from a copy")
    return files


def check(content: bytes | memoryview, expected: str | None, where: str, remedy: str) -> None:
    """Raise DamagedError unless the bytes have this SHA-256; None: none was recorded."""
    if expected is not None and (found := digest(content)) != expected:
        raise DamagedError(f"{where}: SHA-256 {found[:12]}... found, {expected[:12]}... was recorded; {remedy}")


def read_checked(location: str, name: str, expected: str | None, remedy: str) -> bytes:
    """An object's bytes.

    Raises:
        DamagedError: they are not what was recorded. FileNotFoundError: there is none.
    """
    content = objects.read(location, name)
    check(content, expected, objects.join(location, name), remedy)
    return content


def fault_of(location: str, name: str, expected: str) -> str | None:
    """What is wrong with an object, read piece by piece; None if it has this SHA-256."""
    url = objects.join(location, name)
    try:
        with objects.as_file(location, name) as path, path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{url}: is missing"
    return None if found == expected else f"{url}: SHA-256 {found[:12]}... found, {expected[:12]}... was recorded"


def _digest_of_json(content: Mapping[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
