"""Which Ray cluster a job uses: the one it is given, or one of its own on this machine; and how work is dealt out."""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# `uv run` would otherwise make Ray copy the working directory and start every local worker through uv.
if "RAY_ADDRESS" not in os.environ:
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

# Threads that wait by spinning take the cores from one another as soon as two processes compute; sleeping costs little.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Ray's C++ part would answer SIGTERM by aborting the process, whatever handler Python has.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")

import ray
import ray.exceptions
import torch
from ray.util.placement_group import placement_group, remove_placement_group

from gc_core.io.objects import UnavailableError
from jobs.common import home, interrupt, warned
from jobs.common.console import say
from jobs.common.errors import root_of
from jobs.common.options import ResolvedWorkers, Waiting, Workers

RETRIED = [UnavailableError]
"""What a task may be tried again for: wrong keys, a missing bucket or a full disk end the job at once."""

POLL_S = 0.5
LONGEST_FOLDER = 24
"""Characters; the names of sockets below may have 107 in all."""
SAY_EVERY_S = 30
"""How often a person hears what is waited for."""
START_TRIES = 3
PATIENCE_S, PATIENCE = 30.0, 3
"""An item is late after so many seconds, and so many times what the slowest took."""


@contextlib.contextmanager
def connect() -> Iterator[None]:
    """Use the cluster of RAY_ADDRESS or `ray job submit`; without one, start Ray here and stop it at the end."""
    warned.forget()
    if ray.is_initialized():
        yield
        return
    given = os.environ.get("RAY_ADDRESS")
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupt.interruptible())
        if given:
            stack.callback(ray.shutdown)
            _init(address=given)
        else:
            check_home()
            say("starting Ray on this machine ...")
            folder = stack.enter_context(private_folder())
            stack.callback(ray.shutdown)  # of what has started, too, when a signal comes in the middle
            start_here(folder)
        _keep_token_private()
        yield


