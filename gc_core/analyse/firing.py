"""When features fire: how often, how strongly, and on which samples most.

Letters: B samples, F features, T top samples kept, K examples reported.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.groups import embed
from gc_core.metrics import VarianceSums
from gc_core.scoring import Samples, Sums, encode_and_score
from gc_core.store import Store
from gc_core.stream.ahead import one_ahead

ROWS_AT_ONCE = 256
MOST_OF_ONE_IMAGE = 2
SPARE_CANDIDATES = 4
"""Candidates kept for each example reported, so that enough are left when one image holds many of them."""


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
    top_pose_FT: NDArray[np.int16]
    """Element by which the prototype is turned there; zero where poses are not tied."""
    pose_count_FG: NDArray[np.int64]
    """Number of samples on which each prototype fired in each pose; (F, 0) where poses are not tied."""
    unexplained: VarianceSums


def watch_shards(store: Store, shards: range, model: Crosscoder, *, top_examples: int) -> Firing:
    """Encode the samples of some shards, on the crosscoder's device; at least one."""
    slices = [rows for shard in shards for rows in _slices(store.rows(shard))]
    blocks = embed(model.group, store.group)
    batches = one_ahead(store.read(rows.start, rows.stop)[:, blocks] for rows in slices)
    watched = (_watch(rows, acts, model, top_examples) for rows, acts in zip(slices, batches, strict=True))
    return _merged(watched, top_examples * SPARE_CANDIDATES)


def merge_firing(parts: Iterable[Firing], image_N: NDArray[np.int64], *, top_examples: int) -> Firing:
    """All samples together; of one image at most two samples are a feature's examples.

    Parts are merged as they come, so that never more than two are in memory. Sums of floating-point numbers depend on
    the order of the parts, in the last digits; nothing else does.
    """
    merged = _merged(parts, top_examples * SPARE_CANDIDATES)
    value_FK = np.zeros((len(merged.fired_F), top_examples), np.float32)
    row_FK = np.full((len(merged.fired_F), top_examples), -1, np.int64)
    pose_FK = np.zeros(row_FK.shape, np.int16)
    for feature, (values, rows) in enumerate(zip(merged.top_value_FT, merged.top_row_FT, strict=True)):
        kept = _of_few_images(rows[values > 0], image_N)[:top_examples]
        row_FK[feature, : len(kept)] = rows[kept]
        value_FK[feature, : len(kept)] = values[kept]
        pose_FK[feature, : len(kept)] = merged.top_pose_FT[feature, kept]
    return replace(merged, top_value_FT=value_FK, top_row_FT=row_FK, top_pose_FT=pose_FK)


def _watch(rows: range, acts_NGC: NDArray[np.float16], model: Crosscoder, top_examples: int) -> Firing:
    sums, samples = Sums.of(model), Samples(torch.from_numpy(acts_NGC).to(model.W_dec.device).float())
    (codes,) = encode_and_score(model, [samples], sums)
    z_BF, pose_BF = codes.z_BF, codes.pose_BF
    top = z_BF.T.topk(min(len(rows), top_examples * SPARE_CANDIDATES), dim=1)
    value_FT = top.values.float().cpu().numpy()
    return Firing(
        num_rows=len(rows),
        fired_F=(z_BF > 0).sum(0).cpu().numpy(),
        top_value_FT=value_FT,
        top_row_FT=np.where(value_FT > 0, top.indices.cpu().numpy() + rows.start, -1),
        top_pose_FT=_poses_at(top.indices, pose_BF).cpu().numpy(),
        pose_count_FG=_pose_counts(z_BF > 0, pose_BF, model.group.order).cpu().numpy(),
        unexplained=VarianceSums(*(total.cpu() for total in sums.variance.tensors())),
    )


def _poses_at(sample_FT: Tensor, pose_BF: Tensor | None) -> Tensor:
    if pose_BF is None:
        return torch.zeros_like(sample_FT, dtype=torch.int16)
    return pose_BF.T.gather(1, sample_FT).short()


def _pose_counts(active_BF: Tensor, pose_BF: Tensor | None, order: int) -> Tensor:
    num_features = active_BF.shape[1]
    if pose_BF is None:
        return torch.zeros(num_features, 0, dtype=torch.int64)
    counts_FG = torch.zeros(num_features, order, dtype=torch.int64, device=active_BF.device)
    return counts_FG.scatter_add(1, pose_BF.T, active_BF.T.long())


def _merged(parts: Iterable[Firing], keep: int) -> Firing:
    return reduce(lambda one, other: _both(one, other, keep), parts)


def _both(one: Firing, other: Firing, keep: int) -> Firing:
    """Merge two; of equal activations the earlier sample comes first, so that the order of merging decides nothing."""
    value = np.concatenate([one.top_value_FT, other.top_value_FT], axis=1)
    row = np.concatenate([one.top_row_FT, other.top_row_FT], axis=1)
    pose = np.concatenate([one.top_pose_FT, other.top_pose_FT], axis=1)
    order = np.lexsort((row, -value), axis=1)[:, :keep]
    sums = zip(one.unexplained.tensors(), other.unexplained.tensors(), strict=True)
    return Firing(
        num_rows=one.num_rows + other.num_rows,
        fired_F=one.fired_F + other.fired_F,
        top_value_FT=np.take_along_axis(value, order, 1),
        top_row_FT=np.take_along_axis(row, order, 1),
        top_pose_FT=np.take_along_axis(pose, order, 1),
        pose_count_FG=one.pose_count_FG + other.pose_count_FG,
        unexplained=VarianceSums(*(mine + theirs for mine, theirs in sums)),
    )


def _of_few_images(rows: NDArray[np.int64], image_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in `rows` whose image stood at most once before them."""
    seen: dict[int, int] = {}
    kept = []
    for place, image in enumerate(image_N[rows].tolist()):
        seen[image] = seen.get(image, 0) + 1
        if seen[image] <= MOST_OF_ONE_IMAGE:
            kept.append(place)
    return np.array(kept, np.int64)


def _slices(rows: range) -> list[range]:
    return [rows[first : first + ROWS_AT_ONCE] for first in range(0, len(rows), ROWS_AT_ONCE)]
