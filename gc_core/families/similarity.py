"""Similarity of every pair of features, maximal over poses.

s(i, j) = max over h of cos(D_i, rho(h) D_j); the h that attains it is the *pose* of j relative to i.

All poses cost little more than one dot product: <D_i, rho(h) D_j> is a correlation on the group
(`gc_core.crosscoder.correlations`).

Letters: F features, J features compared with, G group elements, C channels.
"""

import torch
from torch import Tensor

from gc_core.crosscoder.correlations import correlations, transform
from gc_core.groups import FiniteGroup

_ROWS_AT_ONCE = 64


def best_poses(decoder_FGC: Tensor, others_JGC: Tensor, group: FiniteGroup) -> tuple[Tensor, Tensor]:
    """Similarity s (F, J) and the pose h (F, J, int64) that attains it, for every pair."""
    left, right = transform(unit(decoder_FGC), group), transform(unit(others_JGC), group)
    similarity, pose = [], []
    for first in range(0, len(decoder_FGC), _ROWS_AT_ONCE):
        products_FJH = correlations([part[:, first : first + _ROWS_AT_ONCE] for part in left], right, group)
        best = products_FJH.max(dim=2)
        similarity.append(best.values)
        pose.append(best.indices)
    return torch.cat(similarity), torch.cat(pose)


def family_similarity(
    decoder_FGC: Tensor, others_JGC: Tensor, group: FiniteGroup, *, invariant_share: float
) -> tuple[Tensor, Tensor]:
    """How far every pair are copies: the smaller of the cosines of the whole features and of their changing parts (the
    blocks minus their mean), at the pose that makes it largest; (F, J), and that pose (F, J, int64).

    Two features may share half of their energy, the part that no element changes, and have nothing else in common. That
    part adds the same to the product at every pose, so both cosines are largest at one pose, and one search finds it.
    Of two features with `invariant_share` or more of their energy unchanging the whole alone is compared.
    """
    whole_FJ, pose_FJ = best_poses(decoder_FGC, others_JGC, group)
    (mean_FC, norm_F, change_F), (mean_JC, norm_J, change_J) = (_parts(each) for each in (decoder_FGC, others_JGC))
    product_FJ = whole_FJ * norm_F[:, None] * norm_J - group.order * mean_FC @ mean_JC.T
    changing_FJ = (product_FJ / (change_F[:, None] * change_J)).clamp(-1, 1)
    steady_F, steady_J = (
        1 - (change / norm).square() >= invariant_share for change, norm in ((change_F, norm_F), (change_J, norm_J))
    )
    return torch.where(steady_F[:, None] & steady_J, whole_FJ, torch.minimum(whole_FJ, changing_FJ)), pose_FJ


def unit(decoder_FGC: Tensor) -> Tensor:
    """Decoders of norm one; a zero feature stays zero."""
    return torch.nn.functional.normalize(decoder_FGC.flatten(1), dim=1).view_as(decoder_FGC)


def _parts(decoder_FGC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean block, the norm of the feature, and that of its changing part."""
    smallest = torch.finfo(decoder_FGC.dtype).tiny ** 0.5
    mean_FC, norm_F = decoder_FGC.mean(1), decoder_FGC.flatten(1).norm(dim=1).clamp_min(smallest)
    change_F = (decoder_FGC - mean_FC[:, None]).flatten(1).norm(dim=1)
    return mean_FC, norm_F, change_F.maximum(norm_F * torch.finfo(norm_F.dtype).eps)
