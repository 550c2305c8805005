"""Latent scaling: by which factor each block of each feature should be scaled to explain samples that it was not made
from.

A block may be weak or absent because activations have nothing there, or because a penalty has shrunk it. For feature i
with code z and block D_i[g], over the samples in which it is active,

    beta_i(g) = argmin over b of sum_n |b z_ni D_i[g] - y_n[g]|^2
              = sum_n z_ni <D_i[g], y_n[g]> / sum_n z_ni^2 |D_i[g]|^2

with y the activation less bias and all other features (`error`): 1 where the block is as long as it should be, above 1
where it was shrunk, below 1 where it is too long, 0 where it explains nothing; or y what those others say there
(`others`): 0 where none of them says the same, 1 where they say as much of it as the feature. The two add up to the
factor for the activation less the bias alone (`total`).

Source: Minder et al. 2025, Overcoming Sparsity Artifacts in Crosscoders (arXiv 2504.02922), where the two models of a
crosscoder are what elements of the group are here.

Letters: B samples, K active features of one, R features (prototypes where poses are tied), G group elements, C
channels, N active pairs of a sample and a feature.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.activation_functions import SparseCode
from gc_core.groups import FiniteGroup
from gc_core.scoring import Samples

PAIRS_AT_ONCE = 256
"""Active pairs whose blocks are in memory together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentScaling:
    """Factors of all blocks; where poses are tied, in the prototype's own pose."""

    fired_R: NDArray[np.int64]
    """Samples in which each feature is active."""
    error_RG: NDArray[np.float64]
    """NaN, here and below, where a feature is never active or its block is zero."""
    others_RG: NDArray[np.float64]
    deviation_RG: NDArray[np.float64]
    """Standard error of `error_RG` over images, whose samples are alike (sandwich estimator); NaN with fewer than two
    images, too."""
    refitted_RGC: Tensor
    """Each feature's least-squares decoder for what all others leave over: where a block is zero and should not be, no
    factor can tell, but this does. One feature at a time, so what is missing from two that are active together is
    counted to both. Zero where a feature is never active."""

    @property
    def total_RG(self) -> NDArray[np.float64]:
        """The factor for the activation less the bias."""
        return self.error_RG + self.others_RG


@torch.no_grad()
def latent_scaling(
    model: Crosscoder, batches: Iterable[Samples], *, dealt: torch.Generator | None = None
) -> LatentScaling:
    """Factors over some samples, best ones that the crosscoder has not seen, in the units that it reads.

    With a generator every sample is given the code of another one of its batch, by chance: the control, whose `total`
    must be near 0.
    """
    sums = ScalingSums(model.W_dec.detach(), model.group)
    for samples in batches:
        code = model.code(samples.acts_BGC)
        if dealt is not None:
            code = _dealt(code, dealt)
        explained_BGC = model.decode_sparse(code) - model.b_dec
        sums.add(code, samples.acts_BGC - model.b_dec, explained_BGC, samples.image_B)
    return sums.scaling()


