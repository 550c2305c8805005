"""Folders of Hugging Face's `save_to_disk`: which Arrow files belong to a data set, and in which order.

`state.json` beside the files names them; it is written after them. A set in several splits has a folder for each.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence

STATE = "state.json"
MOST_STATE_BYTES = 16 << 20
_SHARD = re.compile(r"data-\d{5,}-of-(\d{5,})\.arrow")

Sized = tuple[str, int]
"""A file's name below the location, and its bytes."""


def ordered(
    arrows: Sequence[Sized], states: Iterable[Sized], read: Callable[[str], bytes]
) -> tuple[list[Sized], list[Sized]]:
    """The files of every data set in its own order, folders by name; and those that no `state.json` beside them names.

    `read` gives the bytes of a `state.json`.

    Raises:
        ValueError: a file that belongs to a data set is not there, or a `state.json` says nothing.
    """
    by_folder = _by_folder(arrows)
    known = {folder: f"{folder}{STATE}" for folder in _by_folder(states)}
    sizes = dict(states)
    used, unnamed = list[Sized](), list[Sized]()
    for folder in sorted({*by_folder, *known}):
        files = by_folder.get(folder, {})
        if folder not in known:
            _refuse_half(folder, files)
            used += files.items()
            continue
        names = _named(known[folder], sizes[known[folder]], read)
        if missing := [name for name in names if f"{folder}{name}" not in files]:
            raise ValueError(_half(f"{folder}{missing[0]}", f"{known[folder]} names it"))
        used += [(f"{folder}{name}", files[f"{folder}{name}"]) for name in names]
        unnamed += [each for each in files.items() if each[0].removeprefix(folder) not in names]
    return used, unnamed


def _by_folder(files: Iterable[Sized]) -> dict[str, dict[str, int]]:
    by_folder: dict[str, dict[str, int]] = {}
    for name, size in files:
        folder, slash, _ = name.rpartition("/")
        by_folder.setdefault(f"{folder}{slash}", {})[name] = size
    return by_folder


def _named(state: str, num_bytes: int, read: Callable[[str], bytes]) -> list[str]:
    """Names of the files of a data set, in order."""
    try:
        if num_bytes > MOST_STATE_BYTES:
            raise ValueError(f"{num_bytes:,} bytes")
        names = [each["filename"] for each in json.loads(read(state))["_data_files"]]
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a name that is not text")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"images: {state} does not say which files a saved data set has ({type(error).__name__}); save it again"
        ) from None
    return names


def _refuse_half(folder: str, files: dict[str, int]) -> None:
    """Refuse an incomplete data set without a `state.json`: its files' names say how many there are."""
    shards = [match for name in files if (match := _SHARD.fullmatch(name.removeprefix(folder)))]
    for match in shards:
        if len(shards) < (count := int(match[1])):
            missing = f"{count - len(shards):,} of {count:,} files below {folder or './'}"
            raise ValueError(_half(missing, "the files' names give their number"))


def _half(missing: str, why: str) -> str:
    return f"images: an incomplete saved data set: {missing} not found ({why}); copy all of it, or save it again"
