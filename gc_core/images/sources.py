"""What a location holds: a folder of images, tar files, Parquet files, a list of URLs, or what is always at hand.

An image, tar or Parquet file is known by its name; any other single file is a list if it is text. A folder, or a
pattern, with images in it is those images; one without them is its tar files, or else its Parquet files.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gc_core.images import arrow, builtin, choice, formats, parquet, patterns, ranges, ref, saved, tar, url_list, zip
from gc_core.images.formats import SUFFIXES
from gc_core.images.ref import ImageRef, Listed
from gc_core.images.walk import ListedFile
from gc_core.io import objects
from gc_core.io.location import Location

Kind = Literal["image", "tar", "zip", "parquet", "arrow", "list"]
_CONTAINERS: tuple[Kind, ...] = ("tar", "zip", "parquet", "arrow")
"""Kinds of containers; of those in one folder the first kind listed here is used."""
Tick = Callable[[int], None]
"""Hears how many files were found so far."""

KNOWN = (
    "a folder, a .tar, .zip, .parquet or .arrow file, a pattern such as train-{000..146}.tar, a text file of URLs, "
    "`builtin`, `photographs`, `stimuli` or `all-stimuli`"
)
AT_HAND = ("builtin", "photographs", "stimuli", "all-stimuli")
MOST_ENDS = 8
"""Ends of names that a note tells."""
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
MOST_OPENED, OPENERS = 10_000, 16
"""Files without a suffix whose first bytes are looked at, and how many at once."""
_ARCHIVES = {"tar": tar.scan, "zip": zip.scan}
_TABLES = {"parquet": parquet.scan, "arrow": arrow.scan}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that holds images, or names them."""

    kind: Kind
    location: Location
    size: int
    column: str | None = None
    """Column of a table that holds the images; None to find it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was found at a location: images, or files that must be looked into."""

    listing: pa.Table
    """Table of images that are files of their own (`ref.LISTING`)."""
    containers: tuple[File, ...] = ()
    """Files to `scan`."""
    note: str = ""
    """What was found and is left out, for a person."""


def find(
    location: str,
    *,
    stimulus_px: int,
    max_stimuli: int,
    image_key: str | None = None,
    tick: Tick = lambda count: None,
) -> Source:
    """Look at a location, in a stable order: files by name. `image_key` is the column of tables.

    Raises:
        ValueError: it is none of the things in `KNOWN`, or holds nothing of them.
    """
    if location in AT_HAND:
        return Source(listing=ref.table_of(Listed(ref=image) for image in _at_hand(location, stimulus_px, max_stimuli)))
    source = _source(location, _files(location, tick))
    named = (replace(file, column=image_key) if file.kind in _TABLES else file for file in source.containers)
    return replace(source, containers=tuple(named))


def _at_hand(name: str, stimulus_px: int, max_stimuli: int) -> list[ImageRef]:
    photographs = builtin.photographs() if name in ("builtin", "photographs") else []
    scheme = builtin.ALL_STIMULI if name == "all-stimuli" else builtin.STIMULI
    return photographs + (builtin.drawn_stimuli(max_stimuli, stimulus_px, scheme) if name != "photographs" else [])


def scan(file: File) -> pa.Table:
    """The listing of a file that holds or names images. What cannot be read later stands there with its reason.

    Raises:
        OSError: the file cannot be read.
    """
    assert file.kind != "image", "an image is no container"
    if file.kind in _TABLES:
        return ref.table_of(_TABLES[file.kind](file.location, file.column))
    if file.kind == "list":
        return ref.table_of(url_list.scan(file.location))
    others: Counter[str] = Counter()
    whole = ref.table_of(_ARCHIVES[file.kind](file.location, lambda name: others.update(_ends([name]))))
    return pa.concat_tables([whole, ref.left_out(file.location.url, others)])


def list_images(location: str, *, stimulus_px: int, max_stimuli: int, image_key: str | None = None) -> list[ImageRef]:
    """The images at a location that can be asked for, listed in this process.

    Raises:
        ValueError: the location is none of the things in `KNOWN`, or holds nothing of them.
    """
    source = find(location, stimulus_px=stimulus_px, max_stimuli=max_stimuli, image_key=image_key)
    table, _ = joined(source, [scan(file) for file in source.containers], image_key)
    refuse_empty(table, location)
    return [entry.ref for entry in ref.listed_in(table) if not entry.error]


def joined(source: Source, scanned: Sequence[pa.Table], image_key: str | None) -> tuple[pa.Table, list[str]]:
    """One listing of a source's own images and of those in its containers, and what to say of it.

    Raises:
        ValueError: no image has the key.
    """
    everything, others = ref.without_left_out(pa.concat_tables([source.listing, *scanned]))
    whole, hidden = choice.visible(everything)
    is_table = any(file.kind in _TABLES for file in source.containers)
    table, several = choice.of_key(whole, None if is_table else image_key)
    return table, [note for note in (source.note, hidden, _left_out_by_suffix(others, "in archives"), several) if note]


