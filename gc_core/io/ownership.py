"""Whose a folder is: nothing is written into a folder, or deleted from it, that this project did not make.

Every folder that a command fills carries a marker, a small JSON object that is made once. A folder that holds anything
and has no marker is a stranger's.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Literal

from gc_core.io import objects
from gc_core.io.artefacts import sealed, unsealed
from gc_core.io.location import Location

MARKER = "group-crosscoders.json"
FORMAT_VERSION = 1
Kind = Literal["run", "export", "object store"]

JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"})
"""What operating systems leave in folders that are otherwise empty."""
UNFINISHED = rf"{re.escape(MARKER)}#\d+"
"""A marker that is being written by another process, or whose writer was killed."""
MOST_UNFINISHED = 64
"""More than ever race for one folder."""


class ForeignError(ValueError):
    """A folder or file is not this project's, or is of another kind."""


def claim(location: Location, kind: Kind, *, recognises: Callable[[], bool] = lambda: False) -> None:
    """Mark an empty or new folder as this project's; a marked one is left as it is. Of racing claims all succeed.

    `recognises` tells whether an unmarked folder was made before there were markers.

    Raises:
        ForeignError: it holds something of others, or is marked as another kind.
        OSError: it cannot be read or written.
    """
    if read_marker(location, kind) is not None:
        return
    names = objects.first_names(location, most=len(JUNK) + MOST_UNFINISHED + 1)
    others = [name for name in names if name not in JUNK and not re.fullmatch(UNFINISHED, name)]
    if others and read_marker(location, kind) is None and not recognises():
        raise ForeignError(
            f"{location}: holds other files (such as {others[0]!r}) and is no {kind} of this program; nothing was"
            " changed there, name a new or empty folder"
        )
    objects.write_once(location, MARKER, marker(kind))


def marker(kind: Kind, **about: Any) -> bytes:
    """A marker's bytes."""
    record = sealed({"group_crosscoders": kind, "format_version": FORMAT_VERSION, **about})
    return json.dumps(record, indent=1).encode()


def read_marker(location: Location, kind: Kind) -> dict[str, Any] | None:
    """What the folder's marker says; None if it has none.

    Raises:
        ForeignError: it is marked as another kind, by a newer version, or not by this program.
    """
    try:
        content = objects.read(location, MARKER)
    except FileNotFoundError:
        return None
    try:
        record = unsealed(dict(json.loads(content)), location / MARKER)
        known = (record["group_crosscoders"], record["format_version"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ForeignError(
            f"{location / MARKER}: not this program's marker, expected that of a {kind}; name another folder"
        ) from None
    if known != (kind, FORMAT_VERSION):
        said = f"is marked as {known[0]!r}, version {known[1]!r}; expected {kind!r}, version {FORMAT_VERSION}"
        raise ForeignError(f"{location}: {said}, as {MARKER} there says; name another folder")
    return record