@dataclass(slots=True)
class ScalingSums:
    """What the factors are made of, added up over batches."""

    decoder_RGC: Tensor
    group: FiniteGroup
    cross_RGC: Tensor = field(init=False)
    """Sum of code times what all features together leave over, in each feature's own pose."""
    pairs: list[tuple[Tensor, ...]] = field(init=False, default_factory=list)
    """Of each part: feature, image and squared code (N,); products with the error and with all that is said (N, G)."""
    seen: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.cross_RGC = torch.zeros_like(self.decoder_RGC)

    def add(self, code: SparseCode, acts_BGC: Tensor, explained_BGC: Tensor, image_B: Tensor | None = None) -> None:
        """Count a batch: activations and what the features say of them, both without the bias."""
        batch_N, place_N = torch.nonzero(code.value_BK > 0, as_tuple=True)
        rows, values = code.index_BK[batch_N, place_N], code.value_BK[batch_N, place_N]
        poses = torch.zeros_like(rows) if code.pose_BK is None else code.pose_BK[batch_N, place_N]
        images = torch.arange(len(acts_BGC)).to(rows) + self.seen if image_B is None else image_B
        self.seen += len(acts_BGC)
        error_BGC = acts_BGC - explained_BGC
        # Made before the large parts that are freed again: small ones between them would keep their memory in pieces.
        error_NG, said_NG = acts_BGC.new_empty(2, len(rows), self.group.order)
        for each in torch.arange(len(rows), device=rows.device).split(PAIRS_AT_ONCE):
            sample_N, columns_NG, block_NGC = batch_N[each], self._columns(poses[each]), self.decoder_RGC[rows[each]]
            weighted_NGC = error_BGC[sample_N[:, None], columns_NG] * values[each, None, None]
            self.cross_RGC.index_add_(0, rows[each], weighted_NGC)
            error_NG[each] = (weighted_NGC * block_NGC).sum(2)
            said_NGC = explained_BGC[sample_N[:, None], columns_NG] * block_NGC
            said_NG[each] = said_NGC.sum(2) * values[each, None]
        self.pairs.append((rows, images[batch_N], values.square(), error_NG, said_NG))

    def scaling(self) -> LatentScaling:
        """The factors of what was counted."""
        num_rows, num_elements, _ = self.decoder_RGC.shape
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), *np.zeros((2, 0, num_elements)))
        parts = [tuple(each.cpu().numpy() for each in part) for part in self.pairs]
        row_N, image_N, squared_N, error_NG, said_NG = (
            np.concatenate(each) for each in zip(empty, *parts, strict=True)
        )
        squared_R = np.bincount(row_N, squared_N, num_rows)
        norm_RG = self.decoder_RGC.double().square().sum(2).cpu().numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            weight_RG = np.where(squared_R[:, None] * norm_RG > 0, squared_R[:, None] * norm_RG, np.nan)
            off_RG, said_RG = (added(row_N, each, num_rows) / weight_RG for each in (error_NG, said_NG))
            rest_NG = error_NG - off_RG[row_N] * squared_N[:, None] * norm_RG[row_N]
            deviation_RG = _clustered(row_N, image_N, rest_NG, num_rows) / weight_RG
        share_R = torch.from_numpy(1 / np.where(squared_R > 0, squared_R, np.inf)).to(self.cross_RGC)
        own_RGC = self.decoder_RGC * torch.from_numpy(squared_R > 0).to(self.cross_RGC)[:, None, None]
        return LatentScaling(
            fired_R=np.bincount(row_N, minlength=num_rows),
            error_RG=1 + off_RG,
            others_RG=said_RG - 1,
            deviation_RG=deviation_RG,
            refitted_RGC=own_RGC + self.cross_RGC * share_R[:, None, None],
        )

    def _columns(self, pose_N: Tensor) -> Tensor:
        """(N, G) block of the sample that each of the feature's own blocks stands for: D[g h] is added to block g."""
        columns = self.group.cayley[:, self.group.inverse[pose_N.cpu().numpy()]].T
        return torch.from_numpy(columns.copy()).to(pose_N.device)


def added(row_N: NDArray[np.int64], value_NG: NDArray[np.floating], num_rows: int) -> NDArray[np.float64]:
    """(R, G) sums of the values of each row."""
    total_RG = np.zeros((num_rows, value_NG.shape[1]))
    np.add.at(total_RG, row_N, value_NG)
    return total_RG


def _clustered(
    row_N: NDArray[np.int64], image_N: NDArray[np.int64], rest_NG: NDArray[np.floating], num_rows: int
) -> NDArray[np.float64]:
    """(R, G) root of the sum over images of the squared sum of what is left in each; NaN with fewer than two."""
    pairs, place_N = np.unique(np.stack([row_N, image_N]), axis=1, return_inverse=True)
    by_image = added(place_N.reshape(-1), rest_NG, pairs.shape[1])
    count_R = np.bincount(pairs[0], minlength=num_rows).astype(float)
    unbiased_R = np.where(count_R > 1, count_R / np.maximum(count_R - 1, 1), np.nan)
    return np.sqrt(added(pairs[0], by_image**2, num_rows) * unbiased_R[:, None])


def _dealt(code: SparseCode, generator: torch.Generator) -> SparseCode:
    """The same codes, each of another sample."""
    order_B = torch.randperm(len(code.value_BK), generator=generator).to(code.index_BK.device)
    poses = None if code.pose_BK is None else code.pose_BK[order_B]
    return SparseCode(code.value_BK[order_B], code.index_BK[order_B], poses)
