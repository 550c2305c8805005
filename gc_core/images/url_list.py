"""Lists of pictures' locations: a text file with one on each line, or the strings of a column."""

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from gc_core.images.errors import ImageError
from gc_core.images.ranges import read_whole
from gc_core.images.ref import ImageRef, Listed
from gc_core.io import objects

MOST_CHARACTERS = 8192
"""Of a location."""


def scan(url: str) -> Iterator[Listed]:
    """The locations in a text file; empty lines and those that begin with # are none. Relative ones begin at the
    file's own folder."""
    folder, _ = objects.split(url)
    try:
        text = read_whole(url).decode("utf-8-sig", errors="replace")
    except ImageError as error:
        return iter([Listed(ref=ImageRef(url=url, member="(the whole list)"), error=str(error))])
    lines = (line.strip() for line in text.splitlines())
    return listed((line for line in lines if line and not line.startswith("#")), folder)


def listed(locations: Iterable[str | None], folder: str) -> Iterator[Listed]:
    """The picture at each location: a URL, a path, or a path relative to `folder`."""
    for row, location in enumerate(locations):
        if location and len(location) > MOST_CHARACTERS:
            error = f"not a location (a line of {len(location):,} characters)"
            yield Listed(ref=ImageRef(url=f"{location[:80]}..."), error=error)
            continue
        try:
            yield Listed(ref=ImageRef(url=_url(location or "", folder)))
        except ValueError as error:
            yield Listed(ref=ImageRef(url=location or f"row {row}"), error=f"not a location ({error})")


def _url(location: str, folder: str) -> str:
    if not location:
        raise ValueError("empty")
    if urlsplit(location).scheme or location.startswith(("/", "~")):
        return objects.normalise(location)
    while location.startswith("../"):
        folder, location = folder.rpartition("/")[0], location.removeprefix("../")
    return objects.normalise(objects.join(folder, location))
