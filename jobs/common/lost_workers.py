"""Work over which workers are lost: it is given to others a bounded number of times; what ends each of them is found by
halving. Ray's own retries count workers that ran out of memory apart, and repeat those without end."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray
import ray.exceptions

from gc_core.io.objects import UnavailableError
from jobs.common import cluster

ATTEMPTS = 3
"""Attempts at a piece of work, before the work itself is held to be what ends its workers."""
PAUSE_S = 2.0
"""Pause before the second attempt, for memory that others take; twice that before the third."""
MOST_DEADLY = 16
"""Images of one part that end their workers; where there are more, something else does."""

LOST = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
_RETRIED = (*LOST, UnavailableError)


def outlived(
    submit: Callable[[Any], ray.ObjectRef[Any]], items: Iterable[Any], *, in_flight: int
) -> Iterator[tuple[Any, Any]]:
    """Each item with what its task returned, in order; with None where a worker was lost at every attempt.

    Tasks must be submitted with `max_retries=0`.

    Raises:
        UnavailableError: storage did not answer at any attempt.
    """
    items = list(items)
    first = cluster.in_order(submit, items, in_flight=in_flight, lost=lambda error: isinstance(error, _RETRIED))
    for item, returned in zip(items, first, strict=True):
        yield item, again(submit, item, ATTEMPTS - 1) if returned is None else returned


def again(submit: Callable[[Any], ray.ObjectRef[Any]], item: Any, attempts: int) -> Any:
    """What a task returns at one of some more attempts; None where a worker was lost at every one."""
    for attempt in range(1, attempts + 1):
        time.sleep(PAUSE_S * attempt)
        try:
            return cluster.result(submit(item))
        except LOST:
            continue
        except UnavailableError:
            if attempt == attempts:
                raise
    return None


def deadly(count: int, outlives: Callable[[range], bool]) -> frozenset[int]:
    """Which of `count` things end the worker that looks at them, by halving; `outlives` tells whether one outlived some
    of them. It is asked about twice log2(count) times for each, and again `ATTEMPTS` times before one is condemned.

    Raises:
        OSError: more than `MOST_DEADLY` do.
    """
    culprits, suspects = set[int](), [range(count)]
    while suspects:
        places = suspects.pop()
        if any(outlives(places) for _ in range(ATTEMPTS if len(places) == 1 else 1)):
            continue
        middle = (places.start + places.stop) // 2
        if len(places) > 1:
            suspects += [range(middle, places.stop), range(places.start, middle)]
        elif len(culprits) == MOST_DEADLY:
            said = f"workers were lost over more than {MOST_DEADLY} of {count:,} images"
            raise OSError(f"index: {said}; is there too little memory? Free some, or give Ray fewer CPUs")
        else:
            culprits.add(places.start)
    return frozenset(culprits)
