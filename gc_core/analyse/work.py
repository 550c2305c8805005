"""What the tasks of an analysis compute; each leaves a part in the run folder, and gives its name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gc_core.analyse import features, firing, parts, shown
from gc_core.analyse.parts import Arrays, Parts
from gc_core.arrays import as_arrays
from gc_core.backbones import AnyBackbone
from gc_core.config import ResolvedAnalyseConfig
from gc_core.crosscoder import Crosscoder, StoredDecoder, open_decoder, read_shape
from gc_core.families import Dictionary, Neighbours, Source, family_of, nearest, sketched
from gc_core.groups import FiniteGroup
from gc_core.store import Store, open_store


@dataclass(frozen=True, slots=True)
class Work:
    """The work on one crosscoder."""

    parts: Parts
    config: ResolvedAnalyseConfig

    def do(self, kind: str, number: int, item: Any, alive: NDArray[np.int64] | None, device: str) -> str:
        """The name of the part that a task's item becomes.

        The items: of `encode` a range of shards, of `describe` a range of features, of
        `chance` the same with the summed alignment of all, of `neighbours` a range of living features, of `families`
        members of several families, each with the pairs of them that are neighbours, of `stimuli` a range of the fixed
        set.
        """
        return self.parts.write(kind, number, _TASKS[kind](self, item, alive, device))

    def model(self, device: str) -> Crosscoder:
        """Read once by each process; a mapping of its file, if it stays on the CPU."""
        return _model(self.parts, device)


def _encode(work: Work, shards: range, alive: None, device: str) -> Arrays:
    seen = firing.watch_shards(_store(work.parts), shards, work.model(device), top_examples=work.config.top_examples)
    return parts.of_firing(seen)


def _describe(work: Work, rows: range, alive: None, device: str) -> Arrays:
    return as_arrays(features.describe_features(work.model(device), np.arange(*_ends(rows))))


def _chance(work: Work, item: tuple[range, tuple[float, float]], alive: None, device: str) -> Arrays:
    rows, alignment_2 = item
    model = work.model(device)
    return as_arrays(features.evidence_of_features(model, np.arange(*_ends(rows)), alignment_2, work.config))


def _neighbours(work: Work, rows: range, alive: NDArray[np.int64], device: str) -> Arrays:
    known = _dictionary(work.parts, work.config.invariant_share, alive.tobytes(), device)
    least, most = work.config.family_similarity, work.config.neighbours
    return as_arrays(nearest(rows, known, least_similarity=least, most=most))


def _families(
    work: Work, members: list[tuple[NDArray[np.int64], Neighbours]], alive: NDArray[np.int64], device: str
) -> Arrays:
    source = _source(work.parts, work.config.invariant_share, alive, device)
    return parts.of_clusters([family_of(each, pairs, source) for each, pairs in members])


def _stimuli(work: Work, some: range, alive: None, device: str) -> Arrays:
    attrs = _store(work.parts).attrs
    masked = bool(attrs["config"].get("disc_mask", False))
    return as_arrays(shown.show(some, work.model(device), _network(work.parts, device), disc_mask=masked))


_TASKS: dict[str, Callable[..., Arrays]] = {
    "encode": _encode,
    "describe": _describe,
    "chance": _chance,
    "neighbours": _neighbours,
    "families": _families,
    "stimuli": _stimuli,
}


@lru_cache(maxsize=2)
def _model(of: Parts, device: str) -> Crosscoder:
    return Crosscoder.load(of.run.crosscoder(of.name)).to(device)


def _source(of: Parts, invariant_share: float, alive: NDArray[np.int64], device: str) -> Source:
    decoder, group = _decoder(of)
    return Source(
        group=group,
        read=lambda numbers: decoder.rows(numbers).to(device),
        features=alive,
        invariant_share=invariant_share,
    )


@lru_cache(maxsize=1)
def _dictionary(of: Parts, invariant_share: float, alive: bytes, device: str) -> Dictionary:
    """Sketched once by each process."""
    return sketched(_source(of, invariant_share, np.frombuffer(alive, np.int64), device))


@lru_cache(maxsize=2)
def _decoder(of: Parts) -> tuple[StoredDecoder, FiniteGroup]:
    folder = of.run.crosscoder(of.name)
    return open_decoder(folder), read_shape(folder).group


@lru_cache(maxsize=1)
def _network(of: Parts, device: str) -> AnyBackbone:
    return shown.network_of_store(_store(of).attrs, device)


@lru_cache(maxsize=2)
def _store(of: Parts) -> Store:
    """Opened once by each process. The driver has seen that it is whole, and reading notices what is lost since."""
    return open_store(of.run, unfinished=True)


def _ends(rows: range) -> tuple[int, int]:
    return rows.start, rows.stop
