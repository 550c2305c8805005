"""Images that moved: where to look instead, and what to say of those that are not there, or not the same."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from gc_core.images.ref import ImageRef
from gc_core.io.location import Location


class ReplacedError(OSError):
    """Another image, or none, lies where one was indexed."""


@dataclass(frozen=True, slots=True)
class Move:
    """Everything that lay below one place lies below another."""

    old: str
    new: str
    """Both URLs without a trailing slash."""


def parse(moves: Sequence[str]) -> tuple[Move, ...]:
    """Each `OLD=NEW`, paths or URLs of folders or files; an `=` inside OLD is written %3D, in a URL.

    Raises:
        ValueError: one is not of that form.
    """
    return tuple(_move(text) for text in moves)


def relocate(urls: Sequence[str], moves: Sequence[Move]) -> list[str]:
    """Every URL with the longest OLD that it begins with replaced by its NEW, whole folder names alone.

    Raises:
        ValueError: an OLD is the beginning of none.
    """
    longest_first = sorted(moves, key=lambda move: -len(_parts(move.old)))
    unused, relocated = set(moves), []
    for url in urls:
        move = next((move for move in longest_first if _is_below(url, move.old)), None)
        relocated.append(_moved(url, move) if move else url)
        if move:
            unused.discard(move)
    if unused and urls:
        old = next(move.old for move in moves if move in unused)
        raise ValueError(f"images_at: no image lies below {old}; the first is {urls[0]}, expected OLD=NEW with its OLD")
    return relocated


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Images that could not be read again."""

    num_images: int
    """How many were asked for."""
    missing: tuple[ImageRef, ...]
    replaced: tuple[ImageRef, ...]
    """Others lie where they were."""

    @staticmethod
    def among(errors: Iterable[tuple[ImageRef, OSError | None]]) -> "Absent":
        """Sort images by what reading each raised."""
        asked = list(errors)
        failed = [(ref, error) for ref, error in asked if error is not None]
        return Absent(
            num_images=len(asked),
            missing=tuple(ref for ref, error in failed if not isinstance(error, ReplacedError)),
            replaced=tuple(ref for ref, error in failed if isinstance(error, ReplacedError)),
        )

    def describe(self) -> str:
        """How many of which, and the remedy, in one line; empty where all were read."""
        if not (self.missing or self.replaced):
            return ""
        said = [f"{len(self.missing):,} are missing"] if self.missing else []
        said += [f"{len(self.replaced):,} were replaced by others"] if self.replaced else []
        first = (self.missing or self.replaced)[0]
        return (
            f"of {self.num_images:,} images {' and '.join(said)} (the first: {first.url}); put them back, "
            f"or say where they are now: {option(first)}"
        )


def option(ref: ImageRef) -> str:
    """What to add to a command, with the folder that an image, or the file around it, was in."""
    folder = ref.location.parent
    plain = folder.is_local and "=" not in folder.path
    return f"--images-at {folder.path if plain else folder.url.replace('=', '%3D')}=NEW"


def _move(text: str) -> Move:
    old, equals, new = text.partition("=")
    if not (equals and old and new):
        raise ValueError(f"images_at: found {text!r}, expected OLD=NEW, such as /data/photos=/mnt/photos")
    try:
        return Move(Location.parse(old).url.removesuffix("/"), Location.parse(new).url.removesuffix("/"))
    except ValueError as error:
        raise ValueError(f"images_at: {error}") from None


def _parts(url: str) -> list[str]:
    return [unquote(part) for part in url.split("/")]


def _is_below(url: str, old: str) -> bool:
    parts = _parts(old)
    return _parts(url)[: len(parts)] == parts


def _moved(url: str, move: Move) -> str:
    return "/".join([move.new, *url.split("/")[len(_parts(move.old)) :]])
