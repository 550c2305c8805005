"""Which processes belong to a job, whether they end with it, and what stands for Ctrl-C in one."""

import contextlib
import time
from pathlib import Path
from typing import NoReturn

SECONDS_TO_FOLLOW = 120
"""Ray's own agents look for their parent from time to time."""


def descendants(ancestor: int) -> set[int]:
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def await_end(pids: set[int]) -> None:
    """No worker outlives its job for long. One whose parent was killed may stay in the list, ended."""
    deadline = time.monotonic() + SECONDS_TO_FOLLOW
    while left := {pid for pid in pids if is_running(pid)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def interrupted(*_: object) -> NoReturn:
    """Stands where a job is interrupted from the keyboard."""
    raise KeyboardInterrupt
