"""Lists of images' locations: a text file with one on each line, or the strings of a column."""

from collections.abc import Iterable, Iterator

from gc_core.images.errors import ImageError
from gc_core.images.ranges import read_whole
from gc_core.images.ref import ImageRef, Listed
from gc_core.io.location import Location, scheme_of

MOST_CHARACTERS = 8192
"""Longest location."""


def scan(location: Location) -> Iterator[Listed]:
    """The locations in a text file; empty lines and those that begin with # are none. Relative ones begin at the
    file's own folder."""
    try:
        text = read_whole(location).decode("utf-8-sig", errors="replace")
    except ImageError as error:
        return iter([Listed(ref=ImageRef(url=location.url, member="(the whole list)"), error=str(error))])
    lines = (line.strip() for line in text.splitlines())
    return listed((line for line in lines if line and not line.startswith("#")), location.parent)


def listed(texts: Iterable[str | None], folder: Location) -> Iterator[Listed]:
    """The image at each location: a URL, a path, or a path relative to `folder`."""
    for row, text in enumerate(texts):
        if text and len(text) > MOST_CHARACTERS:
            error = f"not a location (a line of {len(text):,} characters)"
            yield Listed(ref=ImageRef(url=f"{text[:80]}..."), error=error)
            continue
        try:
            yield Listed(ref=ImageRef(url=_location(text or "", folder).url))
        except ValueError as error:
            yield Listed(ref=ImageRef(url=text or f"row {row}"), error=f"not a location ({error})")


def _location(text: str, folder: Location) -> Location:
    if not text:
        raise ValueError("empty")
    if scheme_of(text) or text.startswith(("/", "~")):
        return Location.parse(text)
    while text.startswith("../"):
        if folder.parent == folder:
            raise ValueError(f"leads out of {folder}")
        folder, text = folder.parent, text.removeprefix("../")
    return Location.parse((folder / text).url)
