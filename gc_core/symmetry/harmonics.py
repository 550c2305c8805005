"""Features as harmonics over rotation: f_k(t) = D[r^t m^k], k = 0 unmirrored and 1 mirrored, has coefficients
F_kj = a_kj - i b_kj in C^C at each frequency j.

The energies |F_kj|^2 decide the self-similarity under every rotation; under r^s m it is that of f_0 with f_1 turned,

    r(r^s m) = 2 Re sum over j of z_j exp(2 pi i j s / n) / ||D||^2,   z_j = <F_0j, F_1j>.

Both are sums over channels, so all else here follows from the Gram matrix of the coefficients.

Letters: F features, G group elements, C channels, K halves (unmirrored, mirrored), N rotations, J frequencies 0 to n/2.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.groups import Group

ROUNDING = 1e-9
"""Share of the energy: coefficients below are what rounding left, and their directions say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harmonics:
    """What chance keeps of some features, and how their coefficients lie to one another."""

    energy_FKJ: NDArray[np.float64]
    """|F_kj|^2; over halves and frequencies they sum to ||D||^2."""
    cross_FJ: NDArray[np.complex128]
    """z_j; zero without mirrors."""
    linear_FJ: NDArray[np.float64]
    """How far a frequency keeps to one direction of the channels in each half, |F^T F|^2 / |F|^4 in the mean over
    halves: 1 for one direction, about 2 / (d + 1) for chance among d; 0 where coefficients are real, which says nothing
    of it."""
    alignment_F2: NDArray[np.float64]
    """Sum of squared cosines of coefficients of one half that no symmetry relates, 1 / d each for chance among d
    directions, and how many independent ones they are worth."""


def coefficients(decoder_FGC: Tensor, group: Group) -> Tensor:
    """(F, K, 2, J, C) real numbers a_kj and b_kj of each channel; their squares sum to those of the decoder."""
    halves_FKNC = decoder_FGC.double().unflatten(1, (-1, group.n))
    rows = torch.from_numpy(_rows(group.n)).to(halves_FKNC.device)
    return torch.einsum("pjn,fknc->fkpjc", rows, halves_FKNC)


def harmonics(coefficients_FKPJC: Tensor, group: Group) -> Harmonics:
    """Harmonics of the changing part, from its coefficients."""
    flat = coefficients_FKPJC.flatten(1, 3)
    gram = (flat @ flat.transpose(1, 2)).cpu().numpy()
    count, halves, _, num, _ = coefficients_FKPJC.shape
    gram = gram.reshape(count, halves, 2, num, halves, 2, num)
    within = np.stack([gram[:, k, :, :, k] for k in range(halves)], 1)  # (F, K, 2, J, 2, J)
    aa, ab, ba, bb = (within[:, :, p, :, q] for p in (0, 1) for q in (0, 1))
    transposed_FKJJ = (aa - bb) ** 2 + (ab + ba) ** 2  # |F_j^T F_l|^2
    hermitian_FKJJ = (aa + bb) ** 2 + (ab - ba) ** 2  # |F_j^H F_l|^2
    energy_FKJ = np.diagonal(aa + bb, axis1=2, axis2=3)
    told_FKJ = energy_FKJ > ROUNDING * energy_FKJ.sum((1, 2), keepdims=True)
    told_FKJJ = told_FKJ[..., :, None] & told_FKJ[..., None, :]
    complex_J = is_complex(group.n)
    cross_FJ = np.zeros((count, num), np.complex128)
    if halves == 2:
        one, other, turned, back = (_diagonal(gram, p, q) for p, q in ((0, 0), (1, 1), (1, 0), (0, 1)))
        cross_FJ = one + other + 1j * (turned - back)
    polar_FJ = np.diagonal(transposed_FKJJ * told_FKJJ, axis1=2, axis2=3).sum(1)
    linear_FJ = np.where(complex_J, polar_FJ / _positive((energy_FKJ**2).sum(1)), 0.0)
    products_FKJJ = energy_FKJ[..., :, None] * energy_FKJ[..., None, :] * told_FKJJ
    alignment_F2 = _alignment(products_FKJJ, transposed_FKJJ * told_FKJJ, hermitian_FKJJ * told_FKJJ, complex_J)
    return Harmonics(
        energy_FKJ=energy_FKJ,
        cross_FJ=cross_FJ,
        linear_FJ=np.clip(linear_FJ, 0, 1),
        alignment_F2=alignment_F2,
    )


