"""Do two crosscoders, of two seeds say, find the same features? One-to-one matching, and what chance would give.

Letters: F features, J features of the other crosscoder, M matched pairs, G group elements, C channels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gc_core.crosscoder import GroupCrosscoder
from gc_core.families import best_poses

ROWS_AT_ONCE = 256
"""Features compared at once where poses are searched: transforms of this many are in memory, not of all."""
CLOSE, SAME = 0.7, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How close the matched pairs are; plain numbers, fit for JSON."""

    mean: float
    """Mean cosine over the pairs."""
    median: float
    share_above_70: float
    """Pairs with a cosine above 0.7."""
    share_above_90: float
    chance_mean: float
    """Mean cosine where the other's channels were turned at random: the same norms, symmetries and likenesses among
    its own features, and nothing in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """Two dictionaries compared."""

    num_pairs: int
    """The smaller one's features: each has one partner of its own in the other."""
    as_is: Agreement
    """Cosine of whole decoders."""
    up_to_pose: Agreement | None
    """Cosine maximal over the group, so that a feature and its turned copy count as the same; None if not asked for."""


def compare(one: GroupCrosscoder, other: GroupCrosscoder, *, up_to_pose: bool, seed: int = 0) -> Stability:
    """Match features one to one so that the sum of their cosines is largest (Hungarian method).

    The seed decides the random turn of channels behind `chance_mean`.

    Raises:
        ValueError: the two do not explain the same blocks.
    """
    if (one.group, one.shape.channels) != (other.group, other.shape.channels):
        found, expected = (f"{m.shape.group} with {m.shape.channels} channels" for m in (other, one))
        raise ValueError(
            f"against: a crosscoder over {found} found, expected one over {expected}; features of different blocks "
            "cannot be matched"
        )
    mine_FGC, others_JGC = one.W_dec.detach(), other.W_dec.detach()
    turned_JGC = others_JGC @ _random_rotation(one.shape.channels, seed).to(others_JGC)

    def agreement(poses: bool) -> Agreement:
        matched, by_chance = (
            matched_cosines(cosines_up_to_pose(mine_FGC, theirs, one) if poses else cosines(mine_FGC, theirs))
            for theirs in (others_JGC, turned_JGC)
        )
        return _agreement(matched, by_chance)

    return Stability(
        num_pairs=min(len(mine_FGC), len(others_JGC)),
        as_is=agreement(poses=False),
        up_to_pose=agreement(poses=True) if up_to_pose else None,
    )


def cosines(decoder_FGC: Tensor, others_JGC: Tensor) -> NDArray[np.float32]:
    """(F, J) cosines of whole decoders; zero where a decoder is zero."""
    mine, theirs = decoder_FGC.flatten(1), others_JGC.flatten(1)
    sizes = mine.norm(dim=1)[:, None] * theirs.norm(dim=1)
    return (mine @ theirs.T).div_(sizes.clamp_min(1e-30)).float().numpy()  # no copy as large as a dictionary


def cosines_up_to_pose(decoder_FGC: Tensor, others_JGC: Tensor, model: GroupCrosscoder) -> NDArray[np.float32]:
    """(F, J) similarity s(i, j) = max over h of cos(D_i, rho(h) D_j), computed by blocks of both dictionaries."""
    found = np.empty((len(decoder_FGC), len(others_JGC)), np.float32)
    for first in range(0, len(decoder_FGC), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        for start in range(0, len(others_JGC), ROWS_AT_ONCE):
            columns = slice(start, start + ROWS_AT_ONCE)
            found[rows, columns] = best_poses(decoder_FGC[rows], others_JGC[columns], model.group)[0].float().numpy()
    return found


def matched_cosines(cosine_FJ: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M,) cosines of the one-to-one pairs, M = min(F, J), whose sum is the largest possible."""
    return cosine_FJ[linear_sum_assignment(cosine_FJ, maximize=True)]


def _agreement(matched_M: NDArray[np.float32], by_chance_M: NDArray[np.float32]) -> Agreement:
    return Agreement(
        mean=float(matched_M.mean()),
        median=float(np.median(matched_M)),
        share_above_70=float((matched_M > CLOSE).mean()),
        share_above_90=float((matched_M > SAME).mean()),
        chance_mean=float(by_chance_M.mean()),
    )


def _random_rotation(channels: int, seed: int) -> Tensor:
    """(C, C) orthogonal, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64, generator=generator)).Q
