"""The rows of one or many files as one array: which files, in which order, what each holds, and reading across them.

Letters: N rows, G group elements, C channels.
"""

import fnmatch
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gc_core.ingest import zarr_arrays
from gc_core.ingest.config import IngestConfig, IngestError
from gc_core.ingest.forms import FORMATS, UNREADABLE, Arrays, Opened, arrays_in
from gc_core.io import objects
from gc_core.io.location import Location

ZARR = "zarr"
FLOATS = re.compile(r"[<>=]?(float|bfloat|bf|f)\d+(_\w+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One array of one file."""

    url: str
    form: str
    """Suffix of the file, or `zarr`."""
    array: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def location(self) -> Location:
        """Location of the file."""
        return Location.of_url(self.url)

    @property
    def name(self) -> str:
        """What a person would call it."""
        return f"{self.url} ({self.array})" if self.array else self.url

    def open(self) -> Opened:
        """The array; IngestError if it cannot be read."""
        return _arrays(self.location, self.form)[self.array]()


@dataclass(frozen=True, kw_only=True)
class Source:
    """Samples laid end to end, in the order of the files."""

    pieces: tuple[Piece, ...]
    order: int
    """G"""
    channels: int
    scale: float

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Row after the last row of each piece."""
        return np.cumsum([piece.shape[0] for piece in self.pieces], dtype=np.int64)

    @property
    def num_rows(self) -> int:
        return int(self.ends[-1])

    def place(self, row: int) -> tuple[Piece, int]:
        """Which piece holds a row, and its number there."""
        number = int(np.searchsorted(self.ends, row, side="right"))
        return self.pieces[number], row - int(self.ends[number - 1] if number else 0)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """(n, G, C) consecutive rows, of the type that they are stored in.

        Raises:
            IngestError: a file is not what it was when the samples were counted, or cannot be read.
        """
        parts: list[NDArray[Any]] = []
        while start < stop:
            piece, first = self.place(start)
            last = min(piece.shape[0], first + stop - start)
            parts.append(_rows(piece, first, last).reshape(last - first, self.order, self.channels))
            start += last - first
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def survey(config: IngestConfig) -> Source:
    """Find and open everything that the config names; only headers are read.

    Raises:
        IngestError: nothing is there, an array must be named, or a shape or type is not what the options say.
    """
    pieces = pieces_at(config.activations, config.array)
    blocks = [_blocks(piece, config) for piece in pieces]
    for piece, (order, channels) in zip(pieces, blocks, strict=True):
        if channels != blocks[0][1]:
            raise IngestError(f"{piece.name}: {channels} channels found, expected {blocks[0][1]} as in {pieces[0].url}")
        _refuse_absent(piece, config)
        assert order == blocks[0][0], "of one group"
    if not sum(piece.shape[0] for piece in pieces):
        raise IngestError(f"{config.activations}: no samples found (shape {pieces[0].shape})")
    return Source(pieces=tuple(pieces), order=blocks[0][0], channels=blocks[0][1], scale=config.scale)


def image_ids(config: IngestConfig, source: Source) -> NDArray[Any] | None:
    """(N,) whole numbers or names of the images; None if none are given.

    Raises:
        IngestError: they are not one a sample, or of another type.
    """
    if config.image is None and config.image_array is None:
        return None
    if config.image is not None:
        pieces = pieces_at(config.image, config.image_array)
    else:
        pieces = [_piece(piece.location, piece.form, config.image_array) for piece in source.pieces]
    ids_N = np.concatenate([_ids(piece) for piece in pieces])
    if len(ids_N) != source.num_rows:
        where = config.image or config.activations
        raise IngestError(
            f"{where}: {len(ids_N):,} image ids found, expected one for each of {source.num_rows:,} samples"
        )
    return ids_N


def pieces_at(place: str, array: str | None) -> list[Piece]:
    """The arrays at a path or URL, in natural order.

    Raises:
        IngestError: there is nothing that can be read, or the name of an array is missing or wrong.
    """
    files = _files(Location.parse(place))
    if not files:
        forms = ", ".join([*FORMATS, "Zarr"])
        raise IngestError(f"{place}: no activations found, expected {forms}, or a folder or pattern of such files")
    return [_piece(file, form, array) for file, form in files]


def _files(location: Location) -> list[tuple[Location, str]]:
    """Each file, and its form; FileNotFoundError-free: an empty list where nothing is."""
    folder, pattern = location.split()
    if not re.search(r"[*?[]", pattern):
        if (suffix := _suffix(location)) in FORMATS and not _is_folder(location):
            return [(location, suffix)]
        folder, pattern = location, "*"
    if zarr_arrays.is_zarr(folder):
        return [(folder, ZARR)]
    names = [name for name in objects.sizes(folder) if "/" not in name and not name.startswith(".")]
    chosen = [(folder / name, Path(name).suffix.lower()) for name in names if fnmatch.fnmatch(name, pattern)]
    stores = [folder / name for name in objects.folders(folder) if fnmatch.fnmatch(name, pattern)]
    chosen = [(each, form) for each, form in chosen if form in FORMATS]
    chosen += [(each, ZARR) for each in stores if zarr_arrays.is_zarr(each)]
    return sorted(chosen, key=lambda entry: _natural(entry[0].url))


def _suffix(location: Location) -> str:
    return Path(location.name).suffix.lower()


def _is_folder(location: Location) -> bool:
    return location.is_local and location.local_path.is_dir()


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in a name count as numbers."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _arrays(location: Location, form: str) -> Arrays:
    return zarr_arrays.arrays_below(location) if form == ZARR else arrays_in(location)


def _piece(location: Location, form: str, array: str | None) -> Piece:
    held = _arrays(location, form)
    names = ", ".join(sorted(held)[:8]) or "no array"
    if array is None and len(held) != 1:
        raise IngestError(f"{location}: {names} found, expected one array; name it with --array")
    name = array if array is not None and "" not in held else next(iter(held))
    if name not in held:
        raise IngestError(f"{location}: no array {name!r} found, expected one of {names}")
    try:
        opened = held[name]()
    except IngestError:
        raise
    except UNREADABLE as error:
        raise IngestError(
            f"{location}: {name or 'its array'} cannot be read ({' '.join(str(error).split())})"
        ) from None
    return Piece(url=location.url, form=form, array=name, shape=opened.shape, dtype=opened.dtype)


def _blocks(piece: Piece, config: IngestConfig) -> tuple[int, int]:
    """G and C of a piece's rows."""
    if not FLOATS.fullmatch(piece.dtype):
        raise IngestError(f"{piece.name}: numbers of type {piece.dtype} found, expected floats; convert them first")
    order, row = config.parsed_group.order, list(piece.shape[1:])
    while len(row) > 2 and row[-1] == 1:
        row.pop()
    if order == 1 and len(row) == 1:
        row = [1, *row]
    if len(row) == 1 and config.flattened and row[0] % order == 0:
        row = [order, row[0] // order]
    expected = f"(N, {order}, C) for {config.group}"
    if len(row) == 1 and row[0] % order == 0 and not config.flattened:
        hint = f"if these are {order} blocks of {row[0] // order} numbers, one after the other, give --flattened"
        raise IngestError(f"{piece.name}: shape {piece.shape} found, expected {expected}; {hint}")
    if len(row) != 2 or row[0] != order or not row[1]:
        hint = _hint(row, order)
        raise IngestError(f"{piece.name}: shape {piece.shape} found, expected {expected}{hint}")
    return row[0], row[1]


def _hint(row: list[int], order: int) -> str:
    if len(row) == 2 and row[1] == order:
        return "; the last two axes seem to be exchanged"
    if len(row) == 2 and row[0] > 1:
        return f"; {row[0]} elements are those of " + (f"C{row[0]}" if row[0] % 2 else f"C{row[0]} or D{row[0] // 2}")
    return "; take one position of each map, the same for all elements" if len(row) > 2 else ""


def _refuse_absent(piece: Piece, config: IngestConfig) -> None:
    if piece.form != ZARR or config.absent_chunks:
        return
    if absent := zarr_arrays.absent_chunks(piece.location, piece.array):
        found = f"{piece.name}: {absent:,} chunks are missing and would read as the fill value"
        raise IngestError(f"{found}; write them, or accept that with --absent-chunks")


def _rows(piece: Piece, first: int, last: int) -> NDArray[Any]:
    try:
        opened = piece.open()
        if (opened.shape, opened.dtype) != (piece.shape, piece.dtype):
            found = f"{opened.shape} {opened.dtype} found, expected {piece.shape} {piece.dtype}"
            raise IngestError(f"{piece.name}: changed since its samples were counted: {found}; choose another --out")
        return opened.read(first, last)
    except IngestError:
        raise
    except UNREADABLE as error:
        raise IngestError(f"{piece.name}: rows {first} to {last - 1} cannot be read ({error})") from None


def _ids(piece: Piece) -> NDArray[Any]:
    if len(piece.shape) != 1 or not re.fullmatch(r"[<>|=]?(u?int\d+|[iu]\d+|U\d+|StringDType.*|str)", piece.dtype):
        found = f"{piece.dtype} {piece.shape} found"
        raise IngestError(f"{piece.name}: {found}, expected one whole number or name a sample, of shape (N,)")
    return _rows(piece, 0, piece.shape[0])