def _init(**options: Any) -> None:
    """`ray.init`, without its own handler of SIGTERM: that one ends the process, or waits for what has not started."""
    set_handler = signal.signal

    def set_others(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number == signal.SIGTERM else set_handler(number, handler)

    signal.signal = set_others
    try:
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    finally:
        signal.signal = set_handler
        interrupt.take()
    interrupt.check()


def check_home() -> None:
    """OSError unless there is a home folder to write to, where Ray keeps its token; containers may have none."""
    folder = home.folder()
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(f"HOME: {folder} cannot be written by this user; set it to a writable folder, as in HOME=/tmp/me")


@contextlib.contextmanager
def private_folder() -> Iterator[str]:
    """Where a Ray of our own keeps its sockets and logs, closed to others of this machine, and gone in the end.

    Raises:
        OSError: there is no folder with a name short enough for sockets.
    """
    short = (place for place in (tempfile.gettempdir(), "/tmp", "/dev/shm") if len(place) <= LONGEST_FOLDER)
    for place in short:
        try:
            folder = tempfile.mkdtemp(prefix="gc-ray-", dir=place)  # with mode 0700
        except OSError:
            continue
        try:
            yield f"{folder}/r"  # Ray opens its own folder to everyone, but nobody comes through the one above
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # a process of Ray's may still be writing
        return
    raise OSError(
        f"TMPDIR: no writable folder with at most {LONGEST_FOLDER} characters found for Ray; set TMPDIR to one"
    )


def start_here(folder: str) -> None:
    """Start Ray on this machine, whose processes it allows 30 seconds: a machine busy with other work may exceed them.

    Raises:
        OSError: it exceeds them every time.
    """
    for _ in range(START_TRIES):
        try:
            _init(
                address="local",
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
        except Exception as error:  # Ray has no name for this one
            ray.shutdown()
            interrupt.check()  # Ray may lose a signal, and start no more for want of what it was starting
            if "timed out during startup" not in str(error):
                raise
            say("Ray took too long to start; trying again ...")
        else:
            return
    found = f"did not start in {START_TRIES} tries of 30 seconds"
    raise OSError(f"Ray: {found}; wait until the machine is less busy, or set RAY_ADDRESS to a cluster")


def _keep_token_private() -> None:
    """Ray creates its token readable by everyone on the machine."""
    token = Path.home() / ".ray" / "auth_token"
    if token.exists():
        token.chmod(0o600)


def num_cpus() -> int:
    """CPUs of the cluster now, at least one."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def most_cpus(nodes: Sequence[Mapping[str, Any]]) -> int:
    """CPUs of the largest of the nodes, as `ray.nodes()` tells them; at least one. No worker has those of two nodes."""
    return max([1, *(int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"])])


def num_gpus() -> int:
    """GPUs of the cluster now."""
    return int(ray.cluster_resources().get("GPU", 0))


def require(workers: ResolvedWorkers, count: int) -> None:
    """See that so many workers can start: at once on a Ray started here; on a cluster, where nodes may still come, wait
    for them, and say so.

    Raises:
        ValueError: this machine has fewer CPUs or GPUs. OSError: the cluster did not grow in time.
    """
    bundle = {"CPU": workers.cpus_per_worker, "GPU": workers.gpus_per_worker}
    if _is_shared():
        await_workers(bundle, count, workers.wait_minutes)
        return
    available = {"CPU": float(ray.cluster_resources().get("CPU", 0)), "GPU": float(num_gpus())}
    options = {"CPU": "--workers.num-workers or --workers.cpus-per-worker", "GPU": "--workers.gpus-per-worker"}
    for kind, each in bundle.items():
        if count * each > available[kind]:
            needed = f"{count} worker(s) with {each:g} {kind} each need {count * each:g}"
            raise ValueError(f"workers: {needed}, this machine has {available[kind]:g}; lower {options[kind]}")


def require_cpu(waiting: Waiting) -> None:
    """See that tasks of one CPU can run: on a cluster, wait until one is free, and say so.

    Raises:
        OSError: none became free in time.
    """
    if _is_shared():
        await_workers({"CPU": 1, "GPU": 0}, 1, waiting.wait_minutes)


def require_task(workers: Workers) -> None:
    """See that one task with what each worker takes can run, and the number of them asked for on a Ray started here.

    Raises:
        ValueError: this machine has fewer CPUs or GPUs. OSError: the cluster did not grow in time.
    """
    refuse_impossible(workers)
    if _is_shared():
        await_workers({"CPU": workers.cpus_per_worker, "GPU": workers.gpus_per_worker or 0}, 1, workers.wait_minutes)


def task_options(workers: ResolvedWorkers, memory_bytes: int) -> dict[str, float]:
    """What Ray must keep free for a task; `memory_bytes` beside what is mapped from files."""
    options = {"num_cpus": workers.cpus_per_worker, "num_gpus": workers.gpus_per_worker}
    return options if workers.gpus_per_worker else {**options, "memory": memory_bytes}


def device() -> str:
    """Where a task computes: on the GPU that Ray gave it, if it asked for one."""
    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"


def use_threads(workers: Workers) -> None:
    """Use as many threads as the task has CPUs: a setting of each thread, and Ray chooses the thread."""
    torch.set_num_threads(workers.threads)


def refuse_impossible(workers: Workers) -> None:
    """ValueError if a Ray started here cannot have the workers asked for; before anything else is done."""
    if not _is_shared():
        wanted = workers.resolve(num_cpus=num_cpus(), num_gpus=num_gpus())
        require(wanted, wanted.num_workers)


def await_workers(bundle: dict[str, float], count: int, wait_minutes: float) -> None:
    """Wait until all bundles can be placed; nodes that start on demand start for them."""
    group = placement_group([{kind: each for kind, each in bundle.items() if each}] * count)
    try:
        since_s = time.monotonic()
        while not group.wait(SAY_EVERY_S):
            waited_s = time.monotonic() - since_s
            wanted = f"{count} worker(s) with {bundle['CPU']:g} CPU and {bundle['GPU']:g} GPU each"
            has = f"the cluster has {num_cpus()} CPUs and {num_gpus()} GPUs{_free()}"
            if waited_s > 60 * wait_minutes:
                fewer = "lower --workers.num-workers, or " if count > 1 else ""
                remedy = f"{fewer}wait longer with --workers.wait-minutes"
                raise OSError(f"workers: {wanted} did not come within {wait_minutes:g} minutes; {has}; {remedy}")
            say(f"waiting  for {wanted}; {has} ({waited_s / 60:.1f} of at most {wait_minutes:g} minutes)")
    finally:
        remove_placement_group(group)


def _free() -> str:
    """Words for the CPUs and GPUs that nobody uses."""
    left = ray.available_resources()
    return f", of which {left.get('CPU', 0):g} and {left.get('GPU', 0):g} are free"


def _is_shared() -> bool:
    """Whether Ray was there before; `ray job submit` says so in the same way."""
    return bool(os.environ.get("RAY_ADDRESS"))


def in_order(
    submit: Callable[[Any], ray.ObjectRef[Any]],
    items: Iterable[Any],
    *,
    in_flight: int,
    lost: Callable[[Exception], bool] = lambda error: False,
) -> Iterator[Any]:
    """Results of `submit(item)` in the order of the items, with a bounded number in flight; None for an item whose
    error `lost` takes."""
    waiting: list[ray.ObjectRef[Any]] = []

    def first() -> Any:
        try:
            return result(waiting.pop(0))
        except Exception as error:
            if lost(error):
                return None
            raise

    for item in items:
        waiting.append(submit(item))
        if len(waiting) >= in_flight:
            yield first()
    while waiting:
        yield first()


def deal(
    actors: list[Any],
    items: Iterable[Any],
    submit: Callable[[Any, Any], ray.ObjectRef[Any]],
    *,
    poll: Callable[[], None],
) -> Iterator[Any]:
    """Results of `submit(actor, item)` as they come, one item at a time for each actor; `poll` runs about twice a
    second.

    When no item is left, idle actors take those that others have had for much longer than any took: an actor whose
    node is gone, with no room for it elsewhere, would keep its items for ever. An item must be harmless done twice.
    """
    queue, idle = enumerate(items), list(actors)
    running: dict[ray.ObjectRef[Any], _Errand] = {}
    done: set[int] = set()
    longest_s = 0.0
    while True:
        while idle and (entry := next(queue, None)) is not None:
            actor, (number, item) = idle.pop(), entry
            running[submit(actor, item)] = _Errand(actor, number, item, time.monotonic())
        if all(errand.number in done for errand in running.values()):
            return
        undone = [errand for errand in running.values() if errand.number not in done]
        if late := _late(undone, idle, max(PATIENCE_S, PATIENCE * longest_s)):
            actor, errand = late
            idle.remove(actor)
            running[submit(actor, errand.item)] = errand._replace(actor=actor, since_s=time.monotonic())
        finished, _ = ray.wait(list(running), timeout=POLL_S)
        for reference in finished:
            errand = running.pop(reference)
            idle.append(errand.actor)
            if errand.number not in done:
                longest_s = max(longest_s, time.monotonic() - errand.since_s)
                done.add(errand.number)
                yield result(reference)
        done.intersection_update(errand.number for errand in running.values())  # others come no more
        poll()


class _Errand(NamedTuple):
    """An item that an actor has."""

    actor: Any
    number: int
    item: Any
    since_s: float


def _late(undone: Sequence[_Errand], idle: Sequence[Any], patience_s: float) -> tuple[Any, _Errand] | None:
    """An item that was last given away longer ago than that, and an idle actor that never got it."""
    newest = {errand.number: errand for errand in undone}  # in the order of giving
    for errand in newest.values():
        holders = [one.actor for one in undone if one.number == errand.number]
        if time.monotonic() - errand.since_s > patience_s:
            for actor in idle:
                if actor not in holders:
                    return actor, errand
    return None


def result(reference: ray.ObjectRef[Any]) -> Any:
    """What a worker returned, or the exception that it raised, without Ray's wrapping."""
    try:
        return warned.unwrapped(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        raise root_of(error) from error
