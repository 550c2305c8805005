"""What chance gives: surrogates against a plain reference, p-values that are right on features without symmetry.

Letters: F features, G group elements, C channels, S surrogates, J frequencies, N rotations, Q classes, d directions.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, ks_2samp

from gc_core import groups, symmetry
from gc_core.groups import Group
from gc_core.symmetry import chance
from gc_core.symmetry.harmonics import Harmonics, coefficients, degrees_of_freedom, harmonics
from infra.bench.planted_symmetries import planted

GROUPS = [
    groups.cyclic(1),
    groups.cyclic(9),
    groups.dihedral(1),
    groups.dihedral(2),
    groups.dihedral(7),
    groups.dihedral(8),
]
every_group = pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
D8, D16, C8 = groups.dihedral(8), groups.dihedral(16), groups.cyclic(8)


def of(features: torch.Tensor, group: Group) -> Harmonics:
    return harmonics(coefficients(symmetry.changing_part(features.double()), group), group)


@every_group
def test_harmonics_give_the_self_similarity_under_every_element(group: Group) -> None:
    features = torch.randn(5, group.order, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    changing = symmetry.changing_part(features)
    expected = symmetry.self_similarity(changing, group).numpy()
    found, energy_F1 = of(features, group), changing.square().sum((1, 2)).numpy()[:, None]
    if group.order == 1:
        return
    rotations = chance.rotation_similarity(found.energy_FKJ.sum(1), group.n)
    np.testing.assert_allclose(rotations, expected[:, : group.n], atol=1e-12)
    if group.has_mirrors:
        mirrors = chance.mirror_similarity(found.cross_FJ / energy_F1, group.n)
        np.testing.assert_allclose(mirrors, expected[:, group.n :], atol=1e-12)


@every_group
def test_numbers_a_channel_has_at_all_frequencies_are_those_of_the_changing_part(group: Group) -> None:
    assert degrees_of_freedom(group).sum() == group.order - 1


def explicit_surrogates(features_GC: NDArray[np.float64], group: Group, rng: np.random.Generator, count: int):
    """(S, G, C): at every frequency the coefficients of either half become others of the same norm, in directions at
    random; by Fourier transform of the features themselves."""
    halves = np.fft.fft(features_GC.reshape(2, group.n, -1), axis=1)
    found = np.zeros((count, *halves.shape), complex)
    found[:, :, 0] = halves[:, 0]
    for j in range(1, group.n // 2 + 1):
        draws = rng.standard_normal((2, count, *halves[:, j].shape))
        drawn = draws[0] + 1j * draws[1] * (2 * j < group.n)
        drawn *= (np.linalg.norm(halves[:, j], axis=1) / np.linalg.norm(drawn, axis=2))[..., None]
        found[:, :, j], found[:, :, -j] = drawn, drawn.conj()
    return np.fft.ifft(found, axis=2).real.reshape(count, group.order, -1)


@pytest.mark.parametrize("directions", [1, 2, 5, 40])
@pytest.mark.parametrize("group", [D8, groups.dihedral(7)], ids=lambda g: g.name)
def test_mirrors_of_surrogates_are_those_of_explicit_random_maps(group: Group, directions: int) -> None:
    """Of a feature whose coefficients lie at random in d channels, up to the grid on which halves are turned."""
    rng = np.random.default_rng(directions)
    features = rng.standard_normal((1, group.order, directions))
    features -= features.mean(1, keepdims=True)
    made = torch.from_numpy(explicit_surrogates(features[0], group, rng, 3000))
    expected = symmetry.self_similarity(made, group).numpy()[:, group.n :]
    found, total = of(torch.from_numpy(features), group), np.square(features).sum()
    turned = np.exp(2j * np.pi * rng.random((3000, len(found.cross_FJ[0]))))  # any angle, not those of the group alone
    turned[:, 0] = 1
    if group.n % 2 == 0:
        turned[:, -1] = 1
    share_SJ = np.full((3000, len(found.cross_FJ[0])), min(1 / directions, 1 - 1e-12))
    largest_J = np.sqrt(found.energy_FKJ[0].prod(0)) / total
    drawn = chance.drawn_crosses(found.cross_FJ[0] / total, largest_J, share_SJ, group, rng) * turned
    mirrors = chance.mirror_similarity(drawn, group.n)
    assert ks_2samp(mirrors.max(1), expected.max(1)).pvalue > 1e-3
    assert ks_2samp(mirrors[:, 0], expected[:, 0]).pvalue > 1e-3


def test_energies_of_surrogates_vary_as_those_of_explicit_noise() -> None:
    rng, directions = np.random.default_rng(0), 3
    noise = torch.from_numpy(rng.standard_normal((4000, D8.order, directions)))
    expected = of(noise, D8).energy_FKJ.sum(1)
    mean_J = degrees_of_freedom(D8) * directions
    drawn = chance.drawn_energies(mean_J, np.full((4000, len(mean_J)), 1 / directions), D8, rng)
    for j in range(len(mean_J)):
        assert ks_2samp(drawn[:, j], expected[:, j]).pvalue > 1e-3, j


@pytest.mark.parametrize("directions", [1, 2, 6, 30])
def test_the_number_of_directions_is_estimated_right_whether_or_not_a_mirror_keeps_the_feature(directions: int) -> None:
    mirror = next(each for each in D16.subgroups() if each.name == "D_1")
    for subgroup in (D16.subgroups()[0], mirror):
        rng = np.random.default_rng(directions)
        features = planted(D16, subgroup, 200, rng=rng, directions=directions, width=3.0)
        squares, count = of(features, D16).alignment_F2.sum(0)
        assert squares / count == pytest.approx(1 / directions, rel=0.12)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_smooth_energies_never_rise_nor_fall_too_steeply(energies: list[float]) -> None:
    found = chance.smooth_energies(np.array(energies), np.ones(len(energies)))
    assert (found[1:] <= found[:-1] * (1 + 1e-12)).all()
    assert (found[1:] >= chance.STEEPEST * found[:-1] * (1 - 1e-12)).all()


def test_energies_that_fall_are_kept() -> None:
    energies = np.array([5.0, 4.0, 2.0, 1.0])
    np.testing.assert_allclose(chance.smooth_energies(energies, np.array([1, 4, 4, 2.0])), energies)


NULLS = [(D8, 1, 2.0), (D8, 3, 1.0), (D8, None, 2.0), (D16, 2, 1.0), (D16, 5, None), (D16, None, 4.0), (C8, 2, None)]


@pytest.mark.parametrize(("group", "directions", "width"), NULLS)
def test_p_values_of_features_without_symmetry_are_not_too_small(
    group: Group, directions: int | None, width: float | None
) -> None:
    """Of every class no more are below a level than a right test would leave there in 999 of 1000 dictionaries; over a
    cyclic group, where a spectrum without any smoothness is fitted too closely, than one that is wrong by 2.5 times."""
    rng, count = np.random.default_rng(5), 150
    features = planted(group, group.subgroups()[0], count, rng=rng, directions=directions, width=width)
    p_FQ = symmetry.evidence_of(features, group, surrogates=199).p_FQ
    for level in (0.05, 0.2):
        allowed = level if group.has_mirrors else 2.5 * level
        assert ((p_FQ <= level).sum(0) <= binom.ppf(0.999, count, allowed)).all()


@pytest.mark.parametrize(("group", "directions", "width"), NULLS)
def test_at_most_a_twentieth_of_features_without_symmetry_is_given_one(
    group: Group, directions: int | None, width: float | None
) -> None:
    rng, count = np.random.default_rng(6), 150
    features = planted(group, group.subgroups()[0], count, rng=rng, directions=directions, width=width)
    evidence = symmetry.evidence_of(features, group, surrogates=199)
    found = [each.subgroup.order > 1 for each in symmetry.decide(evidence, group, threshold=0.5, invariant_share=0.9)]
    assert sum(found) <= binom.ppf(0.999, count, 0.05)


def test_without_chance_many_features_of_few_directions_are_given_a_symmetry() -> None:
    """The control: the dictionaries above are not such that nothing could be found in them."""
    rng = np.random.default_rng(6)
    features = planted(D8, D8.subgroups()[0], 150, rng=rng, directions=1, width=2.0)
    found = symmetry.verdicts(features, D8, threshold=0.5, invariant_share=0.9, rate=1.0, surrogates=0)
    assert np.mean([each.subgroup.order > 1 for each in found]) > 0.2


@pytest.mark.parametrize("frequency", [1, 2, 3])
@pytest.mark.parametrize("offset", [0.0, 0.37])
def test_one_harmonic_in_one_direction_is_mirror_symmetric_by_necessity(frequency: int, offset: float) -> None:
    """With its axis on an element of the group or between two."""
    angle_N = 2 * np.pi * frequency * np.arange(16) / 16
    curve_G = np.concatenate([np.cos(angle_N), np.cos(angle_N + offset)])
    direction_C = np.random.default_rng(0).standard_normal(40)
    features = torch.from_numpy((curve_G[:, None] * direction_C + 0.5)[None])
    evidence = symmetry.evidence_of(features, D16)
    mirrors = [one.has_mirrors and one.num_rotations == 1 for one in symmetry.classes(D16)]
    assert evidence.strength_FQ[:, mirrors].max() > 0.9
    assert (evidence.p_FQ[:, mirrors] > 0.99).all()
    (found,) = symmetry.decide(evidence, D16, threshold=0.5, invariant_share=0.9)
    assert found.words == ("undecided" if frequency == 1 else "2-fold" if frequency == 2 else "undecided")


def test_one_harmonic_in_many_directions_is_not() -> None:
    """The control of the last: the same mirror, where it is no necessity, and other features tell that."""
    parts = np.random.default_rng(0).standard_normal((2, 12, 1, 40))
    wave = np.exp(2j * np.pi * np.arange(16) / 16)[None, :, None]
    curves = ((parts[0] + 1j * parts[1]) * wave).real
    features = torch.from_numpy(np.concatenate([curves, np.roll(curves, 3, axis=1)], 1))
    found = symmetry.verdicts(features, D16, threshold=0.5, invariant_share=0.9)
    assert {each.words for each in found} == {"mirror"}
    assert {each.subgroup for each in found} == {next(h for h in D16.subgroups() if h.elements == (0, 16 + 3))}
