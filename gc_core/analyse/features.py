"""What the weights alone say of each feature: curves, self-similarity, spectrum, stabiliser.

Letters: F features, G group elements, R irreducible representations.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import symmetry
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import Crosscoder
from gc_core.groups import FiniteGroup
from gc_core.symmetry import Evidence, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSymmetry:
    """A range of features."""

    curve_FG: NDArray[np.float32]
    self_similarity_FG: NDArray[np.float32]
    block_norm_FG: NDArray[np.float32]
    block_step_FG: NDArray[np.float32]
    """How far each block is from that of one rotation further: where it is small, the layer tells the two poses apart
    badly."""
    spectrum_FR: NDArray[np.float32]
    """Shares, summing to one for a living feature."""
    alignment_F2: NDArray[np.float64]
    """How the feature lies in the channels, which others borrow where they know little (`symmetry.alignment_of`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is said of features, and why."""

    evidence: Evidence
    verdict_F: list[Verdict]


@torch.no_grad()
def describe_features(model: Crosscoder, features: NDArray[np.int64]) -> FeatureSymmetry:
    """Symmetry of some features, computed on the crosscoder's device."""
    decoder_FGC = _decoder(model, features)
    energy = symmetry.spectrum(decoder_FGC, model.group)
    return FeatureSymmetry(
        curve_FG=symmetry.transform_block_curve(decoder_FGC).cpu().numpy(),
        self_similarity_FG=symmetry.self_similarity(decoder_FGC, model.group).cpu().numpy(),
        block_norm_FG=decoder_FGC.norm(dim=2).cpu().numpy(),
        block_step_FG=symmetry.block_steps(decoder_FGC, model.group).cpu().numpy(),
        spectrum_FR=(energy / energy.sum(1, keepdim=True).clamp_min(1e-30)).cpu().numpy(),
        alignment_F2=symmetry.alignment_of(decoder_FGC, model.group),
    )


@torch.no_grad()
def evidence_of_features(
    model: Crosscoder, features: NDArray[np.int64], alignment_2: tuple[float, float], config: AnalyseConfig
) -> Evidence:
    """Evidence of symmetry of some features, whose dictionary has that summed alignment."""
    return symmetry.evidence_of(
        _decoder(model, features),
        model.group,
        features=features.tolist(),
        alignment_2=alignment_2,
        surrogates=config.surrogates,
        seed=config.seed,
    )


def summed_alignment(described: FeatureSymmetry, alive_F: NDArray[np.bool_]) -> tuple[float, float]:
    """Sums over the living features: dead ones lie where they were put at random."""
    squares, count = described.alignment_F2[alive_F].sum(0)
    return float(squares), float(count)


def judge(
    evidence: Evidence, group: FiniteGroup, config: AnalyseConfig, alive_F: NDArray[np.bool_] | None = None
) -> Judged:
    """What is said of each feature; false discoveries are counted among those that are alive (None: all)."""
    verdict_F = symmetry.decide(
        evidence,
        group,
        threshold=config.symmetry_threshold,
        invariant_share=config.invariant_share,
        rate=config.false_discoveries,
        tested_F=alive_F,
    )
    return Judged(evidence=evidence, verdict_F=verdict_F)


def _decoder(model: Crosscoder, features: NDArray[np.int64]) -> Tensor:
    # A copy: what comes through Ray's object store cannot be written, and PyTorch warns of that.
    return model.W_dec.detach()[torch.from_numpy(np.array(features)).to(model.W_dec.device)]
