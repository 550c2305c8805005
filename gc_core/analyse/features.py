"""What the weights alone say of features: curves, self-similarity, spectrum, stabiliser, similarity to others.

Letters: F features, J features compared with, G group elements, R irreducible representations.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gc_core import families, symmetry
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.symmetry import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSymmetry:
    """A range of features."""

    curve_FG: NDArray[np.float32]
    self_similarity_FG: NDArray[np.float32]
    block_norm_FG: NDArray[np.float32]
    spectrum_FR: NDArray[np.float32]
    """Shares, summing to one for a living feature."""
    verdict_F: list[Verdict]


@torch.no_grad()
def describe_features(model: GroupCrosscoder, features: NDArray[np.int64], config: AnalyseConfig) -> FeatureSymmetry:
    """Symmetry of some features."""
    decoder_FGC = model.W_dec[torch.from_numpy(features)].detach()
    energy = symmetry.spectrum(decoder_FGC, model.group)
    return FeatureSymmetry(
        curve_FG=symmetry.transform_block_curve(decoder_FGC).numpy(),
        self_similarity_FG=symmetry.self_similarity(decoder_FGC, model.group).numpy(),
        block_norm_FG=decoder_FGC.norm(dim=2).numpy(),
        spectrum_FR=(energy / energy.sum(1, keepdim=True).clamp_min(1e-30)).numpy(),
        verdict_F=symmetry.verdicts(
            decoder_FGC, model.group, threshold=config.symmetry_threshold, invariant_share=config.invariant_share
        ),
    )


@torch.no_grad()
def similarity_rows(
    model: GroupCrosscoder, features: NDArray[np.int64], others: NDArray[np.int64], config: AnalyseConfig
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """(F, J) similarity of whole and changing part, the maximum over poses, and the pose that attains it."""
    decoder_FGC = model.W_dec.detach()
    similarity, pose = families.family_similarity(
        decoder_FGC[torch.from_numpy(features)],
        decoder_FGC[torch.from_numpy(others)],
        model.group,
        invariant_share=config.invariant_share,
    )
    return similarity.numpy(), pose.numpy().astype(np.int16)
