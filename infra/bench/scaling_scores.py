"""What penalties did to the blocks and words of features: each score a function of arrays, which knows neither models
nor stores.

Letters: R features, G group elements, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import analyse, symmetry
from gc_core.config import AnalyseConfig
from gc_core.evaluate import LatentScaling
from gc_core.families import family_similarity
from gc_core.groups import Group

WEAK = 0.5
"""A block is weak that is shorter than this share of its feature's longest."""
SURE = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two dictionaries say the same of features that are copies of each other."""

    penalty: str
    """Of the other."""
    seed: int
    partners: float
    """Share of the features that have a partner there."""
    same: float | None
    """Share of these whose partner has the same word; None without any."""
    dealt: float | None
    """The same with the partners' words dealt out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """Judged features of one training."""

    penalty: str
    seed: int
    decoder_RGC: Tensor
    words_R: list[str]


def factors(decoder_RGC: Tensor, found: LatentScaling, often_R: NDArray[np.bool_]) -> dict[str, Any]:
    """What `Scaled` tells of factors, of some features."""
    norm_RG = decoder_RGC[torch.from_numpy(often_R)].norm(dim=2).numpy()
    anew_RG = found.refitted_RGC[torch.from_numpy(often_R)].norm(dim=2).numpy()
    weak_RG, still_RG = (each < WEAK * each.max(1, keepdims=True) for each in (norm_RG, anew_RG))
    factor_RG, deviation_RG = found.error_RG[often_R], found.deviation_RG[often_R]
    mean_R = np.nanmean(factor_RG, 1)
    off_RG = (factor_RG - 1) / deviation_RG
    return {
        "weak": float(weak_RG.mean()),
        "factor": float(np.nanmedian(factor_RG)),
        "weak_factor": float(np.nanmedian(factor_RG[weak_RG])) if np.isfinite(factor_RG[weak_RG]).any() else None,
        "above": float((off_RG > SURE).mean()),
        "below": float((off_RG < -SURE).mean()),
        "uneven": float(np.median(np.nanstd(factor_RG, 1) / mean_R)),
        "uneven_by_chance": float(np.median(np.sqrt(np.nanmean(deviation_RG**2, 1)) / mean_R)),
        "filled": float(1 - still_RG[weak_RG].mean()) if weak_RG.any() else None,
        "others": float(np.nanmedian(found.others_RG[often_R])),
    }


def words_of(decoder_RGC: Tensor, group: Group) -> list[str]:
    """The analysis' words, with its defaults."""
    config = AnalyseConfig().resolved(tied=False)
    evidence = symmetry.evidence_of(decoder_RGC, group, surrogates=config.surrogates, seed=config.seed)
    return [each.words for each in analyse.judge(evidence, group, config).verdict_F]


def agreement(mine: Dictionary, other: Dictionary, group: Group, least_similarity: float) -> Agreement:
    """Pair each of my features with the most similar of the other's, and compare their words."""
    share = AnalyseConfig().invariant_share
    similarity_RJ, _ = family_similarity(mine.decoder_RGC, other.decoder_RGC, group, invariant_share=share)
    best = similarity_RJ.max(1)
    paired_R = (best.values >= least_similarity).numpy()
    own = np.array(mine.words_R)[paired_R]
    theirs = np.array(other.words_R)[best.indices.numpy()[paired_R]]
    return Agreement(
        penalty=other.penalty,
        seed=other.seed,
        partners=float(paired_R.mean()),
        same=float((own == theirs).mean()) if len(own) else None,
        dealt=float((own[:, None] == theirs[None]).mean()) if len(own) else None,
    )


def same_words(words_R: Sequence[str], others_R: Sequence[str]) -> float:
    return float(np.mean([one == other for one, other in zip(words_R, others_R, strict=True)]))