def refuse_empty(listing: pa.Table, location: str) -> None:
    """ValueError unless there is an image in a listing; the first reason says why not."""
    errors = listing["error"].to_pylist()
    if not errors:
        raise ValueError(f"images: {location} is empty; expected {KNOWN}")
    if all(errors):
        more = f" ({len(errors)} like this)" if len(errors) > 1 else ""
        raise ValueError(f"images: no image in {listing['url'][0].as_py()}: {errors[0]}{more}")


def choose(count: int, at_most: int | None, seed: int) -> NDArray[np.int64]:
    """All of `count` places, or a seeded choice of them, in order."""
    if at_most is None or at_most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:at_most])


@dataclass(frozen=True, slots=True)
class _Files:
    """What lies at a location."""

    root: Location
    """The folder that names begin at."""
    files: list[ListedFile]
    """Files in the order of their names."""
    num_hidden: int = 0
    is_one_file: bool = False
    """The location is no folder and no pattern."""


def _files(text: str, tick: Tick) -> _Files:
    location = Location.parse(text)
    if (size := _size_of_file(location)) is not None:
        folder, name = location.split()
        return _Files(folder, [ListedFile(name, size)], is_one_file=True)
    if _is_local_folder(location) or not patterns.is_pattern(text):
        if location.is_local and not _is_local_folder(location):
            raise ValueError(f"images: {text} is neither a file nor a folder; expected {KNOWN}")
        everything = sorted(_below(location, tick), key=lambda each: each.name)
        shown = [each for each in everything if not choice.is_hidden(each.name)]
        return _Files(location, shown, len(everything) - len(shown))
    return _matching(location, tick)


def _matching(location: Location, tick: Tick) -> _Files:
    """The files that a pattern means; each part of a brace must mean one."""
    whole = f"/{location.path.lstrip('/')}"
    roots = {patterns.split_root(pattern)[0] for pattern in patterns.expand_braces(whole)}
    path = min(roots, key=len)
    while not all(f"{other}/".startswith(f"{path}/") for other in roots):
        path = path.rpartition("/")[0]
    below = len(path.rstrip("/")) + 1
    root = _at(location, path)
    files = {each.name: each for each in _below(root, tick)}
    matched: dict[str, ListedFile] = {}
    for pattern in (text[below:] for text in patterns.expand_braces(whole)):
        names = [pattern] if pattern in files else _names(pattern, files)
        if not names:
            where = path if root.is_local else root
            raise ValueError(f"images: nothing found for {pattern} below {where}; expected {KNOWN}")
        matched |= {name: files[name] for name in names}
    return _Files(root, list(matched.values()))


def _at(location: Location, path: str) -> Location:
    """Another path on the same disk, or in the same bucket."""
    if location.is_local:
        return Location.parse(Path(path or "/"))
    bucket = Location.of_url(f"s3://{location.bucket}")
    return bucket / path.strip("/") if path.strip("/") else bucket


def _names(pattern: str, files: Mapping[str, ListedFile]) -> list[str]:
    means = patterns.matcher(pattern)
    return sorted(name for name in files if means.fullmatch(name))


def _below(root: Location, tick: Tick) -> Iterator[ListedFile]:
    count = 0
    for batch in ranges.each_file(root):
        yield from batch
        count += len(batch)
        tick(count)


def _size_of_file(location: Location) -> int | None:
    """Size in bytes if the location is one file."""
    if location.is_local:
        path = location.local_path
        return path.stat().st_size if path.is_file() else None
    try:
        return objects.size(*location.split()) if location.name else None
    except FileNotFoundError:
        return None


def _is_local_folder(location: Location) -> bool:
    return location.is_local and location.local_path.is_dir()


def _source(location: str, there: _Files) -> Source:
    root, by_kind = there.root, _by_kind(there.root, there.files)
    faults = [Listed(ref=_ref(root, each), error=each.error) for each in there.files if each.error]
    notes = [choice.hidden_note(there.num_hidden)]
    if images := by_kind["image"]:
        refs = (ImageRef(url=(root / name).url, size=size) for name, size in images)
        notes.append(_left_out(by_kind, *_CONTAINERS, "compressed", "other"))
        listed = chain((Listed(ref=image) for image in refs), faults)
        return Source(listing=ref.table_of(listed), note="; ".join(filter(None, notes)))
    if packed := by_kind["compressed"]:
        raise ValueError(
            f"images: {root / packed[0][0]} is a compressed archive; images are read by their place, "
            "which needs a plain .tar: decompress it (images are compressed already)"
        )
    kinds: list[Kind] = [kind for kind in _CONTAINERS if by_kind[kind]]
    kind: Kind = kinds[0] if kinds else "list"
    if kind == "arrow":
        states = [each for each in by_kind["other"] if each[0].rpartition("/")[2] == saved.STATE]
        by_kind["arrow"], unnamed = saved.ordered(by_kind["arrow"], states, lambda name: _content(root, name))
        by_kind["other"] += unnamed
    if kind == "list":
        by_kind["list"], by_kind["other"] = [_only_list(location, there)], []
    containers = tuple(File(kind=kind, location=root / name, size=size) for name, size in by_kind[kind])
    others = (*_CONTAINERS[_CONTAINERS.index(kind) + 1 :], "other") if kind in _CONTAINERS else ()
    notes.append(_left_out(by_kind, *others))
    return Source(listing=ref.table_of(faults), containers=containers, note="; ".join(filter(None, notes)))


