"""What a location is: a folder or an object, on this machine or in a bucket. Parsed once, where its text comes in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from gc_core.bounds import refuse_odd_text

EXPECTED = "expected a path, file:///path or s3://bucket/prefix"


@dataclass(frozen=True, order=True, slots=True)
class Location:
    """A value: equal to any other with the same URL, which is its text. Made by `parse`; what lies below, by `/`."""

    url: str
    """URL without a slash at its end. Names in it are percent-encoded, unless who wrote an s3:// URL did not."""
    scheme: Literal["file", "s3"] = field(compare=False, repr=False)
    bucket: str = field(compare=False, repr=False)
    """Empty on this machine."""
    path: str = field(compare=False, repr=False)
    """Plain text: the whole path on this machine, or the prefix in the bucket, which is empty for all of it."""

    @staticmethod
    def parse(text: "str | Path | Location") -> "Location":
        """A path or URL from outside, such as a command line, a configuration or a manifest; a location is one already.

        Paths become absolute, `~` is expanded and links are followed: `data/run` becomes `file:///home/me/data/run`.

        Raises:
            ValueError: it is not one that this system stores to.
        """
        if isinstance(text, Location):
            return text
        if isinstance(text, Path):
            return Location.of_url(_uri(text))
        if not text.strip():
            raise ValueError(f"location: {text!r} found, {EXPECTED}")
        refuse_odd_text("location", text)
        if scheme_of(text) not in ("", "file"):
            return Location.of_url(text)
        return Location.of_url(_uri(local_path(text)))

    @staticmethod
    def of_url(url: str) -> "Location":
        """The location whose text this is, or an absolute path as it stands. No disk is asked: any machine finds the
        same.

        Raises:
            ValueError: it is no file:// or s3:// URL.
        """
        if url.startswith("/"):
            url = Path(url).as_uri()
        parts = _split(url)
        if parts.scheme not in ("file", "s3"):
            raise ValueError(f"{url}: scheme {parts.scheme!r} found, {EXPECTED}")
        if parts.query or parts.fragment:
            raise ValueError(f"{url}: a bare '?' or '#' found in a URL; write %3F or %23")
        if parts.scheme == "s3":
            if not parts.netloc:
                raise ValueError(f"{url}: no bucket found, expected s3://bucket/prefix")
            return Location(url.rstrip("/"), "s3", parts.netloc, unquote(parts.path).strip("/"))
        if parts.netloc:
            raise ValueError(f"{url}: host {parts.netloc!r} found, expected three slashes: file:///{parts.netloc}...")
        if not parts.path:
            raise ValueError(f"{url}: no path found, {EXPECTED}")
        path = unquote(parts.path).rstrip("/") or "/"
        return Location(url.rstrip("/") if path != "/" else "file:///", "file", "", path)

    def __truediv__(self, name: str) -> "Location":
        """What lies below under a name, plain text with slashes."""
        path = _below(self.path, name) if self.path else name
        return Location(_below(self.url, quote(name)), self.scheme, self.bucket, path)

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[Callable[[str], "Location"], tuple[str]]:
        return Location.of_url, (self.url,)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return self.scheme == "file"

    @property
    def local_path(self) -> Path:
        """The path on this machine, where all local locations are."""
        assert self.is_local, f"{self.url} is not on this machine"
        return Path(self.path)

    @property
    def without_scheme(self) -> str:
        """`bucket/prefix` or the path: what Arrow and Ray Train call a place, its file system given apart."""
        return self.path if self.is_local else "/".join(filter(None, [self.bucket, self.path]))

    @property
    def name(self) -> str:
        """The last part, plain text; empty for a whole bucket or disk."""
        return unquote(self.url.rpartition("/")[2]) if self.path else ""

    @property
    def parent(self) -> "Location":
        """The folder around it; a whole bucket or disk is its own."""
        if not self.path.strip("/"):
            return self
        folder = self.url.rpartition("/")[0]
        return Location.of_url("file:///" if folder == "file://" else folder)

    def split(self) -> tuple["Location", str]:
        """An object's folder and its name there: `read(*(folder / name).split())` reads that object."""
        return self.parent, self.name


def scheme_of(text: str) -> str:
    """Scheme of a URL, in small letters; empty for a path.

    Raises:
        ValueError: it is neither.
    """
    return _split(text).scheme


def local_path(text: str) -> Path:
    """The path that a path or file:// URL names, links in it left as they are.

    Raises:
        ValueError: it is on no disk of this machine, or `~` names a user that is not known here.
    """
    scheme = scheme_of(text)
    if scheme == "file":
        return Path(Location.of_url(text).path)
    if scheme:
        raise ValueError(f"{text}: scheme {scheme!r} found, expected a path or file:///path on this machine")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # as pathlib says it
        raise ValueError(f"{text[:200]!r}: no home folder is known for '~'; write the whole path") from None


def _below(folder: str, name: str) -> str:
    return f"{folder}{name}" if folder.endswith("/") else f"{folder}/{name}"


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError as error:  # brackets where a host would stand
        found = f"{text}: neither a path nor a URL ({error})"
        raise ValueError(f"{found}; expected one such as s3://bucket/prefix") from None


def _uri(path: Path) -> str:
    try:
        return path.expanduser().resolve().as_uri()
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = str(error).splitlines()[0]
        raise ValueError(f"location: {str(path)[:200]!r} found, which cannot be a path ({reason})") from None
