"""What is known of the symmetry of each feature by itself: strength, p-value and interval for every class of subgroups.

Letters: F features, G group elements, C channels, K halves, P cosines and sines, J frequencies, Q classes, U subgroups,
T times that channels are drawn again, N rotations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.arrays import joined
from gc_core.groups import FiniteGroup, Group, TableGroup
from gc_core.symmetry import table_chance
from gc_core.symmetry.chance import Null, Prior, mirror_similarity, null_of, rotation_similarity
from gc_core.symmetry.classes import classes
from gc_core.symmetry.harmonics import coefficients, harmonics
from gc_core.symmetry.similarity import changing_part, invariant_energy_share, self_similarity

SURROGATES = 999
TIMES = 200
"""Times that channels are drawn again for an interval."""
INTERVAL = (0.025, 0.975)
PRODUCTS_AT_ONCE = 2**16
"""Products of blocks in memory together: 16 features of D_32, or one of a group of 256 and more elements."""
EQUAL = 1e-6
"""Similarities closer than this are the same but for rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Some features; of each class of subgroups the member that a feature fits best."""

    invariant_share_F: NDArray[np.float64]
    similarity_FG: NDArray[np.float64]
    """Self-similarity of the changing part under every element."""
    subgroup_FQ: NDArray[np.int64]
    """Which member, in `group.subgroups()`."""
    strength_FQ: NDArray[np.float64]
    """Its weakest element's self-similarity."""
    low_FQ: NDArray[np.float64]
    """Ends of the 95% interval of the mean self-similarity over its elements, of channels drawn again."""
    high_FQ: NDArray[np.float64]
    p_FQ: NDArray[np.float64]
    """p-value of the strength, by chance in any member of the class."""
    exact_p_FQ: NDArray[np.float64]
    """p-value of a nearly exact symmetry: where this is large, the class cannot be told from chance."""


@torch.no_grad()
def evidence_of(
    decoder_FGC: Tensor,
    group: FiniteGroup,
    *,
    features: Sequence[int] | None = None,
    alignment_2: tuple[float, float] | None = None,
    surrogates: int = SURROGATES,
    seed: int = 0,
) -> Evidence:
    """`features` are their numbers in the dictionary (None: 0, 1, ...), `alignment_2` the sum of `alignment_of` over
    the whole of it (None: over these). Surrogates follow the seed and the number, so with both given the result is the
    same whichever features are asked about together."""
    numbers = list(range(len(decoder_FGC)) if features is None else features)
    if alignment_2 is None:
        squares, count = alignment_of(decoder_FGC, group).sum(0)
        alignment_2 = float(squares), float(count)
    prior, together = Prior(alignment_2, decoder_FGC.shape[2]), features_at_once(group)
    parts = [
        _evidence(decoder_FGC[first : first + together], group, prior, numbers[first:], surrogates, seed)
        for first in range(0, max(len(numbers), 1), together)
    ]
    return joined(parts)


@torch.no_grad()
def alignment_of(decoder_FGC: Tensor, group: FiniteGroup) -> NDArray[np.float64]:
    """(F, 2) how features lie in the channels, as in `Harmonics`: what one with little of its own borrows of others."""
    parts = decoder_FGC.split(features_at_once(group))
    return np.concatenate([np.zeros((0, 2)), *(_alignment(changing_part(part.double()), group) for part in parts)])


