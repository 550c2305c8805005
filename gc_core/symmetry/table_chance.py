"""How symmetric a feature would be by chance, over a group that is known by its table alone.

Self-similarity is a sum over the irreducible representations, of the Gram matrix of the transform's columns (over its
rows and the channels) times the representation. There are two questions, and a subgroup must pass both.

*Arrangement.* Kept is the energy of every representation. Inside each, channels are mapped at random, independently for
every row and column of the transform. All that enters is the Gram matrix, which then is that of noise in as many
directions of the channels; so noise is drawn, and no map is ever made.

*Energies.* What the largest normal subgroup inside a subgroup leaves unchanged is decided by which representations have
energy, and arrangement says nothing of it. A group of no kind in particular has no order of its representations in
which energy would fall, so features are compared with noise, whose energies are as the numbers of each.

A similarity above `NEARLY_EXACT` counts as that: one column in one direction of the channels is as symmetric as it is
by necessity up to how near a group's element comes, and to be exact must not count as rare.

*Directions* of the channels count as in `chance`: their number d is known by squared cosines of what no symmetry
relates, of different representations, or different rows of the transform in one.

Letters: F features, G group elements, C channels, D dimension of a representation, J representations but the trivial
one, S surrogates, Q classes, T times that channels are drawn again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gc_core.groups import TableGroup
from gc_core.symmetry.chance import NEARLY_EXACT, ROUNDING, Null, Prior, p_value
from gc_core.symmetry.classes import SubgroupClass, classes

MOST_DIRECTIONS = 32
"""Directions of noise: with more, what is strong by chance is as good as never met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How one feature lies in the representations and the channels."""

    energy_J: NDArray[np.float64]
    """Shares of the changing energy."""
    alignment_2: NDArray[np.float64]
    """As in `Harmonics.alignment_F2`."""
    own_J: NDArray[np.float64]
    """How parallel the rows of each representation's transform are in the channels, however they are combined: 1 for
    one direction, about 1 / d by chance; 0 where they are not independent of one another, and say nothing of it."""


def spreads(changing_FGC: NDArray[np.float64], group: TableGroup) -> list[Spread]:
    """Of some features, of which the mean block is taken away."""
    parts = list(_transforms(changing_FGC, group))
    kinds = [each.kind for each in group.real_irreps][1:]
    return [_spread([part[feature] for part in parts], kinds) for feature in range(len(changing_FGC))]


def null_of(
    spread: Spread,
    similarity_G: NDArray[np.float64],
    group: TableGroup,
    prior: Prior,
    *,
    surrogates: int,
    rng: np.random.Generator,
) -> Null:
    """Null distribution of a feature with this self-similarity."""
    if not spread.energy_J.sum() or not len(classes(group)):
        ones = np.ones(len(classes(group)))
        return Null(p_Q=ones, exact_p_Q=ones)
    arranged_SG, white_SG = _surrogates(spread, group, prior, surrogates, rng)
    p_Q, exact_p_Q = np.zeros((2, len(classes(group))))
    for statistic, drawn_SG in ((_of_cores, white_SG), (_of_the_rest, arranged_SG)):
        found_Q, drawn_SQ = statistic(similarity_G, group), statistic(drawn_SG, group)
        exact_Q = np.where(np.isinf(found_Q), np.inf, NEARLY_EXACT)
        p_Q = np.maximum(p_Q, p_value(np.minimum(found_Q, exact_Q), drawn_SQ))
        exact_p_Q = np.maximum(exact_p_Q, p_value(exact_Q, drawn_SQ))
    return Null(p_Q=p_Q, exact_p_Q=exact_p_Q)


def interval_of(
    changing_GC: NDArray[np.float64],
    shares_QG: NDArray[np.float64],
    counts_TC: NDArray[np.int64],
    group: TableGroup,
) -> NDArray[np.float64]:
    """(T, Q) the mean similarity over subgroups, of channels drawn again so many times each."""
    product_GC = np.stack([(changing_GC[group.cayley[:, h]] * changing_GC).sum(0) for h in range(group.order)])
    total_T1 = np.maximum(counts_TC @ product_GC[0], 1e-300)[:, None]
    return counts_TC @ (shares_QG @ product_GC).T / total_T1


def _transforms(x_NGC: NDArray[np.float64], group: TableGroup) -> Iterator[NDArray[np.float64]]:
    """(N, D, D, C) of each representation but the trivial one: column, row, channel. Orthonormal, as in
    `crosscoder.correlations`."""
    for each in group.real_irreps[1:]:
        dim = each.matrices.shape[1]
        table_GBA = each.matrices.transpose(0, 2, 1) * np.sqrt(dim / (each.kind * group.order))
        found_NKC = table_GBA.reshape(group.order, -1).T @ x_NGC
        yield found_NKC.reshape(len(x_NGC), dim, dim, x_NGC.shape[2])


def _spread(parts: Sequence[NDArray[np.float64]], kinds: Sequence[int]) -> Spread:
    energy_J = np.array([float((part**2).sum()) for part in parts])
    # Rows that are independent of one another; of complex and quaternionic types they are in groups of related ones.
    rows = [(j, part[:, a]) for j, part in enumerate(parts) for a in range(part.shape[1] if kinds[j] == 1 else 1)]
    pairs = []
    for number, (_, one) in enumerate(rows):
        for _, other in rows[:number]:
            found, weight = float(((one @ other.T) ** 2).sum()), float((one**2).sum() * (other**2).sum())
            pairs.append((found, weight))
    total = max(float(energy_J.sum()), 1e-300)
    return Spread(
        energy_J=energy_J / total if energy_J.sum() > 0 else energy_J,
        alignment_2=_alignment(np.array(pairs).reshape(-1, 2), total),
        own_J=np.array([_own(part) if kind == 1 else 0.0 for part, kind in zip(parts, kinds, strict=True)]),
    )


def _own(part_DDC: NDArray[np.float64]) -> float:
    """From the Gram matrix of the rows: its squared norm is least, a D-th of that of one direction, by chance among
    many directions."""
    dim = part_DDC.shape[1]
    rows_DX = part_DDC.transpose(1, 0, 2).reshape(dim, -1)
    gram_DD = rows_DX @ rows_DX.T
    purity = (gram_DD**2).sum() / max(np.trace(gram_DD) ** 2, 1e-300)
    return float(np.clip((dim * purity - 1) / (dim - 1), 0, 1)) if dim > 1 else 0.0


def _alignment(found_weight_P2: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Squares of normal variables, whose mean tells 1 / d half as well as those of complex ones."""
    found_P, weight_P = found_weight_P2.T / total**2
    told_P = weight_P > ROUNDING**2
    if not told_P.any():
        return np.zeros(2)
    measured = weight_P[told_P].sum() ** 2 / (2 * weight_P[told_P] ** 2).sum()
    return np.array([measured * found_P[told_P].sum() / weight_P[told_P].sum(), measured])


