"""What a person sees while a job runs: progress with rate and remaining time, one clear line for an error, a summary
table."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from jobs.common import interrupt
from jobs.common.errors import in_one_line


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whatever is said from now on goes nowhere, and Python does not complain when it ends; Rich alone would end
        the program with code 1."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BrokenPipeError


console = _Console(highlight=False)
if not console.is_terminal:
    console.width = 200  # a log has no edge; do not fold addresses

LOG_EVERY_S = 10.0
RUN_ID = "GC_LOG_JSON"
"""Variable of the environment that makes every piece of news one JSON object a line; its value is their `run`."""


class Meter:
    """A count of finished things, shown as a bar in a terminal and as a line every ten seconds in a log."""

    def set(self, done: float, note: str = "") -> None:
        """Show that `done` of the total are finished."""
        raise AssertionError("use `progress`")


@contextlib.contextmanager
def progress(title: str, total: float, unit: str, *, done: float = 0) -> Iterator[Meter]:
    """A meter for `total` things, `done` of them finished earlier (they do not count in the rate)."""
    bar = console.is_terminal and not os.environ.get(RUN_ID)
    meter: _Bar | _Log = _Bar(title, total, unit, done) if bar else _Log(title, total, unit, done)
    with meter:
        yield meter


@contextlib.contextmanager
def one_line_errors(*, remedy: str) -> Iterator[None]:
    """End the program with one clear line: code 1 for any error, 130 for Ctrl-C, 143 for SIGTERM; a second signal ends
    it at once. What reads our output may stop reading (`| head`)."""
    interrupt.forget()
    try:
        with interrupt.interruptible():
            yield
    except KeyboardInterrupt:
        _end_interrupted(remedy)
    except BrokenPipeError:
        sys.exit(interrupt.exit_code() if interrupt.came() else 141)
    except Exception as error:  # the one place where any error becomes a line
        if interrupt.came():
            _end_interrupted(remedy)  # workers got the signal too, and what was asked of them failed
        line = in_one_line(error)
        if not _written("error", text=line):
            console.print(Text.assemble(("Error: ", "bold red"), printable(line)), soft_wrap=True)
        raise SystemExit(1) from error


def _end_interrupted(remedy: str) -> NoReturn:
    with contextlib.suppress(BrokenPipeError):  # Ctrl-C ends what reads our output, too
        console.print(f"\n[yellow]{interrupt.describe()}[/] {remedy}")
    sys.exit(interrupt.exit_code())


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters, and those that turn the reading direction, are escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def summary(title: str, rows: list[tuple[str, str]]) -> None:
    """A two-column table: what, and its value or place."""
    if _written("summary", text=title, rows=[list(row) for row in rows]):
        return
    table = Table(
        title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0), title_style="bold"
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(printable(name), Text(printable(value)))
    console.print()
    console.print(table)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Numbers of several things under one another; the first column names them."""
    if _written("table", text=title, columns=columns, rows=rows):
        return
    rich_table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), title_style="bold")
    for place, column in enumerate(columns):
        rich_table.add_column(column, justify="right" if place else "left", header_style="dim", no_wrap=place == 0)
    for row in rows:
        rich_table.add_row(*(Text(printable(value)) for value in row))
    console.print()
    console.print(rich_table)


def say(text: str) -> None:
    """One line of news."""
    if not _written("news", text=text):
        console.print(Text(printable(text)), soft_wrap=True)


def _written(kind: str, **told: object) -> bool:
    """Whether news are JSON, one object a line; then this was written."""
    run = os.environ.get(RUN_ID)
    if run:
        line = {"time": datetime.now(UTC).isoformat(), "run": run, "kind": kind, **told}
        console.print(Text(json.dumps(line)), soft_wrap=True)
    return bool(run)


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def tell_every(interval_s: float) -> Callable[[], bool]:
    """A clock that answers True when the interval has passed since it last did."""
    last = [float("-inf")]

    def due() -> bool:
        if time.monotonic() - last[0] < interval_s:
            return False
        last[0] = time.monotonic()
        return True

    return due


class _Bar(Meter):
    def __init__(self, title: str, total: float, unit: str, done: float) -> None:
        columns = [
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
        ]
        columns += [
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(done),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        ]
        self._bar = Progress(*columns, console=console, speed_estimate_period=60)
        self._task = self._bar.add_task(f"{title:<8}", total=total, completed=int(done), note="starting")

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def set(self, done: float, note: str = "") -> None:
        interrupt.check()
        self._bar.update(self._task, completed=int(done), note=escape(printable(note)))


class _Rate(ProgressColumn):
    def __init__(self, already_done: float) -> None:
        super().__init__()
        self._already_done = already_done

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time or task.elapsed
        return Text(f"{(task.completed - self._already_done) / elapsed:,.1f}/s" if elapsed else "")


@dataclass
class _Log(Meter):
    title: str
    total: float
    unit: str
    already_done: float
    _due: Callable[[], bool] = field(default_factory=lambda: tell_every(LOG_EVERY_S))
    _start: float = field(default_factory=lambda: time.monotonic())  # looked up late, so that a test can set the clock
    _last_shown: float = -1

    def __enter__(self) -> None:
        self._due()

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, done: float, note: str = "") -> None:
        interrupt.check()
        if done != self._last_shown and (self._due() or done >= self.total):
            self._last_shown = done
            elapsed = max(time.monotonic() - self._start, 1e-9)
            rate = (done - self.already_done) / elapsed
            left = f"{duration((self.total - done) / rate)} left" if rate else "waiting"
            say(f"{self.title:<8} {done:,.0f}/{self.total:,.0f} {self.unit}  {rate:,.1f}/s  {left}  {note}".rstrip())
