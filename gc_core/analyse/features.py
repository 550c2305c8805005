"""What the weights alone say of features: curves, self-similarity, spectrum, stabiliser, similarity to others.

Letters: F features, J features compared with, G group elements, R irreducible representations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import families, symmetry
from gc_core.config import AnalyseConfig, ResolvedAnalyseConfig
from gc_core.crosscoder import Crosscoder
from gc_core.families import Cluster, clusters_of
from gc_core.groups import Group
from gc_core.spanning import EMPTY, Forest, joined, pairs_above
from gc_core.symmetry import Evidence, Verdict

BAND_ROWS, TILE_COLUMNS = 512, 512
"""Features whose transforms are in memory together. A tile costs a transform of both sides and 512 products a feature:
for D_32 and 480 channels an eighth of the time, and 0.5 GB."""


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
def describe_features(model: Crosscoder, features: NDArray[np.int64], config: AnalyseConfig) -> FeatureSymmetry:
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
    """Of some features, whose dictionary has that summed alignment."""
    return symmetry.evidence_of(
        _decoder(model, features),
        model.group,
        features=features.tolist(),
        alignment_2=alignment_2,
        surrogates=config.surrogates,
        seed=config.seed,
    )


def summed_alignment(described: FeatureSymmetry, alive_F: NDArray[np.bool_]) -> tuple[float, float]:
    """Over the living features: dead ones lie where they were put at random."""
    squares, count = described.alignment_F2[alive_F].sum(0)
    return float(squares), float(count)


def symmetry_of_all(parts: Sequence[FeatureSymmetry]) -> FeatureSymmetry:
    """Of the features of all parts, one after the other."""
    arrays = [each.name for each in fields(FeatureSymmetry)]
    return FeatureSymmetry(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays})


def judge(evidence: Evidence, group: Group, config: AnalyseConfig, alive_F: NDArray[np.bool_] | None = None) -> Judged:
    """What is said of each feature; false discoveries are counted among those that are alive (None: all)."""
    found = symmetry.decide(
        evidence,
        group,
        threshold=config.symmetry_threshold,
        invariant_share=config.invariant_share,
        rate=config.false_discoveries,
        tested_F=alive_F,
    )
    return Judged(evidence=evidence, verdict_F=found)


def band_of_similarities(
    model: Crosscoder, alive: NDArray[np.int64], rows: range, config: AnalyseConfig
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Similarity of whole and changing part of some of the living features with themselves and those behind them, the
    maximum over poses, and the pose that attains it: (F, J), J living features from the first of the rows on.

    What lies before them other bands compare: the similarity is the same from both sides.
    """
    similarity_FJ = np.empty((len(rows), len(alive) - rows.start), np.float32)
    pose_FJ = np.empty(similarity_FJ.shape, np.int16)
    for start, similarity, pose in _tiles(model, alive, rows, config):
        columns = slice(start - rows.start, start - rows.start + similarity.shape[1])
        similarity_FJ[:, columns], pose_FJ[:, columns] = similarity, pose
    return similarity_FJ, pose_FJ


def band_of_pairs(model: Crosscoder, alive: NDArray[np.int64], rows: range, config: ResolvedAnalyseConfig) -> Forest:
    """A maximum spanning forest of the pairs of the same band that are similar enough for one family, numbered among
    the living features; never more than a tile of similarities is in memory."""
    found = EMPTY
    for start, similarity, _ in _tiles(model, alive, rows, config):
        more = pairs_above(similarity, config.family_similarity, first=rows.start, start=start)
        found = joined([found, more], len(alive))
    return found


def families_within(model: Crosscoder, features: NDArray[np.int64], config: ResolvedAnalyseConfig) -> list[Cluster]:
    """Families among some features alone, numbered as these are in the dictionary."""
    every = AssembledSimilarities(len(features), model.group)
    for rows in bands(len(features)):
        every.add(rows, *band_of_similarities(model, features, rows, config))
    return [
        replace(
            each,
            member_M=features[each.member_M],
            representative=int(features[each.representative]),
        )
        for each in every.clusters(config)
    ]


class AssembledSimilarities:
    """All pairs of some features, from bands; 6 bytes a pair, and 8 more while families are looked for."""

    def __init__(self, num_features: int, group: Group) -> None:
        self._similarity_FF = np.empty((num_features, num_features), np.float32)
        self._pose_FF = np.empty((num_features, num_features), np.int16)
        self._inverse = group.inverse.astype(np.int16)

    def add(self, rows: range, similarity_FJ: NDArray[np.float32], pose_FJ: NDArray[np.int16]) -> None:
        """What `band_of_similarities` gives for these rows, and the same from the other side."""
        band = slice(rows.start, rows.stop)
        self._similarity_FF[band, rows.start :], self._pose_FF[band, rows.start :] = similarity_FJ, pose_FJ
        self._similarity_FF[rows.stop :, band] = similarity_FJ[:, len(rows) :].T
        self._pose_FF[rows.stop :, band] = self._inverse[pose_FJ[:, len(rows) :].T]

    def clusters(self, config: ResolvedAnalyseConfig) -> list[Cluster]:
        """Families, of features numbered from 0."""
        return clusters_of(self._similarity_FF, self._pose_FF, least_similarity=config.family_similarity)


def bands(num_features: int) -> list[range]:
    """Features that one task compares with all behind them."""
    return [range(num_features)[first : first + BAND_ROWS] for first in range(0, num_features, BAND_ROWS)]


@torch.no_grad()
def _tiles(
    model: Crosscoder, alive: NDArray[np.int64], rows: range, config: AnalyseConfig
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.int16]]]:
    """Where among the living features each tile of a band begins, and its similarities and poses."""
    mine_FGC = _decoder(model, alive[rows.start : rows.stop])
    for start in range(rows.start, len(alive), TILE_COLUMNS):
        theirs_JGC = _decoder(model, alive[start : start + TILE_COLUMNS])
        similarity, pose = families.family_similarity(
            mine_FGC, theirs_JGC, model.group, invariant_share=config.invariant_share
        )
        yield start, similarity.float().cpu().numpy(), pose.cpu().numpy().astype(np.int16)


def _decoder(model: Crosscoder, features: NDArray[np.int64]) -> Tensor:
    # A copy: what comes through Ray's object store cannot be written, and PyTorch warns of that.
    return model.W_dec.detach()[torch.from_numpy(np.array(features)).to(model.W_dec.device)]
