"""Files below a local folder, whatever else is there: names that are no text, closed folders, links in circles."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file, or something that is none."""

    name: str
    """Below the folder, with slashes."""
    size: int
    error: str = ""
    """`KIND (details)` where it cannot be read."""


def walk(top: Path) -> Iterator[ListedFile]:
    """Every file, in no order. Links are followed, but not to a folder that is being walked already."""
    yield from _below(top, "", (_identity(top),))


def _below(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[ListedFile]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        yield ListedFile(
            f"{prefix}(the folder)", 0, f"folder cannot be read ({error.strerror or type(error).__name__})"
        )
        return
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if not _is_text(entry.name):
            yield ListedFile(_printable(name), 0, "name is not UTF-8 (rename it)")
            continue
        yield from _entry(entry, name, above)


def _entry(entry: "os.DirEntry[str]", name: str, above: tuple[tuple[int, int], ...]) -> Iterator[ListedFile]:
    try:
        about = entry.stat()
    except OSError as error:
        yield ListedFile(name, 0, f"not found ({error.strerror or type(error).__name__}; a broken link?)")
        return
    if stat.S_ISDIR(about.st_mode):
        if (about.st_dev, about.st_ino) in above:
            return  # a link back to where it was found from
        yield from _below(Path(entry.path), f"{name}/", (*above, (about.st_dev, about.st_ino)))
    elif stat.S_ISREG(about.st_mode):
        yield ListedFile(name, about.st_size)
    else:
        yield ListedFile(name, 0, "not a regular file (a pipe, a socket or a device)")


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()
