"""When features fire: how often, how strongly, and on which samples most.

Letters: B samples, F features, T top samples kept, K examples reported.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gc_core.crosscoder import GroupCrosscoder
from gc_core.groups import embed
from gc_core.metrics import VarianceSums
from gc_core.store import Store

ROWS_AT_ONCE = 256
MOST_OF_ONE_IMAGE = 2
SPARE_CANDIDATES = 4
"""Candidates kept for each example reported, so that enough are left when one picture holds many of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """What was seen on some samples."""

    num_rows: int
    fired_F: NDArray[np.int64]
    """Samples with a positive activation."""
    top_value_FT: NDArray[np.float32]
    """Strongest activations, descending; zero where a feature fired on fewer samples."""
    top_row_FT: NDArray[np.int64]
    """Their rows in the store; -1 where there is none."""
    unexplained: VarianceSums


def watch_shard(store: Store, shard: int, model: GroupCrosscoder, *, top_examples: int) -> Firing:
    """Encode one shard's samples."""
    parts = [_watch(store, range(*r), model, top_examples) for r in _slices(store.rows(shard))]
    return _merge(parts, top_examples * SPARE_CANDIDATES)


def merge_firing(parts: list[Firing], image_N: NDArray[np.int64], *, top_examples: int) -> Firing:
    """All shards together; of one picture at most two samples are a feature's examples."""
    merged = _merge(parts, top_examples * SPARE_CANDIDATES)
    value_FK = np.zeros((len(merged.fired_F), top_examples), np.float32)
    row_FK = np.full((len(merged.fired_F), top_examples), -1, np.int64)
    for feature, (values, rows) in enumerate(zip(merged.top_value_FT, merged.top_row_FT, strict=True)):
        kept = _of_few_images(rows[values > 0], image_N)[:top_examples]
        row_FK[feature, : len(kept)] = rows[kept]
        value_FK[feature, : len(kept)] = values[kept]
    return Firing(
        num_rows=merged.num_rows,
        fired_F=merged.fired_F,
        top_value_FT=value_FK,
        top_row_FT=row_FK,
        unexplained=merged.unexplained,
    )


@torch.no_grad()
def _watch(store: Store, rows: range, model: GroupCrosscoder, top_examples: int) -> Firing:
    acts = store.read(rows.start, rows.stop)[:, embed(model.group, store.group)]
    acts_BGC = torch.from_numpy(acts).float()
    z_BF, recon_BGC = model.reconstruct(acts_BGC)
    unexplained = VarianceSums.zeros(acts_BGC.shape[1], acts_BGC.shape[2])
    unexplained.add(acts_BGC, recon_BGC)
    top = z_BF.T.topk(min(len(rows), top_examples * SPARE_CANDIDATES), dim=1)
    value_FT = top.values.numpy()
    return Firing(
        num_rows=len(rows),
        fired_F=(z_BF > 0).sum(0).numpy(),
        top_value_FT=value_FT,
        top_row_FT=np.where(value_FT > 0, top.indices.numpy() + rows.start, -1),
        unexplained=unexplained,
    )


def _merge(parts: list[Firing], keep: int) -> Firing:
    value = np.concatenate([part.top_value_FT for part in parts], axis=1)
    row = np.concatenate([part.top_row_FT for part in parts], axis=1)
    order = np.argsort(-value, axis=1, kind="stable")[:, :keep]
    num_elements, channels = parts[0].unexplained.sum_GC.shape
    unexplained = VarianceSums.zeros(num_elements, channels)
    for part in parts:
        for total, more in zip(unexplained.tensors(), part.unexplained.tensors(), strict=True):
            total += more
    return Firing(
        num_rows=sum(part.num_rows for part in parts),
        fired_F=np.sum([part.fired_F for part in parts], axis=0),
        top_value_FT=np.take_along_axis(value, order, 1),
        top_row_FT=np.take_along_axis(row, order, 1),
        unexplained=unexplained,
    )


def _of_few_images(rows: NDArray[np.int64], image_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in `rows` whose picture stood at most once before them."""
    seen: dict[int, int] = {}
    kept = []
    for place, image in enumerate(image_N[rows].tolist()):
        seen[image] = seen.get(image, 0) + 1
        if seen[image] <= MOST_OF_ONE_IMAGE:
            kept.append(place)
    return np.array(kept, np.int64)


def _slices(rows: range) -> list[tuple[int, int]]:
    return [(first, min(first + ROWS_AT_ONCE, rows.stop)) for first in range(rows.start, rows.stop, ROWS_AT_ONCE)]
