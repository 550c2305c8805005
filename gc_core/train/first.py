"""The samples that first weights are made from: rows drawn over the whole store, and turned copies once it is used up.

Letters: N rows, S elements of the store's group, G of the crosscoder's, C channels, F features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.config import ResolvedTrainConfig
from gc_core.crosscoder.initialise import SAMPLES_TO_MATCH, FirstSamples
from gc_core.store.shards import CHUNK_ROWS
from gc_core.stream import read_rows
from gc_core.train.augmentation import turned
from gc_core.train.data import TrainingData

STATISTICS_ROWS = 1024
"""Samples that the bias, the encoder's size and thresholds are made from; read together."""
FEWEST_CHUNKS = 256
ROWS_OF_A_CHUNK = 16
"""Rows are drawn from so many chunks of a large store that it gives about this many of each: drawn from all, each would
cost a chunk's reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRows:
    """Rows, and what acts on each."""

    row_N: NDArray[np.int64]
    element_N: NDArray[np.int64]
    """Elements of the store's group."""

    def part(self, first: int, last: int) -> "SampledRows":
        """Some of them, in their order."""
        return SampledRows(row_N=self.row_N[first:last], element_N=self.element_N[first:last])


def first_samples(
    config: ResolvedTrainConfig, data: TrainingData, statistics_NGC: Tensor | None = None
) -> FirstSamples:
    """What a config's first weights are made from, the same on every worker.

    Statistics depend on neither the size of a dictionary nor its activation: one set serves several on one stream.
    """
    acts_NGC = statistics(config, data) if statistics_NGC is None else statistics_NGC
    num_features = config.num_rows
    if num_features + SAMPLES_TO_MATCH <= len(acts_NGC):
        return FirstSamples.of(acts_NGC)
    sampled_F = sample_train_rows(config, data, num_features)
    return FirstSamples(
        acts_BGC=acts_NGC, along=lambda features: _seen(sampled_F.part(features.start, features.stop), data)
    )


def statistics(config: ResolvedTrainConfig, data: TrainingData) -> Tensor:
    """Samples (N, G, C) scaled float32 in random order, without repetition."""
    sampled = sample_train_rows(config, data, min(STATISTICS_ROWS, len(data.train_rows)))
    order = np.random.default_rng([config.seed, 5]).permutation(len(sampled.row_N))
    return _seen(SampledRows(row_N=sampled.row_N[order], element_N=sampled.element_N[order]), data)


def sample_train_rows(config: ResolvedTrainConfig, data: TrainingData, count: int) -> SampledRows:
    """So many training rows, ascending; none is met again before all were met, and then turned otherwise.

    Each is turned at random where training turns samples; where it does not, copies alone are, for a feature that
    begins as another's twin stays that or dies.
    """
    rng, order = np.random.default_rng([config.seed, 4, count]), data.store.group.order
    row_N = sample_rows(data.train_rows, count, rng)
    _, number_N = np.unique(row_N, return_inverse=True)
    copy_N = np.arange(count) - np.searchsorted(row_N, row_N)
    first = rng.integers(order, size=count) if config.augment else np.zeros(count, np.int64)
    other = np.append(0, 1 + rng.permutation(order - 1))
    return SampledRows(row_N=row_N, element_N=(first[number_N] + other[copy_N % order]) % order)


def sample_rows(rows_N: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` of ascending rows, ascending, each as often as any other, but for one."""
    copies, rest = divmod(count, len(rows_N))
    chunk_N = rows_N // CHUNK_ROWS
    chunks = rng.permutation(np.unique(chunk_N))[: max(FEWEST_CHUNKS, rest // ROWS_OF_A_CHUNK)]
    near_N = rows_N[np.isin(chunk_N, chunks)]
    chosen = rng.choice(near_N if len(near_N) >= rest else rows_N, rest, replace=False)
    return np.sort(np.concatenate([np.tile(rows_N, copies), chosen]))


def _seen(wanted: SampledRows, data: TrainingData) -> Tensor:
    """Samples (N, G, C) scaled float32; of the store's blocks a bounded number is in memory at a time."""
    acts_NGC = torch.empty(len(wanted.row_N), data.num_elements, data.channels)
    for first in range(0, len(acts_NGC), STATISTICS_ROWS):
        part = wanted.part(first, first + STATISTICS_ROWS)
        if part.element_N.any():
            stored_NSC = read_rows(data.store, part.row_N, np.arange(data.store.group.order))
            acts_NGC[first : first + STATISTICS_ROWS] = turned(stored_NSC, part.element_N, data)
        else:
            acts_NGC[first : first + STATISTICS_ROWS] = data.read(part.row_N)
    return acts_NGC
