"""What workers warn of (loggers, and Python's own warnings), on the console, each line once: Ray keeps it in files of
its own. A task brings what it heard back with its result; a training, which lasts, tells it at once."""

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TextIO

from jobs.common import console

P = ParamSpec("P")

MOST = 50
"""Different warnings that are shown: a page, not a flood."""

_said: set[str] = set()


@dataclass(frozen=True, slots=True)
class Told:
    """A task's result, and what its worker warned of since the last."""

    result: Any
    lines: tuple[str, ...]


def telling(work: Callable[P, Any]) -> Callable[P, Any]:
    """What a task calls, with the worker's warnings beside its result, for `unwrapped`."""

    @functools.wraps(work)
    def told(*args: P.args, **kwargs: P.kwargs) -> Any:  # Ray copies its body: names alone are looked up in the worker
        listen()
        return beside(work(*args, **kwargs))

    return told


def listen() -> None:
    """Keep what this worker warns of, from now on and as long as it lives."""
    _heard()


def beside(result: Any) -> Any:
    """A result with what this worker has warned of and not told yet, if there is anything."""
    lines = _heard().new()
    return Told(result, lines) if lines else result


def unwrapped(result: Any) -> Any:
    """What the task returned; its warnings are said here."""
    if not isinstance(result, Told):
        return result
    for line in result.lines:
        say(line)
    return result.result


def say(line: str) -> None:
    """One warning, unless it was said before in this job."""
    if line not in _said and len(_said) <= MOST:
        _said.add(line)
        console.say(f"warning  {line if len(_said) <= MOST else 'more followed, which are not shown'}")


def forget() -> None:
    """A new job begins."""
    _said.clear()


@contextlib.contextmanager
def listening(tell: Callable[[str], Any]) -> Iterator[None]:
    """`tell` gets each warning of this process as a line, once, until the block ends."""
    stop = _attach(tell)
    try:
        yield
    finally:
        stop()


def _attach(tell: Callable[[str], Any]) -> Callable[[], None]:
    """Begin to listen; what is returned ends it."""
    tell_once = _Once(tell)
    ear, root, before = _Ear(tell_once), logging.getLogger(), warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        tell_once(f"{message} ({category.__name__}, {Path(filename).name}:{lineno})")
        before(message, category, filename, lineno, file, line)

    def stop() -> None:
        root.removeHandler(ear)
        warnings.showwarning = before

    root.addHandler(ear)
    warnings.showwarning = show
    return stop


class _Once:
    """Each text goes on once, as one line."""

    def __init__(self, tell: Callable[[str], Any]) -> None:
        self._tell = tell
        self._known: set[str] = set()

    def __call__(self, text: str) -> None:
        line = " ".join(text.split())
        if line not in self._known and len(self._known) <= MOST:
            self._known.add(line)
            self._tell(line)


class _Ear(logging.Handler):
    def __init__(self, tell: Callable[[str], Any]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] != "ray":  # what Ray does about lost workers is told by the job
            self._tell(record.getMessage())


class _Heard:
    """Lines of this process that nobody has taken."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        _attach(self._lines.append)

    def new(self) -> tuple[str, ...]:
        lines = tuple(self._lines)
        del self._lines[: len(lines)]  # others may have come by now
        return lines


_heard = functools.cache(_Heard)