def is_complex(n: int) -> NDArray[np.bool_]:
    """(J,) frequencies with a cosine and a sine; 0 and n/2 have one of them."""
    frequency_J = np.arange(n // 2 + 1)
    return (frequency_J > 0) & (2 * frequency_J < n)


@lru_cache(maxsize=8)
def angles(n: int) -> NDArray[np.float64]:
    """(J, N) by how much each frequency turns under each rotation, in radians below a whole turn."""
    return 2 * np.pi * (np.arange(n // 2 + 1)[:, None] * np.arange(n) % n) / n


def degrees_of_freedom(group: Group) -> NDArray[np.float64]:
    """(J,) how many real numbers a channel has at each frequency of the changing part: of frequency 0 what the halves
    differ by, the mean is gone."""
    halves = 2 if group.has_mirrors else 1
    return np.where(is_complex(group.n), 2.0, 1.0) * halves - (np.arange(group.n // 2 + 1) == 0)


def _alignment(
    products_FKJJ: NDArray[np.float64],
    transposed_FKJJ: NDArray[np.float64],
    hermitian_FKJJ: NDArray[np.float64],
    complex_J: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Alignment as in `Harmonics.alignment_F2`.

    A squared product is by chance an exponential variable of mean 1 / d. Of two complex coefficients there are two; of
    one with itself there is F^T F alone, of mean 2 / (d + 1); with a real one both are the same; of two real ones a
    squared normal.
    """
    both_JJ = complex_J[:, None] & complex_J
    neither_JJ = ~complex_J[:, None] & ~complex_J
    upper_JJ = np.triu(np.ones(both_JJ.shape), 1)
    itself_JJ = np.diag(complex_J.astype(float))
    found_FKJJ = (transposed_FKJJ + hermitian_FKJJ) * np.where(both_JJ, 1.0, 0.5) * upper_JJ
    found_F = (found_FKJJ + transposed_FKJJ * itself_JJ).sum((1, 2, 3))
    pairs_FKJJ, alone_FKJJ = products_FKJJ * np.where(both_JJ, 2.0, 1.0) * upper_JJ, products_FKJJ * 2 * itself_JJ
    pairs_F, alone_F = pairs_FKJJ.sum((1, 2, 3)), alone_FKJJ.sum((1, 2, 3))
    squares_JJ = np.where(both_JJ | neither_JJ, 2.0, 1.0) * upper_JJ + 4 * itself_JJ
    measured_F = (pairs_F + alone_F) ** 2 / _positive((products_FKJJ**2 * squares_JJ).sum((1, 2, 3)))
    # found = pairs / d + alone / (d + 1): the larger root of pairs x^2 + (pairs + alone - found) x - found, x = 1 / d.
    linear_F = pairs_F + alone_F - found_F
    root_F = linear_F + np.sqrt(linear_F**2 + 4 * pairs_F * found_F)
    return np.stack([np.clip(2 * found_F / _positive(root_F), 0, 1) * measured_F, measured_F], 1)


def _diagonal(gram: NDArray[np.float64], p: int, q: int) -> NDArray[np.float64]:
    """(F, J) products of the unmirrored half's part p with the mirrored half's part q, at the same frequency."""
    return np.diagonal(gram[:, 0, p, :, 1, q], axis1=1, axis2=2)


def _rows(n: int) -> NDArray[np.float64]:
    """(2, J, N) orthonormal cosines and sines."""
    angle_JN = angles(n)
    complex_J1 = is_complex(n)[:, None]
    scale_J1 = np.sqrt(np.where(complex_J1, 2, 1) / n)
    return np.stack([scale_J1 * np.cos(angle_JN), np.where(complex_J1, scale_J1 * np.sin(angle_JN), 0.0)])


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(values, np.finfo(np.float64).tiny)
