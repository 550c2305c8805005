"""Features that are transformed copies of one another: similarity over all poses, and families made of it.

s(i, j) = max over h of cos(D_i, rho(h) D_j); the h that attains it is the *pose* of j relative to i.

All poses cost little more than one dot product: <D_i, rho(h) D_j> is a correlation on the group, and the group's
Fourier transform turns it into small matrix products, one for each irreducible representation.

Letters: F features, J features compared with, G group elements, C channels, d dimension of a representation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor

from gc_core.groups import Group, Subgroup

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Families:
    """Which family each feature belongs to, and how it is turned in it."""

    family_F: NDArray[np.int64]
    """Families by size, the largest 0; -1 for a feature alone."""
    pose_F: NDArray[np.int64]
    """The h that attains s(representative, j): turning j's stimulus by h gives the representative's."""
    representative_F: NDArray[np.int64]
    """The member most similar to the others; the feature itself when alone."""


def best_poses(decoder_FGC: Tensor, others_JGC: Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """Similarity s (F, J) and the pose h (F, J, int64) that attains it, for every pair."""
    left, right = _fourier(_unit(decoder_FGC), group), _fourier(_unit(others_JGC), group)
    similarity, pose = [], []
    for first in range(0, len(decoder_FGC), _ROWS_AT_ONCE):
        products_FJH = _correlation([part[first : first + _ROWS_AT_ONCE] for part in left], right, group)
        best = products_FJH.max(dim=2)
        similarity.append(best.values)
        pose.append(best.indices)
    return torch.cat(similarity), torch.cat(pose)


def family_similarity(
    decoder_FGC: Tensor, others_JGC: Tensor, group: Group, *, invariant_share: float
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


def shown_poses(found: Families, stabilisers: Sequence[Subgroup], group: Group) -> NDArray[np.int64]:
    """(F,) by how much each feature's stimulus is turned against its representative's.

    Turning a stimulus by p and by p s looks the same where s is in the representative's stabiliser, so of the coset
    the smallest element is taken.
    """
    turned_F = group.inverse[found.pose_F]
    pairs = zip(turned_F.tolist(), found.representative_F.tolist(), strict=True)
    smallest = [min(group.cayley[turned, list(stabilisers[of].elements)]) for turned, of in pairs]
    return np.array(smallest, np.int64)


def group_families(
    similarity_FF: NDArray[np.float32], pose_FF: NDArray[np.int64], *, least_similarity: float
) -> Families:
    """Average-linkage clusters of features whose mean similarity stays above a bound (Sokal and Michener 1958)."""
    num_features = len(similarity_FF)
    if num_features < 2:
        alone = np.arange(num_features)
        return Families(
            family_F=np.full(num_features, -1), pose_F=np.zeros(num_features, np.int64), representative_F=alone
        )
    symmetric = np.maximum(similarity_FF, similarity_FF.T)
    distance = np.clip(1 - symmetric, 0, None)
    np.fill_diagonal(distance, 0)
    options: dict[str, Any] = {
        "n_clusters": None,
        "distance_threshold": 1 - least_similarity,
    }  # its stubs forbid the None
    clustering = AgglomerativeClustering(metric="precomputed", linkage="average", **options)
    return _by_size(clustering.fit_predict(distance), symmetric, pose_FF)


def _by_size(label_F: NDArray[np.int64], similarity_FF: NDArray[np.float32], pose_FF: NDArray[np.int64]) -> Families:
    family_F, pose_F = np.full(len(label_F), -1, np.int64), np.zeros(len(label_F), np.int64)
    representative_F = np.arange(len(label_F))
    clusters = sorted((np.flatnonzero(label_F == label) for label in np.unique(label_F)), key=lambda m: (-len(m), m[0]))
    for number, members in enumerate(m for m in clusters if len(m) > 1):
        representative = members[similarity_FF[np.ix_(members, members)].sum(1).argmax()]
        family_F[members], representative_F[members] = number, representative
        pose_F[members] = pose_FF[representative, members]
        pose_F[representative] = 0
    return Families(family_F=family_F, pose_F=pose_F, representative_F=representative_F)


def _parts(decoder_FGC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean block, the norm of the feature, and that of its changing part."""
    smallest = torch.finfo(decoder_FGC.dtype).tiny ** 0.5
    mean_FC, norm_F = decoder_FGC.mean(1), decoder_FGC.flatten(1).norm(dim=1).clamp_min(smallest)
    change_F = (decoder_FGC - mean_FC[:, None]).flatten(1).norm(dim=1)
    return mean_FC, norm_F, change_F.maximum(norm_F * torch.finfo(norm_F.dtype).eps)


def _unit(decoder_FGC: Tensor) -> Tensor:
    return torch.nn.functional.normalize(decoder_FGC.flatten(1), dim=1).view_as(decoder_FGC)


def _fourier(decoder_FGC: Tensor, group: Group) -> list[Tensor]:
    """For each representation rho sqrt(d / |G|) times the sum over g of D[g] rho(g), entries [b, (a, channel)] for row
    a, column b."""
    parts = []
    for irrep in group.irreps():
        table = np.sqrt(irrep.dim / group.order) * irrep.matrices
        tensor = _as_tensor(table, decoder_FGC.dtype)
        parts.append(torch.einsum("fgc,gab->fbac", decoder_FGC.to(tensor.dtype), tensor).flatten(2))
    return parts


def _correlation(left: list[Tensor], right: list[Tensor], group: Group) -> Tensor:
    """<D_i, rho(h) D_j> for all i, j, h; (F, J, G).

    Right translation by h multiplies a transform by rho(h)^H from the right, so by Parseval the product is the sum over
    representations of the entries [b, e] of rho(h) times the sum over a and channels of L_i[a, b] conj(R_j[a, e]).
    """
    entries = [torch.einsum("ibx,jex->ijbe", lhs, rhs.conj()).flatten(2) for lhs, rhs in zip(left, right, strict=True)]
    values = np.concatenate([irrep.matrices.reshape(group.order, -1) for irrep in group.irreps()], axis=1)
    stacked = torch.cat([part.to(left[-1].dtype) for part in entries], dim=2)
    return (stacked @ _as_tensor(values, stacked.real.dtype).to(stacked.dtype).T).real


def _as_tensor(values: NDArray[np.complex128], dtype: torch.dtype) -> Tensor:
    """Real where the representation is."""
    if np.abs(values.imag).max() == 0:
        return torch.from_numpy(np.ascontiguousarray(values.real)).to(dtype)
    return torch.from_numpy(values).to(torch.complex128 if dtype == torch.float64 else torch.complex64)
