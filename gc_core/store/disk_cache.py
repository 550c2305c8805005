"""Parts of remote objects on a fast local disk, with a limit in bytes; processes of one machine may share a folder."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Lock

LEFT_AFTER_CLEARING = 0.8
"""Share of the limit that stays when parts are removed, those unused for longest first."""
OWN_FOLDER = "group-crosscoders-cache"
OWN_NAMES = re.compile(r"[0-9a-f]{64}|part-\w+")
CHECK_EVERY_SHARE = 0.05
"""Share of the limit that one process adds between two looks at the folder."""


class DiskCache:
    """Bytes by key. What cannot be kept is not: a full disk costs time, and is no error.

    Every part is a file, put there whole by renaming, and touched when used. The limit may be exceeded by what all
    processes add between two looks. Readers check what they get: it carries checksums.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """ValueError if the limit is not positive. Parts lie in a folder of their own inside `folder`, which is made if
        it does not exist."""
        if max_bytes < 1:
            raise ValueError(f"cache: a limit of {max_bytes} bytes found, expected at least 1")
        folder = folder / OWN_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.max_bytes = folder, max_bytes
        self._added_bytes, self._lock = 0, Lock()
        self._clear()

    def get(self, key: str, fetch: Callable[[], memoryview]) -> memoryview:
        """The bytes of `key`, fetched if they are not here."""
        path = self.folder / hashlib.sha256(key.encode()).hexdigest()
        with contextlib.suppress(OSError):
            cached = path.read_bytes()
            os.utime(path)
            return memoryview(cached)
        content = fetch()
        with contextlib.suppress(OSError):
            self._put(path, content)
        return content

    def forget(self, key: str) -> None:
        """Drop bytes that turned out to be damaged."""
        with contextlib.suppress(OSError):
            (self.folder / hashlib.sha256(key.encode()).hexdigest()).unlink()

    def _put(self, path: Path, content: memoryview) -> None:
        if len(content) > self.max_bytes:
            return
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="part-", delete=False) as part:
            try:
                part.write(content)
            except OSError:
                Path(part.name).unlink()
                raise
        Path(part.name).rename(path)
        with self._lock:
            self._added_bytes += len(content)
            full = self._added_bytes > CHECK_EVERY_SHARE * self.max_bytes
            self._added_bytes = 0 if full else self._added_bytes
        if full:
            self._clear()

    def _clear(self) -> None:
        """Remove what was unused for longest, if the folder holds too much."""
        entries: list[tuple[float, int, Path]] = []
        for path in (path for path in self.folder.iterdir() if OWN_NAMES.fullmatch(path.name)):
            with contextlib.suppress(OSError):  # another process removed it
                about = path.stat()
                entries.append((about.st_mtime, about.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= self.max_bytes:
            return
        for _, size, path in sorted(entries):
            if total <= LEFT_AFTER_CLEARING * self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size
