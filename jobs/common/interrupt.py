"""Ctrl-C and SIGTERM: each ends a job as KeyboardInterrupt, and which of them came is kept.

Ray has handlers of its own, and where it waits in its compiled part it raises a KeyboardInterrupt of its own in place
of ours: the exception cannot tell the signal. This module imports nothing that takes long: it is there from the start.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOGETHER_S = 1.0
"""Signals of one cause: a group of processes gets SIGTERM, and a launcher inside hands it on once more."""

_came: list[tuple[signal.Signals, float]] = []
"""The first signal and when it came; empty until then."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, and SIGTERM as `ray job stop` and container hosts send it, raise KeyboardInterrupt inside the block,
    whatever handlers others have left there. Handlers belong to the main thread; on any other nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, tell_lost = {number: signal.getsignal(number) for number in SIGNALS}, sys.unraisablehook

    def tell_others(lost: "sys.UnraisableHookArgs") -> None:
        if not (issubclass(lost.exc_type, KeyboardInterrupt) and came()):  # `check` raises it again
            tell_lost(lost)

    take()
    sys.unraisablehook = tell_others
    try:
        yield
    finally:
        sys.unraisablehook = tell_lost
        for number, handler in before.items():
            signal.signal(number, handler)


def take() -> None:
    """Put our handlers in place of those that others have set; on the main thread alone."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _interrupt)


def came() -> signal.Signals | None:
    """The signal that ends this job."""
    return _came[0][0] if _came else None


def forget() -> None:
    """A new job begins."""
    _came.clear()


def note(number: int) -> None:
    """A handler of others got the signal."""
    _came.append((signal.Signals(number), time.monotonic()))


def check() -> None:
    """Raise KeyboardInterrupt if a signal came, for callers that come by often: what a handler raises is lost where
    Python was inside a destructor or a callback of compiled code."""
    if _came:
        raise KeyboardInterrupt


def exit_code() -> int:
    """Exit code by which a shell tells the signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (came() or signal.SIGINT)


def describe() -> str:
    """Word of the signal for a person."""
    return "Interrupted (SIGTERM)." if came() is signal.SIGTERM else "Interrupted."


def end_quietly() -> None:
    """Let a signal end the command with one line, while it still imports what it needs and once its job has ended."""

    def end(number: int, _: FrameType | None) -> None:
        if not _came:
            note(number)
            with contextlib.suppress(OSError):
                os.write(1, f"\n{describe()} Run the same command again.\n".encode())
        os._exit(exit_code())

    for number in SIGNALS:
        signal.signal(number, end)


def _interrupt(number: int, _: FrameType | None) -> None:
    """The first signal ends the job in good order; a later one, while it still ends, does so at once."""
    if not _came:
        note(number)
        raise KeyboardInterrupt
    if time.monotonic() - _came[0][1] > TOGETHER_S:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def run_aside(call: Callable[[], object], *, every_s: float, watch: Callable[[], object] = lambda: None) -> None:
    """`call()` on a thread of its own, where it finds no handlers to replace, while this one waits for signals, and
    calls `watch` every now and then.

    Raises:
        Whatever the call raises. What `watch` raises. KeyboardInterrupt: a signal came. In both cases the call
        is left to itself.
    """
    raised = _Raised()

    def keep() -> None:
        with raised:
            call()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(every_s)
        check()
        watch()
    if raised.error is not None:
        raise raised.error


class _Raised:
    """What a block on another thread raises, for the thread that waits for it."""

    error: BaseException | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error
        return True
