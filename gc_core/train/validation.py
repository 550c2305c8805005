"""The held-out score of one or several crosscoders; the samples are read once and kept.

Letters: B samples, N rows, G group elements, C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.parallel.collectives import sum_over_replicas
from gc_core.parallel.worker import Worker
from gc_core.scoring import Samples, Sums, encode_and_score
from gc_core.store import HELD_OUT_LAST
from gc_core.store.shards import CHUNK_ROWS
from gc_core.stream import read_rows
from gc_core.train.data import TrainingData

MAX_HELD_OUT_ROWS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well a crosscoder explains samples that it was not trained on."""

    fvu: float | None
    """Fraction of variance unexplained; None where it is undefined."""
    interval: tuple[float, float] | None
    """95% interval over images; None where there are fewer than two."""
    num_rows: int
    num_images: int
    """Images that the rows come from: how many independent ones there really are."""

    def as_metrics(self) -> dict[str, float | None]:
        """Columns of a row of metrics."""
        low, high = self.interval or (None, None)
        return {
            "held_out_fvu": self.fvu,
            "held_out_fvu_low": low,
            "held_out_fvu_high": high,
            "held_out_samples": self.num_rows,
            "held_out_images": self.num_images,
        }


class HeldOutSamples:
    """This worker's part of the held-out samples, at most MAX_HELD_OUT_ROWS over all replicas, read once and kept as
    they are stored."""

    def __init__(self, data: TrainingData, worker: Worker, *, batch: int) -> None:
        """Read them; every worker must call it. `batch` samples are scored at a time."""
        together = data.store.attrs["format_version"] >= HELD_OUT_LAST
        rows = (spread_chunks if together else _spread)(data.held_out_rows, MAX_HELD_OUT_ROWS)
        images, image_N = np.unique(data.store.image[rows], return_inverse=True)
        mine = slice(worker.replica, None, worker.mesh.replicas)
        self._data, self._worker, self._batch = data, worker, batch
        self._num_rows, self._num_images = len(rows), len(images)
        self._image_N = torch.from_numpy(image_N[mine]).to(worker.device)
        self._stored_NGC = torch.from_numpy(read_rows(data.store, rows[mine], data.blocks))
        self._mean_GC = self._mean()

    def score(self, models: Sequence[Crosscoder]) -> list[Score]:
        """Score each model, over all workers; every worker must call it."""
        return [self._score(model) for model in models]

    def _score(self, model: Crosscoder) -> Score:
        sums = Sums.of(model, num_images=self._num_images, mean_GC=self._mean_GC)
        for _ in encode_and_score(model, self._samples(), sums):
            pass
        for tensor in sums.tensors():
            sum_over_replicas(tensor, self._worker)
        return Score(fvu=sums.fvu(), interval=sums.interval(), num_rows=self._num_rows, num_images=self._num_images)

    def _samples(self) -> Iterator[Samples]:
        for first in range(0, len(self._image_N), self._batch):
            yield Samples(self._acts(first), self._image_N[first : first + self._batch])

    def _acts(self, first: int) -> Tensor:
        return self._data.scaled(self._stored_NGC[first : first + self._batch].to(self._worker.device))

    def _mean(self) -> Tensor:
        """(G, C) mean over all workers' samples."""
        shape = (self._data.num_elements, self._data.channels)
        total_GC = torch.zeros(shape, dtype=torch.float64, device=self._worker.device)
        for first in range(0, len(self._image_N), self._batch):
            total_GC += self._acts(first).sum(0)
        return (sum_over_replicas(total_GC, self._worker) / max(1, self._num_rows)).float()


def spread_chunks(rows: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    """Rows of whole chunks evenly spread over all, each of which holds many images: what is decoded is used."""
    if len(rows) <= at_most:
        return rows
    chunk_N = rows // CHUNK_ROWS
    chunks = np.unique(chunk_N)
    return rows[np.isin(chunk_N, chunks[np.linspace(0, len(chunks) - 1, at_most // CHUNK_ROWS).astype(np.int64)])]


def _spread(rows: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    """Rows evenly spread over all, where they stand among others and every chunk has few."""
    return rows if len(rows) <= at_most else rows[np.linspace(0, len(rows) - 1, at_most).astype(np.int64)]
