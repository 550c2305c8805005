"""Do two crosscoders, of two seeds say, find the same features? One-to-one matching, and what chance would give.

Letters: F features, J features of the other crosscoder, M matched pairs, G group elements, C channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.evaluate.matching import matched_cosines
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


def compare(one: Crosscoder, other: Crosscoder, *, up_to_pose: bool, seed: int = 0) -> Stability:
    """Match features one to one so that the sum of their cosines is largest (Hungarian method; of more than 4,096
    features among the nearest of each), computed on the first one's device.

    The seed decides the random turn of channels behind `chance_mean`.

    Raises:
        ValueError: the two do not explain the same blocks.
    """
    if (one.group, one.shape.channels) != (other.group, other.shape.channels):
        found, expected = (f"{m.group.name} with {m.shape.channels} channels" for m in (other, one))
        raise ValueError(
            f"against: a crosscoder over {found} found, expected one over {expected}; features of different blocks "
            "cannot be matched"
        )
    mine_FGC = one.W_dec.detach()
    others_JGC = other.W_dec.detach().to(mine_FGC.device)
    turned_JGC = others_JGC @ _random_rotation(one.shape.channels, seed).to(others_JGC)

    def agreement(poses: bool) -> Agreement:
        matched, by_chance = (
            matched_cosines(
                lambda theirs=theirs: cosine_rows(mine_FGC, theirs, one if poses else None),
                len(mine_FGC),
                len(theirs),
            )
            for theirs in (others_JGC, turned_JGC)
        )
        return _agreement(matched, by_chance)

    return Stability(
        num_pairs=min(len(mine_FGC), len(others_JGC)),
        as_is=agreement(poses=False),
        up_to_pose=agreement(poses=True) if up_to_pose else None,
    )


def cosine_rows(
    decoder_FGC: Tensor, others_JGC: Tensor, up_to_pose_of: Crosscoder | None = None
) -> Iterator[NDArray[np.float32]]:
    """(F, J) cosines of whole decoders, ROWS_AT_ONCE at a time; with a crosscoder, maximal over the poses of its
    group. Zero where a decoder is zero."""
    for rows_BGC in decoder_FGC.split(ROWS_AT_ONCE):
        if up_to_pose_of is None:
            yield _cosines(rows_BGC, others_JGC)
            continue
        parts = others_JGC.split(ROWS_AT_ONCE)
        yield np.concatenate(
            [best_poses(rows_BGC, part, up_to_pose_of.group)[0].float().cpu().numpy() for part in parts], axis=1
        )


def _cosines(rows_BGC: Tensor, others_JGC: Tensor) -> NDArray[np.float32]:
    mine, theirs = rows_BGC.flatten(1), others_JGC.flatten(1)
    sizes = mine.norm(dim=1)[:, None] * theirs.norm(dim=1)
    return (mine @ theirs.T).div_(sizes.clamp_min(1e-30)).float().cpu().numpy()  # no copy as large as a dictionary


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
