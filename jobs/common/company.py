"""Whether other work has the cores that this process computes on.

With several threads every operation ends with its slowest thread, so that a step of many short operations waits for a
core again and again; beside busy processes one thread is faster (`python -m infra.bench company`).
"""

import contextlib
import logging
import time
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_AFTER_S = 20.0
MOST_WAITING = 0.15
"""Share of the threads' time, waiting for a core, above which it is worth a line."""


class Company:
    """Warns once where a worker's threads wait for cores that others have."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._begun_s, self._waited_s = time.monotonic(), seconds_without_a_core()
        self._told = threads == 1 or self._waited_s is None

    def look(self) -> None:
        """Say it in one line, as soon as enough time has passed to know; free of cost otherwise."""
        passed_s = time.monotonic() - self._begun_s
        if self._told or passed_s < LOOK_AFTER_S:
            return
        self._told = True
        share = ((seconds_without_a_core() or 0) - (self._waited_s or 0)) / (passed_s * self._threads)
        if share > MOST_WAITING:
            logger.warning(
                "other work has the cores: the %d threads of a worker waited %.0f%% of their time for one; if it goes "
                "on, one thread is faster: --workers.num-workers 1 --workers.cpus-per-worker 1 (docs/performance.md)",
                self._threads,
                100 * share,
            )


def seconds_without_a_core(folder: Path = Path("/proc/self/task")) -> float | None:
    """How long this process's threads were ready to run and had no core, all together; None where the system does not
    say (other than Linux)."""
    waited_ns, known = 0, False
    with contextlib.suppress(OSError):
        for thread in folder.iterdir():
            with contextlib.suppress(OSError):  # it has ended
                waited_ns += int((thread / "schedstat").read_text().split()[1])
                known = True
    return waited_ns / 1e9 if known else None
