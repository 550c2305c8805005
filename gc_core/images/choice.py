"""Which of the files found are images that somebody meant: hidden twins are none, and of several images of one
sample one may be asked for.

A sample is what WebDataset calls so: files of one folder or archive whose names are alike up to the first dot. What
follows that dot is the key, such as `jpg` or `seg.png`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from urllib.parse import unquote

import pyarrow as pa

_HIDDEN = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini"})
MOST_KEYS = 6


def is_hidden(name: str) -> bool:
    """Whether a name below the location, or in an archive, is what systems and notebooks leave: `._x.jpg` of macOS,
    `.ipynb_checkpoints`, `__MACOSX`, thumbnails."""
    parts = name.split("/")
    return any((part.startswith(".") and part not in (".", "..")) or part.lower() in _HIDDEN for part in parts)


def split_key(name: str) -> tuple[str, str]:
    """A sample's name and the key, in small letters, of one of its files: `a/7.seg.png` is (`a/7`, `seg.png`)."""
    folder, slash, base = name.rpartition("/")
    stem, _, key = base.partition(".")
    return f"{folder}{slash}{stem}", key.lower()


def visible(listing: pa.Table) -> tuple[pa.Table, str]:
    """The listing without hidden members of archives, and what to say of it."""
    keep = [not is_hidden(member) for member in listing["member"].to_pylist()]
    return listing.filter(pa.array(keep, pa.bool_())), hidden_note(keep.count(False))


def hidden_note(count: int) -> str:
    """How many files were passed over; empty where none was."""
    return f"{count:,} hidden files there (such as ._x.jpg or .ipynb_checkpoints) are skipped" if count else ""


def of_key(listing: pa.Table, key: str | None) -> tuple[pa.Table, str]:
    """The images of one key, or all; and a warning where samples hold several.

    Raises:
        ValueError: no image has the key.
    """
    names = _names(listing)
    samples: dict[tuple[str, str], set[str]] = defaultdict(set)
    for url, name in names:
        stem, entry_key = split_key(name)
        samples[url, stem].add(entry_key)
    if key is None:
        return listing, _warning(samples.values())
    keep = [split_key(name)[1] == key.lower().lstrip(".") for _, name in names]
    if names and not any(keep):
        known = ", ".join(sorted({split_key(name)[1] for _, name in names})[:MOST_KEYS])
        raise ValueError(f"image_key: no image with {key!r} found, expected one of {known}")
    keep = [kept or bool(error) for kept, error in zip(keep, listing["error"].to_pylist(), strict=True)]
    return listing.filter(pa.array(keep, pa.bool_())), ""


def _names(listing: pa.Table) -> list[tuple[str, str]]:
    """Archive and name inside it of every entry; of a file its folder and name."""
    names = []
    for url, member in zip(listing["url"].to_pylist(), listing["member"].to_pylist(), strict=True):
        folder, _, name = url.rpartition("/")
        names.append((url, member) if member else (folder, unquote(name)))
    return names


def _warning(samples: Iterable[set[str]]) -> str:
    keys = Counter(key for sample in samples if len(sample) > 1 for key in sample)
    if not keys:
        return ""
    told = ", ".join(
        f"{count:,} {key}" for key, count in sorted(keys.items(), key=lambda each: (-each[1], each[0]))[:MOST_KEYS]
    )
    return f"some samples hold several images ({told}), all are taken; choose one with --image-key"
