"""How symmetric a feature would be by chance: surrogates, and p-values of every class of subgroups.

Under a rotation a feature's self-similarity is decided by its energies at the frequencies, so surrogates that keep them
say nothing of rotations; under a mirror it is decided by how the two halves lie to one another. So there are two
questions, and a subgroup with rotations and mirrors must pass both.

*Mirrors.* Kept are the energies of both halves at every frequency. Inside each, channels are mapped at random in either
half, and the halves are turned against each other by a random element of the group. All that is left to draw of two
coefficients mapped at random in d directions is their cosine, whose square is Beta(1, d - 1) for complex ones and
Beta(1/2, (d - 1) / 2) for real ones.

*Rotations.* Energies are drawn as of noise of the same smoothness: the energy a number falls with the frequency, at
most tenfold from one to the next, and follows the feature's as closely as such a curve can. Those of d directions with
f numbers a direction vary as a gamma variable of shape f d / 2.

*Directions.* The channels' covariance counts by its effective number of directions, d = (tr S)^2 / tr S^2. It is
estimated from coefficients that no symmetry relates, those of one half: of different frequencies, or the cosine and the
sine of one. (The covariance itself would be misled: a mirror halves the rank.) A feature with few of them borrows from
the other features. The estimate is uncertain, and every surrogate draws another 1/d, as from a gamma posterior; a
frequency that keeps to fewer directions than the rest counts with its own.

Letters: S surrogates, J frequencies, N rotations, Q classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from gc_core.groups import Group
from gc_core.symmetry.classes import SubgroupClass, classes
from gc_core.symmetry.harmonics import Harmonics, angles, degrees_of_freedom, is_complex

STEEPEST = 0.1
"""Least share to which the energy a number may fall from one frequency to the next, by smoothness alone."""
PRIOR_COSINES = 2.0
"""Cosines that a feature borrows; one frequency has two of its own, and one with real coefficients none."""
NEARLY_EXACT = 0.95
"""The similarity of a symmetry without faults as it is measured, with noise."""
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of a feature's directions before it is looked at."""

    alignment_2: tuple[float, float]
    """Summed over all features of the dictionary, as in `Harmonics`."""
    channels: int

    def beside(self, own_2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squares and count that other features add to a feature's own: few cosines of their mean. A feature without
        others and without enough of its own gets some as of channels that are all alike."""
        squares, count = np.array(self.alignment_2) - own_2
        if count > ROUNDING:
            return np.array([max(squares, 0.0) / count, 1.0]) * PRIOR_COSINES
        return np.array([1 / self.channels, 1.0]) * max(PRIOR_COSINES - own_2[1], 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Null:
    """One feature."""

    p_Q: NDArray[np.float64]
    """Share of surrogates at least as symmetric, the feature itself counted as one of them."""
    exact_p_Q: NDArray[np.float64]
    """What p would be for a similarity of `NEARLY_EXACT`, or the feature's where it is more: above the rate, the test
    cannot find the symmetry whether it is there or not."""


def null_of(
    harmonics: Harmonics, number: int, group: Group, prior: Prior, *, surrogates: int, rng: np.random.Generator
) -> Null:
    """Null distribution of feature `number` among these."""
    energy_KJ = harmonics.energy_FKJ[number]
    total = energy_KJ.sum()
    if total <= 0:
        ones = np.ones(len(classes(group)))
        return Null(p_Q=ones, exact_p_Q=ones)
    direction_SJ = direction_shares(harmonics, number, prior, surrogates=surrogates, rng=rng)
    energy_SJ = drawn_energies(energy_KJ.sum(0), direction_SJ, group, rng)
    rotated, drawn_rotated = (rotation_similarity(each, group.n) for each in (energy_KJ.sum(0), energy_SJ))
    statistics = [(_of_rotations(each, group) for each in (rotated, drawn_rotated))]
    if group.has_mirrors:
        cross_J = harmonics.cross_FJ[number] / total
        halves = (
            mirror_similarity(cross_J, group.n),
            mirror_similarity(
                drawn_crosses(cross_J, np.sqrt(energy_KJ.prod(0)) / total, direction_SJ, group, rng), group.n
            ),
        )
        statistics.append(_of_mirrors(each, group) for each in halves)
    p_Q, exact_p_Q = np.zeros((2, len(classes(group))))
    for found_Q, drawn_SQ in statistics:
        p_Q = np.maximum(p_Q, p_value(found_Q, drawn_SQ))
        exact_p_Q = np.maximum(exact_p_Q, p_value(np.maximum(found_Q, NEARLY_EXACT), drawn_SQ))
    return Null(p_Q=p_Q, exact_p_Q=exact_p_Q)


def direction_shares(
    harmonics: Harmonics, number: int, prior: Prior, *, surrogates: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(S, J) 1/d of each surrogate and frequency, above 0 and at most 1."""
    squares, count = harmonics.alignment_F2[number] + prior.beside(harmonics.alignment_F2[number])
    drawn_S1 = squares / rng.standard_gamma(count, (surrogates, 1))
    linear_J = harmonics.linear_FJ[number]
    return np.clip(np.maximum(drawn_S1, linear_J / (2 - linear_J)), 1e-9, 1 - 1e-12)


def drawn_energies(
    energy_J: NDArray[np.float64], direction_SJ: NDArray[np.float64], group: Group, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(S, J) energies of features that are smooth and no more."""
    freedom_J = degrees_of_freedom(group)
    shape_SJ = freedom_J / (2 * direction_SJ)
    kept = freedom_J > 0
    found_SJ = np.zeros(direction_SJ.shape)
    mean_J = smooth_energies(energy_J[kept] / freedom_J[kept], freedom_J[kept]) * freedom_J[kept]
    found_SJ[:, kept] = rng.standard_gamma(shape_SJ[:, kept]) / shape_SJ[:, kept] * mean_J
    return found_SJ


def smooth_energies(energy_J: NDArray[np.float64], weight_J: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve nearest to these energies a number that never rises, and nowhere falls to less than `STEEPEST`."""
    curve_J = np.array(isotonic_regression(energy_J, weights=weight_J, increasing=False).x)
    for j in range(1, len(curve_J)):
        curve_J[j] = max(curve_J[j], STEEPEST * curve_J[j - 1])
    return curve_J


def drawn_crosses(
    cross_J: NDArray[np.complex128],
    largest_J: NDArray[np.float64],
    direction_SJ: NDArray[np.float64],
    group: Group,
    rng: np.random.Generator,
) -> NDArray[np.complex128]:
    """(S, J) z_j of halves mapped and turned at random; `largest_J` is that of parallel coefficients.

    Turning by elements of the group, not by any angle, keeps how far an axis lies between two elements: one harmonic in
    one direction has exactly the similarity that it has by necessity.
    """
    complex_J = is_complex(group.n)
    others_SJ = (1 - direction_SJ) / direction_SJ  # d - 1
    square_SJ = 1 - rng.random(direction_SJ.shape) ** (1 / others_SJ)
    if not complex_J[-1] and len(complex_J) > 1:
        one, rest = rng.standard_gamma(0.5, len(square_SJ)), rng.standard_gamma(others_SJ[:, -1] / 2)
        square_SJ[:, -1] = one / (one + rest)
    frequency_J = np.arange(len(cross_J))
    turn_SJ = rng.integers(group.n, size=direction_SJ.shape) * frequency_J % group.n
    drawn_SJ = np.exp(1j * (np.angle(cross_J) + 2 * np.pi * turn_SJ / group.n)).astype(np.complex128)
    drawn_SJ *= largest_J * np.sqrt(square_SJ)
    drawn_SJ[:, 0] = cross_J[0]  # the halves' means are opposite: what they have in common is no changing part
    return drawn_SJ


def rotation_similarity(energy_J: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """(..., N) self-similarity under each rotation, of energies (..., J)."""
    return energy_J @ np.cos(angles(n)) / energy_J.sum(-1, keepdims=True)


def mirror_similarity(cross_J: NDArray[np.complex128], n: int) -> NDArray[np.float64]:
    """(..., N) self-similarity under each r^s m, of z (..., J) as shares of the energy."""
    angle_JN = angles(n)
    return 2 * (cross_J.real @ np.cos(angle_JN) - cross_J.imag @ np.sin(angle_JN))


def _of_rotations(similarity_N: NDArray[np.float64], group: Group) -> NDArray[np.float64]:
    """(..., Q) the least similarity under rotations of each class; 1 for those without."""
    weakest = {m: _weakest_turn(similarity_N, m, group.n) for m in {each.num_rotations for each in classes(group)}}
    return _stacked([weakest[each.num_rotations] for each in classes(group)], similarity_N)


def _weakest_turn(similarity_N: NDArray[np.float64], m: int, n: int) -> NDArray[np.float64]:
    turns = similarity_N[..., n // m :: n // m]
    return turns.min(-1) if m > 1 else np.full(similarity_N.shape[:-1], np.inf)


def _of_mirrors(similarity_N: NDArray[np.float64], group: Group) -> NDArray[np.float64]:
    """(..., Q) the least similarity under the mirrors of the best subgroup of each class."""
    return _stacked([_best_mirrors(similarity_N, each, group.n) for each in classes(group)], similarity_N)


def _best_mirrors(similarity_N: NDArray[np.float64], one: SubgroupClass, n: int) -> NDArray[np.float64]:
    if not one.has_mirrors:
        return np.full(similarity_N.shape[:-1], np.inf)
    step = n // one.num_rotations
    weakest = similarity_N.reshape(*similarity_N.shape[:-1], one.num_rotations, step).min(-2)
    return weakest[..., list(one.first_mirrors)].max(-1)


def _stacked(values: Sequence[NDArray[np.float64]], like_N: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack(values, -1) if values else np.zeros((*like_N.shape[:-1], 0))


def p_value(found_Q: NDArray[np.float64], drawn_SQ: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 for classes that the question is not about."""
    as_much_Q = (drawn_SQ >= found_Q - ROUNDING).sum(0)
    return np.where(np.isinf(found_Q), 0.0, (1 + as_much_Q) / (1 + len(drawn_SQ)))
