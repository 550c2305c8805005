"""Any exception as one line for a person: what happened, where, and what to do.

Errors of users, of storage and of the machine are told as they are. Whatever else arrives is a mistake of this program,
and is told as such; its traceback goes into a file that the line names.
"""

import errno
import os
import tempfile
import traceback
from collections.abc import Iterator

import ray.exceptions
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from gc_core.io.objects import UnavailableError

MOST_CHARACTERS = 2000
"""Longest line; longer ones lose their middle."""

_OF_RAY: dict[type[BaseException], str] = {
    ray.exceptions.OutOfMemoryError: "a worker ran out of memory and was stopped; use fewer or larger workers "
    "(--workers.num-workers, --workers.cpus-per-worker), or smaller batches",
    ray.exceptions.OutOfDiskError: "Ray's folder has no space left; free some on the disk of /tmp",
    ray.exceptions.ObjectStoreFullError: "Ray's object store is full; use a machine with more memory",
    ray.exceptions.LocalRayletDiedError: "Ray's process on this machine has died; check its free memory and run again",
    ray.exceptions.NodeDiedError: "a machine of the cluster was lost; run the same command again",
    ray.exceptions.ActorDiedError: "a worker died again and again; its machine may lack memory, or was lost",
    ray.exceptions.WorkerCrashedError: "a worker process crashed; its machine may lack memory",
    ray.exceptions.AuthenticationError: "the cluster refuses the token; see RAY_AUTH_MODE in docs/cluster.md",
    ray.exceptions.RuntimeEnvSetupError: "the environment of the workers could not be set up",
    ray.exceptions.TaskUnschedulableError: "no machine of the cluster can take a task",
    ray.exceptions.ActorUnschedulableError: "no machine of the cluster can take a worker",
    PreemptionError: "machines of the cluster were taken back; run the same command again",
}


def root_of(error: BaseException) -> BaseException:
    """The exception inside those that Ray wraps around it."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = next(_inside(error), None)
        if inner is None:
            return error
        error = inner
    return error


def in_one_line(error: BaseException) -> str:
    """What a person is told; the traceback of what this program did wrong is kept in a file."""
    root = root_of(error)
    for kind, told in _OF_RAY.items():
        if isinstance(root, kind):
            return shortened(f"Ray: {told} ({_first_line(root)})")
    if isinstance(root, MemoryError):
        return f"memory: this process ran out ({_first_line(root)}); smaller batches or a smaller dictionary help"
    if isinstance(root, OSError) and not isinstance(root, UnavailableError):
        return shortened(_of_system(root))
    if isinstance(root, (ValueError, OSError, FloatingPointError)):
        return shortened(str(root).strip() or type(root).__name__)
    if isinstance(root, ray.exceptions.RayError | ConnectionError):
        return shortened(
            f"Ray: {_first_line(root)}; look at the cluster (`ray status`), then run the same command again"
        )
    kept = keep_traceback(error)
    return shortened(f"an unexpected error: {_first_line(root)}; its traceback is in {kept}, please report it")


def keep_traceback(error: BaseException) -> str:
    """The path of a new file, private to this user, with the whole traceback."""
    handle, path = tempfile.mkstemp(prefix="group-crosscoders-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(traceback.format_exception(error))
    return path


def shortened(line: str) -> str:
    """A line that a terminal can show."""
    if len(line) <= MOST_CHARACTERS:
        return line
    half = MOST_CHARACTERS // 2
    return f"{line[:half]} ... {line[-half:]}"


def _inside(error: BaseException) -> Iterator[BaseException]:
    """What an exception of Ray was made of, the most telling first."""
    if isinstance(error, WorkerGroupError):
        yield from error.worker_failures.values()
    if isinstance(error, ControllerError):
        yield error.controller_failure
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        yield error.cause


def _of_system(error: OSError) -> str:
    said = str(error).strip() or type(error).__name__
    if error.errno == errno.ENOSPC:
        return f"{error.filename or 'a disk'}: no space left on the disk; free some, then run the same command again"
    return said


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened(": ".join(filter(None, [type(error).__name__, lines[0] if lines else ""])))
