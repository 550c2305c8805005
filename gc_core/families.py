"""Features that are transformed copies of one another: similarity over all poses, and families made of it.

s(i, j) = max over h of cos(D_i, rho(h) D_j); the h that attains it is the *pose* of j relative to i.

All poses cost little more than one dot product: <D_i, rho(h) D_j> is a correlation on the group, and the group's
Fourier transform turns it into small matrix products, one for each irreducible representation.

Letters: F features, J features compared with, G group elements, C channels, d dimension of a representation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor

from gc_core.groups import Group

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