def _surrogates(
    spread: Spread, group: TableGroup, prior: Prior, surrogates: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(S, G) self-similarities of surrogates that keep the energies, and of noise."""
    squares, count = spread.alignment_2 + prior.beside(spread.alignment_2)
    drawn_S1 = squares / rng.standard_gamma(max(count, ROUNDING), (surrogates, 1))
    share_S = np.minimum(np.maximum(drawn_S1, spread.own_J), 1) @ spread.energy_J
    directions_S = np.clip(np.round(1 / np.maximum(share_S, 1e-9)), 1, MOST_DIRECTIONS)
    kept_SD = np.arange(MOST_DIRECTIONS) < directions_S[:, None]
    noise_SGD = rng.standard_normal((surrogates, group.order, MOST_DIRECTIONS)) * kept_SD[:, None]
    arranged_SG, white_SG, total_S1 = np.zeros((surrogates, group.order)), 0.0, 0.0
    parts = zip(spread.energy_J, spread.own_J, group.real_irreps[1:], _transforms(noise_SGD, group), strict=True)
    for share, own, one, part_SDDX in parts:
        part_SDDX[:, :, 1:] *= 1 - own  # of rows that all lie in one direction there is one
        flat = part_SDDX.reshape(*part_SDDX.shape[:2], -1)
        gram_SK = (flat @ flat.transpose(0, 2, 1)).reshape(surrogates, -1)
        products_SG = gram_SK @ one.matrices.reshape(group.order, -1).T
        arranged_SG += share * products_SG / products_SG[:, :1]
        white_SG, total_S1 = white_SG + products_SG, total_S1 + products_SG[:, :1]
    return arranged_SG, np.asarray(white_SG / total_S1)


def _of_cores(similarity_G: NDArray[np.float64], group: TableGroup) -> NDArray[np.float64]:
    """(..., Q) the least similarity under what every conjugate of a subgroup has in common; infinite where that is the
    identity alone."""
    return np.stack([_least(similarity_G, _core(one, group)) for one in classes(group)], -1)


def _of_the_rest(similarity_G: NDArray[np.float64], group: TableGroup) -> NDArray[np.float64]:
    """(..., Q) the least similarity under the other elements of the best subgroup of each class; infinite where there
    are no others."""
    return np.stack([_best_of_the_rest(similarity_G, one, group) for one in classes(group)], -1)


def _best_of_the_rest(similarity_G: NDArray[np.float64], one: SubgroupClass, group: TableGroup) -> NDArray[np.float64]:
    core = _core(one, group)
    rest = [[g for g in group.subgroups()[number].elements if g not in core] for number in one.numbers]
    return np.stack([_least(similarity_G, elements) for elements in rest], -1).max(-1)


def _least(similarity_G: NDArray[np.float64], elements: Sequence[int]) -> NDArray[np.float64]:
    others = [g for g in elements if g]
    return similarity_G[..., others].min(-1, initial=np.inf)


@lru_cache(maxsize=4096)
def _core(one: SubgroupClass, group: TableGroup) -> tuple[int, ...]:
    """The largest normal subgroup inside each subgroup of a class."""
    return tuple(sorted(set.intersection(*({*group.subgroups()[number].elements} for number in one.numbers))))
