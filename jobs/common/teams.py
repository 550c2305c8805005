"""The tasks of an analysis on the cluster: each with the memory that it needs, and none twice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from gc_core.analyse.parts import Arrays
from gc_core.analyse.plan import AnalysisPlan
from gc_core.analyse.work import Work
from gc_core.crosscoder import CrosscoderShape
from jobs.common import cluster, warned
from jobs.common.options import Workers

TRIES = 3
"""Tries of a part that is gone when read: another analysis of the crosscoder may have ended, and cleared it."""


@dataclass(frozen=True, slots=True)
class Team:
    """What computes the parts of one analysis."""

    work: Work
    workers: Workers
    plan: AnalysisPlan
    shape: CrosscoderShape

    def parts(
        self, kind: str, items: Sequence[Any], memory_bytes: int, alive: NDArray[np.int64] | None = None
    ) -> Iterator[Arrays]:
        """Compute the part of every item, in their order; those that an earlier try left are read.

        Raises:
            OSError: a part cannot be written, or vanishes again and again.
        """
        known, given = self.work.parts.known(kind), ray.put(alive)
        wanted = self.workers.resolve(num_cpus=cluster.num_cpus(), num_gpus=cluster.num_gpus())
        options = cluster.task_options(wanted, memory_bytes)

        def compute(number: int) -> ray.ObjectRef[Any]:
            return compute_part.options(**options).remote(self.work, kind, number, items[number], given, wanted)

        def name_of(number: int) -> ray.ObjectRef[Any]:
            return ray.put(known[number]) if number in known else compute(number)

        in_flight = 2 * cluster.num_cpus()
        for number, name in enumerate(cluster.in_order(name_of, range(len(items)), in_flight=in_flight)):
            yield self._read(name, lambda number=number: cluster.result(compute(number)))

    def _read(self, name: str, again: Callable[[], str]) -> Arrays:
        for _ in range(TRIES):
            arrays = self.work.parts.read(name)
            if arrays is not None:
                return arrays
            name = again()
        raise OSError(f"{self.work.parts.run.url}: a part of the analysis, {name}, disappears as soon as it is written")


@ray.remote(max_retries=3, retry_exceptions=cluster.RETRIED)
@warned.telling
def compute_part(
    work: Work, kind: str, number: int, item: Any, alive: NDArray[np.int64] | None, workers: Workers
) -> str:
    """A part of an analysis, computed as the task's machine can; the name under which it is kept."""
    cluster.use_threads(workers)
    return work.do(kind, number, item, alive, cluster.device())
