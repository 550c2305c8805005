"""The held-out score of one or several crosscoders, from one reading.

Letters: B samples, N rows, G group elements, C channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gc_core.crosscoder import GroupCrosscoder
from gc_core.metrics import VarianceSums
from gc_core.train.data import TrainingData
from gc_core.train.workers import Place, sum_over_replicas

MAX_HELD_OUT_ROWS = 2048


@torch.no_grad()
def evaluate(models: Sequence[GroupCrosscoder], data: TrainingData, place: Place, *, batch: int) -> list[VarianceSums]:
    """Sums for each model's held-out fraction of variance unexplained, over all workers; `batch` samples at a time."""
    sums = [VarianceSums.zeros(data.num_elements, data.channels, place.device) for _ in models]
    mine = _spread(data.held_out_rows, MAX_HELD_OUT_ROWS)[place.replica :: place.num_replicas]
    for first in range(0, len(mine), batch):
        acts_BGC = data.read(mine[first : first + batch], place.device)
        for model, so_far in zip(models, sums, strict=True):
            so_far.add(acts_BGC, model.decode(model.encode(acts_BGC)))
    for tensor in [tensor for so_far in sums for tensor in so_far.tensors()]:
        sum_over_replicas(tensor, place)
    return sums


def _spread(rows: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    """Rows evenly spread over all: a bounded cost however large the store."""
    return rows if len(rows) <= at_most else rows[np.linspace(0, len(rows) - 1, at_most).astype(np.int64)]
