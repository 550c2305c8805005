"""Who is at work in a folder: one process at a time, told by signs of life, whatever its clock says.

    FOLDER/lease/00000003.json

is the third lease of a folder: created once, so that of racing processes one gets it, and rewritten by its holder
every few seconds with a number that grows. The newest lease is the one that counts. Who meets it watches that number by
its own clock: where it stands still for long, the holder is dead, and the next lease is created. A holder learns by a
newer lease that it was taken for dead; it must write nothing more. The newest record stays, also of a lease that was
given up, so that no number is used twice.
"""

import contextlib
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gc_core.io import objects
from gc_core.io.artefacts import DamagedError, sealed
from gc_core.io.json_objects import json_bytes, parse_json, read_json
from gc_core.io.location import Location

FOLDER = "lease"
RECORD = r"(\d{8})\.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """Seconds between signs of life, after which their absence means death, and between looks at another's."""

    beat_s: float = 10
    dead_s: float = 60
    look_s: float = 2


class LostError(OSError):
    """Another process took this one for dead, and works in its place."""


@dataclass(frozen=True, slots=True)
class Term:
    """A lease as others may know it, such as workers that write for its holder."""

    folder: Location
    number: int

    def check(self) -> None:
        """Raise LostError where a newer lease stands; to be asked before anything is written."""
        newest = _newest(self.folder)
        if newest.number > self.number:
            raise LostError(
                f"{self.folder}: {newest.holder()} has taken over this command's work, since it gave no sign of life"
                " for too long; nothing more is written here, follow the other command instead"
            )


def holder_of(folder: Location) -> str | None:
    """Who holds the lease of a folder, as far as can be told: a process of another machine that gave no notice of its
    end counts as alive. None where nobody does."""
    newest = _newest(folder)
    return None if newest.is_free else newest.holder()


def check_all(terms: Iterable[Term]) -> None:
    """Raise LostError where one of these leases is another's by now."""
    for term in terms:
        term.check()


@dataclass(frozen=True, slots=True)
class StoredLease:
    """The newest lease of a folder as it is stored; number 0 where there was none."""

    number: int
    content: bytes

    @property
    def record(self) -> dict[str, Any]:
        """What it says; nothing, where it is damaged: such a one is waited for like any other."""
        try:
            return parse_json(self.content, FOLDER)
        except DamagedError:
            return {}

    @property
    def is_free(self) -> bool:
        """Whether its holder has given it up, or was a process of this machine that has ended."""
        record = self.record
        return self.number == 0 or record.get("ended") is True or _has_ended(record)

    def holder(self) -> str:
        """Word of the holder for a person: the time is that of its own clock."""
        record = self.record
        since = record.get("since_unix_s")
        told = datetime.fromtimestamp(since, UTC) if isinstance(since, int) and 0 <= since < 2**32 else None
        at = f", since {told:%Y-%m-%d %H:%M} UTC" if told else ""
        return f"process {record.get('process', '?')!s:.20} on {record.get('host', '?')!s:.100}{at}"


class Lease:
    """Held by this process; a thread gives the signs of life."""

    def __init__(self, term: Term, record: dict[str, Any], rhythm: Rhythm) -> None:
        self.term = term
        self._record, self._rhythm = record, rhythm
        self._lost: LostError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True, name="lease")
        self._thread.start()

    def check(self) -> None:
        """Raise LostError if the thread has found that the lease is another's now; never waits."""
        if self._lost:
            raise self._lost

    def give_up(self) -> None:
        """Whoever waits need not wait until this process is taken for dead."""
        self._stop.set()
        self._thread.join(self._rhythm.beat_s)  # storage may not answer
        if not self._lost:
            self._write(ended=True)

    def _live(self) -> None:
        beats = 0
        while not self._stop.wait(self._rhythm.beat_s):
            beats += 1
            try:
                self.term.check()
                self._write(beats=beats)
            except LostError as error:
                self._lost = error
                return
            except OSError:  # no answer, or a full disk: the next sign may come through, and if none does, a newer
                continue  # lease tells

    def _write(self, **news: Any) -> None:
        self._record |= news
        objects.write(_folder(self.term.folder), _name(self.term.number), json_bytes(sealed(self._record)))


@contextmanager
def held(folder: Location, wait: Callable[[str, float], None], *, rhythm: Rhythm | None = None) -> Iterator[Lease]:
    """The lease of a folder, for as long as the block lasts.

    While another has it, `wait` hears every now and then who that is, and for how many seconds it was waited for; it
    may refuse to wait longer by raising.

    Raises:
        OSError: records cannot be read or written.
    """
    lease = _taken(folder, wait, rhythm or Rhythm())
    try:
        yield lease
    finally:
        with contextlib.suppress(OSError):  # told by what the block did in the same folder; others wait a minute
            lease.give_up()


def _taken(folder: Location, wait: Callable[[str, float], None], rhythm: Rhythm) -> Lease:
    began_s = time.monotonic()
    seen, seen_s = StoredLease(0, b""), began_s
    while True:
        newest, now_s = _newest(folder), time.monotonic()
        if newest != seen:
            seen, seen_s = newest, now_s
        if newest.is_free or now_s - seen_s > rhythm.dead_s:
            if lease := create(folder, newest.number + 1, rhythm):
                return lease
            continue
        wait(newest.holder(), now_s - began_s)
        time.sleep(rhythm.look_s)


def create(folder: Location, number: int, rhythm: Rhythm) -> Lease | None:
    """The next lease, if this process gets it and no newer one was made meanwhile."""
    record = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "machine": this_machine(),
        "process_began": began(os.getpid()),
        "since_unix_s": int(time.time()),
        "token": secrets.token_hex(8),
        "beats": 0,
        "ended": False,
    }
    is_ours = objects.write_once(_folder(folder), _name(number), json_bytes(sealed(record)))
    if not is_ours and _token(folder, number) != record["token"]:  # or the answer alone was lost
        return None
    if _newest(folder).number > number:  # who was slow may create a number that was in use, and is cleared since
        objects.delete(_folder(folder), _name(number))
        return None
    for earlier in _numbers(folder):
        if earlier < number:
            objects.delete(_folder(folder), _name(earlier))
    return Lease(Term(folder, number), record, rhythm)


def _newest(folder: Location) -> StoredLease:
    while numbers := _numbers(folder):
        with contextlib.suppress(FileNotFoundError):  # a newer one was made, and this one cleared
            return StoredLease(numbers[-1], objects.read(_folder(folder), _name(numbers[-1])))
    return StoredLease(0, b"")


def _numbers(folder: Location) -> list[int]:
    matches = (re.fullmatch(RECORD, name) for name in objects.sizes(_folder(folder)))
    return sorted(int(match[1]) for match in matches if match)


def _token(folder: Location, number: int) -> str | None:
    try:
        return read_json(_folder(folder), _name(number)).get("token")
    except (FileNotFoundError, DamagedError):
        return None


def _folder(folder: Location) -> Location:
    return folder / FOLDER


def _name(number: int) -> str:
    return f"{number:08}.json"


def _has_ended(record: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine, and is no more: after a crash nobody need wait."""
    pid, here = record.get("process"), this_machine()
    return isinstance(pid, int) and here is not None and record.get("machine") == here and _is_other(pid, record)


def _is_other(pid: int, record: dict[str, Any]) -> bool:
    return began(pid) != record.get("process_began")


def this_machine() -> str | None:
    """This start of this machine, and the processes that see one another there; None where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def began(pid: int) -> str | None:
    """When a process of this machine began, in ticks of its kernel: numbers of processes are used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
