"""How a feature behaves under the group, read from its transform blocks (W_dec, one block a group element).

A feature that fires for x is, for h.x, replaced by rho(h) D with (rho(h) D)[g] = D[g h]: right translation. So a
stimulus that looks the same after h has a feature with rho(h) D = D.

Letters: F features, G group elements, C channels, R irreducible representations.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gc_core.groups import FiniteGroup, Group, Irrep, Subgroup


def translate(decoder_FGC: Tensor, h: int, group: FiniteGroup) -> Tensor:
    """rho(h) D: the decoder of the same feature for stimuli transformed by h; (F, G, C)."""
    return decoder_FGC[:, torch.from_numpy(group.cayley[:, h]).to(decoder_FGC.device)]


def transform_block_curve(decoder_FGC: Tensor) -> Tensor:
    """(F, G) cosine of the identity block with each block; 1 where the layer responds as to the untransformed input."""
    unit = torch.nn.functional.normalize(decoder_FGC, dim=2)
    return torch.einsum("fc,fgc->fg", unit[:, 0], unit)


def block_steps(decoder_FGC: Tensor, group: FiniteGroup) -> Tensor:
    """(F, G) |D[g r] - D[g]|, r the smallest rotation: how far the feature's block moves while its stimulus turns by
    one step. Zero for groups without rotations."""
    step = 1 % group.n if isinstance(group, Group) else 0
    return (translate(decoder_FGC, step, group) - decoder_FGC).norm(dim=2)


def self_similarity(decoder_FGC: Tensor, group: FiniteGroup) -> Tensor:
    """(F, H) cosine of D with rho(h) D for every h; 1 where the feature's stimulus looks the same after h. Zero for a
    zero feature."""
    products = translation_products(decoder_FGC, group)
    energy = decoder_FGC.square().sum((1, 2))
    return products / energy.clamp_min(torch.finfo(energy.dtype).tiny)[:, None]


def translation_products(decoder_FGC: Tensor, group: FiniteGroup) -> Tensor:
    """(F, H) inner products of D with rho(h) D, by the Gram matrix of the blocks: sum over g of <D[g], D[g h]>."""
    gram_FGG = decoder_FGC @ decoder_FGC.transpose(1, 2)
    return gram_FGG.gather(2, _products(group, gram_FGG.device).expand(len(decoder_FGC), -1, -1)).sum(1)


@lru_cache(maxsize=16)
def _products(group: FiniteGroup, device: torch.device) -> Tensor:
    """(G, G) int64, [g, h] is g h; kept on the device, which steps need not wait for."""
    with torch.inference_mode(False):
        return torch.from_numpy(group.cayley).to(device)


def changing_part(decoder_FGC: Tensor) -> Tensor:
    """The feature minus the mean of its blocks: what is left of it outside the trivial representation."""
    return decoder_FGC - decoder_FGC.mean(1, keepdim=True)


def spectrum(decoder_FGC: Tensor, group: FiniteGroup) -> Tensor:
    """(F, R) energy of each feature in each irreducible representation; the energies sum to ||D||^2 (Plancherel).

    Conjugate pairs of a cyclic group stay separate; for real features they are equal.
    """
    rows_MG, energy_RM = (torch.from_numpy(table).to(decoder_FGC) for table in _real_tables(group))
    return torch.einsum("mg,fgc->fmc", rows_MG, decoder_FGC).square().sum(2) @ energy_RM.T


def invariant_energy_share(decoder_FGC: Tensor) -> Tensor:
    """(F,) share of the energy in the trivial representation: 1 where all blocks are equal, 1/|G| on average at
    random."""
    mean_energy = decoder_FGC.mean(1).square().sum(1) * decoder_FGC.shape[1]
    return mean_energy / decoder_FGC.square().sum((1, 2)).clamp_min(torch.finfo(decoder_FGC.dtype).tiny)


def in_words(subgroup: Subgroup, group: FiniteGroup) -> str:
    """What a person would call a stabiliser."""
    m = subgroup.num_rotations
    if subgroup.order == group.order and group.order > 1:
        return "invariant"
    if not isinstance(group, Group):
        return "none" if subgroup.order == 1 else f"subgroup of order {subgroup.order}"
    if subgroup.axis_deg is not None:
        return "mirror" if m == 1 else f"{m}-fold with mirrors"
    return "none" if m == 1 else "2-fold" if m == 2 else f"chiral {m}-fold"


@lru_cache(maxsize=8)
def _real_tables(group: FiniteGroup) -> tuple[np.ndarray, np.ndarray]:
    """(M, G) real rows whose products with a real feature are all its coefficients, and (R, M) which of their squares
    add up to the energy in each representation.

    A representation that is real has its entries as rows, another one their real and imaginary parts; of a conjugate
    pair, whose energies are equal, the first has rows.
    """
    rows: list[np.ndarray] = []
    members: list[list[int]] = []
    before: Irrep | None = None
    for irrep in group.irreps():
        if before and np.allclose(irrep.matrices, before.matrices.conj()) and not irrep.is_real:
            members.append(members[-1])
        else:
            entries = np.sqrt(irrep.dim / group.order) * irrep.matrices.reshape(group.order, -1).T
            new = [*entries.real, *([] if irrep.is_real else entries.imag)]
            members.append(list(range(len(rows), len(rows) + len(new))))
            rows += new
        before = irrep
    energy_RM = np.zeros((len(members), len(rows)))
    for irrep_number, own in enumerate(members):
        energy_RM[irrep_number, own] = 1
    return np.stack(rows), energy_RM