def _content(root: Location, name: str) -> bytes:
    return ranges.read_range(root / name, 0, saved.MOST_STATE_BYTES)


def _by_kind(root: Location, files: Iterable[ListedFile]) -> dict[str, list[tuple[str, int]]]:
    """Names and sizes of what can be read; a file without a suffix is an image if it begins like one."""
    by_kind: dict[str, list[tuple[str, int]]] = {kind: [] for kind in (*get_args(Kind), "compressed", "other")}
    for each in files:
        if not each.error:
            by_kind[_kind_by_name(each.name)].append((each.name, each.size))
    unknown = [each for each in by_kind["other"] if not formats.suffix_of(each[0]) and each[1]][:MOST_OPENED]
    with ThreadPoolExecutor(OPENERS) as threads:
        are_images = threads.map(lambda each: _begins_as_image(root, each[0]), unknown)
        images = {unknown[place] for place, is_image in enumerate(are_images) if is_image}
    if images:
        by_kind["other"] = [each for each in by_kind["other"] if each not in images]
        by_kind["image"] = sorted([*by_kind["image"], *images])
    return by_kind


def _begins_as_image(root: Location, name: str) -> bool:
    try:
        head = ranges.read_range(root / name, 0, formats.HEAD_BYTES)
    except OSError:
        return False
    return formats.is_image(head)


def _ref(root: Location, each: ListedFile) -> ImageRef:
    return ImageRef(url=(root / each.name).url, size=each.size)


def _kind_by_name(name: str) -> str:
    lower = name.lower()
    if lower.endswith(_COMPRESSED):
        return "compressed"
    if lower.endswith(".tar"):
        return "tar"
    if lower.endswith(".zip"):
        return "zip"
    if lower.endswith(arrow.SUFFIXES):
        # What Hugging Face's `datasets` keeps beside a saved set is the same images again, or older ones.
        return "other" if lower.rpartition("/")[2].startswith("cache-") else "arrow"
    if parquet.is_parquet(lower):
        return "parquet"
    return "image" if lower.endswith(SUFFIXES) else "other"


def _only_list(location: str, there: _Files) -> tuple[str, int]:
    """The one file that was asked for, if it is text."""
    root, files = there.root, there.files
    if not there.is_one_file:
        known = ", ".join(SUFFIXES)
        raise ValueError(
            f"images: no image among the {len(files)} files below {location}; expected {known}, .tar, .zip, "
            ".parquet or .arrow"
        )
    start = ranges.read_range(root / files[0].name, 0, min(files[0].size, 1024))
    hints = {
        b"PAR1": "name it .parquet",
        b"\x1f\x8b": "decompress it",
        b"ustar": "name it .tar",
        b"PK\3\4": "name it .zip",
    }
    for magic, remedy in hints.items():
        if start.startswith(magic) or start[257:262] == magic:
            raise ValueError(f"images: {location} is not a list of URLs (starts with {start[:8]!r}); {remedy}")
    if b"\0" in start:
        raise ValueError(f"images: {location} is not text (starts with {start[:8]!r}); expected {KNOWN}")
    return files[0].name, files[0].size


def _left_out(by_kind: dict[str, list[tuple[str, int]]], *kinds: str) -> str:
    """Note of how many archives are not opened, and how many other files there are, by the end of their names."""
    counts = [f"{len(by_kind[kind]):,} {kind}" for kind in kinds if kind != "other" and by_kind[kind]]
    notes = [f"{' and '.join(counts)} files there are not opened; name them to use them"] if counts else []
    notes.append(_left_out_by_suffix(_ends(name for name, _ in by_kind["other"] if "other" in kinds), "there"))
    return "; ".join(filter(None, notes))


def _ends(names: Iterable[str]) -> Counter[str]:
    return Counter(formats.suffix_of(name) or "without a suffix" for name in names if not choice.is_hidden(name))


def _left_out_by_suffix(ends: Counter[str], where: str) -> str:
    """How many files were left out, by the end of their names; empty where none was."""
    if not ends:
        return ""
    told = [f"{count:,} {end}" for end, count in ends.most_common(MOST_ENDS)]
    told += [f"{len(ends) - MOST_ENDS:,} more kinds"] if len(ends) > MOST_ENDS else []
    return f"{ends.total():,} files {where} are not images by their names and are left out: {', '.join(told)}"