def features_at_once(group: FiniteGroup) -> int:
    """Number of features whose coefficients are in memory together."""
    return min(64, max(1, PRODUCTS_AT_ONCE // group.order**2))


@lru_cache(maxsize=8)
def shares_of_members(group: FiniteGroup) -> NDArray[np.float64]:
    """(U, G) by which the similarities of a feature give the mean over each subgroup without the identity; zeros for
    the identity alone."""
    shares_UG = np.zeros((len(group.subgroups()), group.order))
    for number, subgroup in enumerate(group.subgroups()):
        shares_UG[number, list(subgroup.elements[1:])] = 1 / max(1, subgroup.order - 1)
    return shares_UG


def _evidence(
    decoder_FGC: Tensor, group: FiniteGroup, prior: Prior, numbers: Sequence[int], surrogates: int, seed: int
) -> Evidence:
    changing_FGC = changing_part(decoder_FGC.double())
    similarity_FG = self_similarity(changing_FGC, group).cpu().numpy()
    subgroup_FQ, strength_FQ = _best_members(similarity_FG, group)
    rngs = [np.random.default_rng([seed, number]) for number in numbers[: len(decoder_FGC)]]
    channels = decoder_FGC.shape[2]
    counts_TC = np.random.default_rng(seed).multinomial(channels, np.full(channels, 1 / channels), TIMES)
    if isinstance(group, Group):
        coefficients_FKPJC = coefficients(changing_FGC, group)
        spread = harmonics(coefficients_FKPJC, group)
        nulls = [null_of(spread, place, group, prior, surrogates=surrogates, rng=rng) for place, rng in enumerate(rngs)]
        low_FQ, high_FQ = _intervals(coefficients_FKPJC, subgroup_FQ, group, counts_TC)
    else:
        nulls = _table_nulls(changing_FGC, similarity_FG, group, prior, surrogates, rngs)
        low_FQ, high_FQ = _table_intervals(changing_FGC, subgroup_FQ, group, counts_TC)
    num = (len(decoder_FGC), len(classes(group)))
    return Evidence(
        invariant_share_F=invariant_energy_share(decoder_FGC.double()).cpu().numpy(),
        similarity_FG=similarity_FG,
        subgroup_FQ=subgroup_FQ,
        strength_FQ=strength_FQ,
        low_FQ=low_FQ,
        high_FQ=high_FQ,
        p_FQ=np.array([each.p_Q for each in nulls]).reshape(num),
        exact_p_FQ=np.array([each.exact_p_Q for each in nulls]).reshape(num),
    )


def _best_members(
    similarity_FG: NDArray[np.float64], group: FiniteGroup
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(F, Q) of each class the member whose weakest element is the most similar, of equal ones the better in the mean;
    and that similarity."""
    mean_FU = similarity_FG @ shares_of_members(group).T
    best = np.zeros((2, len(similarity_FG), len(classes(group))))
    for q, one in enumerate(classes(group)):
        members = [group.subgroups()[number].elements[1:] for number in one.numbers]
        weakest_FU = np.stack([similarity_FG[:, list(elements)].min(1) for elements in members], 1)
        as_good_FU = weakest_FU >= weakest_FU.max(1, keepdims=True) - EQUAL
        chosen_F = np.where(as_good_FU, mean_FU[:, list(one.numbers)], -np.inf).argmax(1)
        best[0, :, q] = np.array(one.numbers)[chosen_F]
        best[1, :, q] = np.take_along_axis(weakest_FU, chosen_F[:, None], 1)[:, 0]
    return best[0].astype(np.int64), best[1]


def _alignment(changing_FGC: Tensor, group: FiniteGroup) -> NDArray[np.float64]:
    if isinstance(group, Group):
        return harmonics(coefficients(changing_FGC, group), group).alignment_F2
    each = [one.alignment_2 for one in table_chance.spreads(changing_FGC.cpu().numpy(), group)]
    return np.array(each).reshape(len(changing_FGC), 2)


def _table_nulls(
    changing_FGC: Tensor,
    similarity_FG: NDArray[np.float64],
    group: TableGroup,
    prior: Prior,
    surrogates: int,
    rngs: Sequence[np.random.Generator],
) -> list[Null]:
    spreads = table_chance.spreads(changing_FGC.cpu().numpy(), group)
    return [
        table_chance.null_of(spread, similarity_G, group, prior, surrogates=surrogates, rng=rng)
        for spread, similarity_G, rng in zip(spreads, similarity_FG, rngs, strict=True)
    ]


def _table_intervals(
    changing_FGC: Tensor, subgroup_FQ: NDArray[np.int64], group: TableGroup, counts_TC: NDArray[np.int64]
) -> NDArray[np.float64]:
    bounds_2FQ = np.zeros((2, *subgroup_FQ.shape))
    for place, subgroup_Q in enumerate(subgroup_FQ):
        shares_QG = shares_of_members(group)[subgroup_Q]
        mean_TQ = table_chance.interval_of(changing_FGC[place].cpu().numpy(), shares_QG, counts_TC, group)
        bounds_2FQ[:, place] = np.quantile(mean_TQ, INTERVAL, axis=0)
    return bounds_2FQ


def _intervals(
    coefficients_FKPJC: Tensor, subgroup_FQ: NDArray[np.int64], group: Group, counts_TC: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(2, F, Q) the mean similarity over the subgroups, of channels drawn again with replacement."""
    counts = torch.from_numpy(counts_TC).to(coefficients_FKPJC)
    energy_FTJ, real_FTJ, imaginary_FTJ = (
        (counts @ each.transpose(1, 2)).cpu().numpy() for each in _by_channel(coefficients_FKPJC)
    )
    bounds_2FQ = np.zeros((2, *subgroup_FQ.shape))
    for place, subgroup_Q in enumerate(subgroup_FQ):
        total_T1 = np.maximum(energy_FTJ[place].sum(1, keepdims=True), 1e-300)
        similarity = [rotation_similarity(np.maximum(energy_FTJ[place], 1e-300), group.n)]
        if group.has_mirrors:
            cross_TJ = (real_FTJ[place] + 1j * imaginary_FTJ[place]) / total_T1
            similarity.append(mirror_similarity(cross_TJ, group.n))
        mean_TQ = np.concatenate(similarity, 1) @ shares_of_members(group)[subgroup_Q].T
        bounds_2FQ[:, place] = np.quantile(mean_TQ, INTERVAL, axis=0)
    return bounds_2FQ


def _by_channel(coefficients_FKPJC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(F, J, C) each channel's share of the energies, and of the real and imaginary parts of z."""
    energy_FJC = coefficients_FKPJC.square().sum((1, 2))
    if coefficients_FKPJC.shape[1] == 1:
        return energy_FJC, torch.zeros_like(energy_FJC), torch.zeros_like(energy_FJC)
    (cos, sin), (mirrored_cos, mirrored_sin) = (coefficients_FKPJC[:, k].unbind(1) for k in (0, 1))
    return energy_FJC, cos * mirrored_cos + sin * mirrored_sin, sin * mirrored_cos - cos * mirrored_sin
