"""The squared error of reconstructions: of nested dictionaries, of some blocks.

Letters: B samples, G group elements, S group elements judged, C channels, F features, K active features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.activation_functions import SparseCode, gathered_left
from gc_core.metrics import squared_norm_BG


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which reconstructions a step is judged by; made with no arguments, the whole one."""

    prefixes: tuple[int, ...] = ()
    """Sizes of nested dictionaries, ascending; the last must be F. Empty for F alone."""
    blocks: Tensor | None = None
    """(S,) int64 group elements, drawn without replacement, each as likely as any other; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """How far a code's reconstructions are from the samples."""

    error: Tensor
    """() with gradient: the target's squared error, mean over the batch."""
    residual_BSC: Tensor
    """What the whole dictionary leaves unexplained in the blocks judged, without gradient."""
    squared_error_BG: Tensor
    """Squared error as in `Losses`, without gradient."""


def judge(model: Crosscoder, code: SparseCode | Tensor, acts_BGC: Tensor, target: Target) -> Reconstruction:
    """Squared error of a sparse or dense (B, F) code.

        error = 1/P sum_p mean_b |G|/|S| sum_{g in S} |A[g] - Ahat_p[g]|^2
        Ahat_p[g] = b_dec[g] + sum_{i < m_p} z_i W_dec[i, g]

    over the P nested dictionaries of the first m_p features (Bussmann et al. 2025, arXiv 2503.17547, there their sum).
    The mean over draws of S is the error over all blocks, since each block is drawn with probability |S| / |G|. Each
    reconstruction continues the previous one, so that P of them cost little more than the last.
    """
    wanted_BSC = acts_BGC if target.blocks is None else acts_BGC.index_select(1, target.blocks)
    weight = acts_BGC.shape[1] / wanted_BSC.shape[1]
    recon_BSC, errors_BS = None, []
    for features, part in _parts(model, code, target.prefixes or (model.shape.num_rows,)):
        recon_BSC = _add_features(model, part, features, target.blocks, recon_BSC)
        errors_BS.append(squared_norm_BG(recon_BSC - wanted_BSC))
    assert recon_BSC is not None, "the last prefix is the whole dictionary"
    return Reconstruction(
        error=weight * torch.stack([error_BS.sum(1).mean() for error_BS in errors_BS]).mean(),
        residual_BSC=(wanted_BSC - recon_BSC).detach(),
        squared_error_BG=_in_place(weight * errors_BS[-1].detach(), target.blocks, acts_BGC.shape[1]),
    )


def _here(model: Crosscoder, first: int, last: int) -> slice:
    """Which of the features that are here have numbers from `first` up to `last` in the whole dictionary."""
    own = model.features
    return slice(*(min(max(number - own.start, 0), len(own)) for number in (first, last)))


def _parts(
    model: Crosscoder, code: SparseCode | Tensor, prefixes: Sequence[int]
) -> list[tuple[slice, SparseCode | Tensor]]:
    """What each nested dictionary adds to the one before it: features, and the code of them alone."""
    bounds = pairwise((0, *prefixes))
    added = [_here(model, first, last) for first, last in bounds]
    if added == [slice(0, len(model.features))]:
        return [(added[0], code)]
    if isinstance(code, Tensor):
        return [(features, code[:, features]) for features in added]
    return list(zip(added, _cut(code, added), strict=True))


def _add_features(
    model: Crosscoder, code: SparseCode | Tensor, features: slice, blocks: Tensor | None, onto: Tensor | None
) -> Tensor:
    if isinstance(code, SparseCode):
        return model.decode_sparse(code, blocks=blocks, onto_BGC=onto)
    # Not a slice of everything, whose gradient would be copied.
    some = None if features == slice(0, len(model.features)) else features
    return model.decode(code, features=some, blocks=blocks, onto_BGC=onto)


def _cut(code: SparseCode, parts: Sequence[slice]) -> Iterator[SparseCode]:
    """The code of some features each, no wider than the sample needs that has most of them."""
    inside = [(code.index_BK >= features.start) & (code.index_BK < features.stop) for features in parts]
    widths = torch.stack([inside_BK.sum(1).max() for inside_BK in inside]).tolist()  # one wait for all of them
    for inside_BK, width in zip(inside, widths, strict=True):
        place_BK = gathered_left(inside_BK, width)
        value_BK = torch.where(inside_BK, code.value_BK, 0)
        pose_BK = None if code.pose_BK is None else code.pose_BK.gather(1, place_BK)
        yield SparseCode(value_BK.gather(1, place_BK), code.index_BK.gather(1, place_BK), pose_BK)


def _in_place(error_BS: Tensor, blocks: Tensor | None, num_elements: int) -> Tensor:
    if blocks is None:
        return error_BS
    return error_BS.new_zeros(len(error_BS), num_elements).index_copy(1, blocks, error_BS)
