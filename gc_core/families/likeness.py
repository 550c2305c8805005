"""What decides the similarity of two features, in the form in which many are compared.

The cosine of two whole features is a sum of two: what their mean blocks add, the same at every pose, and that of their
changing parts, times the shares of these. So one search over poses, of changing parts of norm one, gives both cosines
of `family_similarity`.

Letters: F features, J features compared with, P pairs, G group elements, C channels, d dimension of a representation,
I how many have it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gc_core.crosscoder.correlations import Representation, real_representations, transform
from gc_core.groups import FiniteGroup

CLOSE = 1e-4
"""Poses whose products differ by less are equally good, and similarities are told apart no finer: rounding, which
depends on how many features are compared at once, decides nothing."""
_ROWS, _COLUMNS = 128, 256
"""Pairs whose products at all poses stay in a processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """All about some features that does not depend on the pose."""

    mean_FC: Tensor
    """Mean block, so scaled that inner products are what it adds to the cosine of the whole."""
    change_F: Tensor
    """Norm of the changing part over that of the whole, 0 to 1."""
    steady_F: Tensor
    """Whether so little changes that only the whole is compared; bool."""

    def __getitem__(self, of: slice | Tensor) -> Self:
        """Levels of some of the features."""
        return type(self)(mean_FC=self.mean_FC[of], change_F=self.change_F[of], steady_F=self.steady_F[of])


def split(decoder_FGC: Tensor, *, invariant_share: float) -> tuple[Levels, Tensor]:
    """Levels, and the changing parts (F, G, C) of norm one; what is zero stays zero."""
    smallest = torch.finfo(decoder_FGC.dtype).tiny ** 0.5
    norm_F = decoder_FGC.flatten(1).norm(dim=1).clamp_min(smallest)
    unit_FGC = decoder_FGC / norm_F[:, None, None]
    mean_FC = unit_FGC.mean(1)
    changing_FGC = unit_FGC - mean_FC[:, None]
    change_F = changing_FGC.flatten(1).norm(dim=1)
    rounding = torch.finfo(decoder_FGC.dtype).eps
    changing_FGC *= torch.where(change_F > 4 * rounding, 1 / change_F.clamp_min(rounding), 0)[:, None, None]
    levels = Levels(
        mean_FC=mean_FC * decoder_FGC.shape[1] ** 0.5,
        change_F=change_F,
        steady_F=1 - change_F.square() >= invariant_share,
    )
    return levels, changing_FGC


def similarity_of(changing_FJ: Tensor, left: Levels, right: Levels) -> Tensor:
    """`family_similarity` (F, J) of every pair from the cosines of changing parts at the best pose; an upper bound of
    it from an upper bound of those."""
    whole_FJ = left.mean_FC @ right.mean_FC.T + left.change_F[:, None] * right.change_F * changing_FJ
    steady_FJ = left.steady_F[:, None] & right.steady_F
    return torch.where(steady_FJ, whole_FJ, torch.minimum(whole_FJ, changing_FJ))


def similarity_of_pairs(changing_P: Tensor, left: Levels, right: Levels) -> Tensor:
    """Similarity of the first with the first, the second with the second, ...; (P,)."""
    whole_P = (left.mean_FC * right.mean_FC).sum(1) + left.change_F * right.change_F * changing_P
    return torch.where(left.steady_F & right.steady_F, whole_P, torch.minimum(whole_P, changing_P))


def changing_representations(group: FiniteGroup) -> Sequence[Representation]:
    """All but the trivial one, in which a changing part has nothing; the group of one element has no other."""
    return real_representations(group)[1:] or real_representations(group)


def changing_transform(changing_FGC: Tensor, group: FiniteGroup) -> list[Tensor]:
    """The transform (d, F, d C) in each of these, column after column as in `correlations.transform`."""
    parts = [each for part in transform(changing_FGC, group) for each in part]
    return [part.transpose(0, 1).contiguous() for part in parts[1:] or parts]


def pose_table(group: FiniteGroup, wanted: Sequence[bool] | None = None) -> Tensor:
    """(G, K) from the entries of all matrices of a pair, representation by representation as `changing_transform` has
    them, to its products at every pose; of the `wanted` ones alone. Float64."""
    changing = changing_representations(group)
    kept = [each for each, take in zip(changing, wanted or [True] * len(changing), strict=True) if take]
    return torch.from_numpy(np.concatenate([each.matrices.reshape(group.order, -1) for each in kept], axis=1))


def largest_products(left: Sequence[Tensor], right: Sequence[Tensor], table_GK: Tensor) -> Tensor:
    """Largest product over the poses of every pair, (F, J); `left` and `right` as `changing_transform` gives them, or
    projections of those."""
    best_FJ = left[0].new_empty(left[0].shape[1], right[0].shape[1])
    for place, entries_KP in _entries(left, right):
        best_FJ[place] = (table_GK @ entries_KP).amax(0).view(best_FJ[place].shape)
    return best_FJ


def best_products(left: Sequence[Tensor], right: Sequence[Tensor], table_GK: Tensor) -> tuple[Tensor, Tensor]:
    """`largest_products`, and the pose (F, J, int64) that attains each: of equally good ones the first."""
    best_FJ = left[0].new_empty(left[0].shape[1], right[0].shape[1])
    pose_FJ = torch.empty(best_FJ.shape, dtype=torch.int64, device=best_FJ.device)
    for place, entries_KP in _entries(left, right):
        best, pose = _best(entries_KP, table_GK)
        best_FJ[place], pose_FJ[place] = best.view(best_FJ[place].shape), pose.view(best_FJ[place].shape)
    return best_FJ, pose_FJ


def best_products_of_pairs(left: Sequence[Tensor], right: Sequence[Tensor], table_GK: Tensor) -> tuple[Tensor, Tensor]:
    """`best_products`, (P,) each, of the first with the first, the second with the second, ..."""
    entries = [
        torch.einsum("apx,bpx->abp", mine, theirs).flatten(0, 1) for mine, theirs in zip(left, right, strict=True)
    ]
    return _best(torch.cat(entries), table_GK)


def _entries(left: Sequence[Tensor], right: Sequence[Tensor]) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Matrices of every pair (K, P), some rows and columns at a time."""
    for rows in _spans(left[0].shape[1], _ROWS):
        for columns in _spans(right[0].shape[1], _COLUMNS):
            of_each = [
                (mine[:, None, rows] @ theirs[None, :, columns].transpose(2, 3)).flatten(2).flatten(0, 1)
                for mine, theirs in zip(left, right, strict=True)
            ]
            yield (rows, columns), torch.cat(of_each)


def _best(entries_KP: Tensor, table_GK: Tensor) -> tuple[Tensor, Tensor]:
    """Best product and pose of each pair; the first pose that is as good as any."""
    products_GP = table_GK @ entries_KP
    best_P = products_GP.amax(0)
    return best_P, (products_GP >= best_P - CLOSE).to(torch.uint8).argmax(0)


def _spans(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
