"""Symmetries that were built in are found, and only those.

Letters: F features, G group elements, C channels.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups, symmetry
from gc_core.groups import Group, Subgroup
from support.random_crosscoders import random_decoder

GROUPS = [
    groups.cyclic(1),
    groups.cyclic(6),
    groups.cyclic(8),
    groups.dihedral(1),
    groups.dihedral(5),
    groups.dihedral(8),
]
every_group = pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)


def symmetrised(features: Tensor, subgroup: Subgroup, group: Group) -> Tensor:
    """The mean over rho(h), h in the subgroup: exactly kept by it."""
    return torch.stack([symmetry.translate(features, h, group) for h in subgroup.elements]).mean(0)


@every_group
def test_self_similarity_is_the_cosine_with_the_translated_feature(group: Group) -> None:
    features = random_decoder(group, 4, 30)
    plain = [
        torch.cosine_similarity(features.flatten(1), symmetry.translate(features, h, group).flatten(1))
        for h in range(group.order)
    ]
    torch.testing.assert_close(symmetry.self_similarity(features, group), torch.stack(plain, 1), atol=1e-12, rtol=0)


@every_group
def test_translating_twice_is_translating_by_the_product(group: Group) -> None:
    features = random_decoder(group, 4, 30)
    for g in range(group.order):
        for h in range(group.order):
            twice = symmetry.translate(symmetry.translate(features, h, group), g, group)
            assert torch.equal(twice, symmetry.translate(features, int(group.cayley[g, h]), group))


@every_group
def test_energies_over_representations_sum_to_the_whole(group: Group) -> None:
    features = random_decoder(group, 4, 30)
    torch.testing.assert_close(symmetry.spectrum(features, group).sum(1), features.square().sum((1, 2)))


@every_group
def test_the_first_energy_is_the_invariant_share(group: Group) -> None:
    features = random_decoder(group, 4, 30)
    share = symmetry.spectrum(features, group)[:, 0] / features.square().sum((1, 2))
    torch.testing.assert_close(symmetry.invariant_energy_share(features), share)


@every_group
def test_the_spectrum_does_not_change_when_the_stimulus_is_transformed(group: Group) -> None:
    features = random_decoder(group, 4, 30)
    for h in range(group.order):
        moved = symmetry.translate(features, h, group)
        torch.testing.assert_close(symmetry.spectrum(moved, group), symmetry.spectrum(features, group))


def test_curve_is_one_at_the_identity_and_the_cosine_elsewhere() -> None:
    features = random_decoder(groups.dihedral(4), 4, 30)
    curve = symmetry.transform_block_curve(features)
    expected = torch.cosine_similarity(features[:, :1], features, dim=2)
    torch.testing.assert_close(curve, expected)
    torch.testing.assert_close(curve[:, 0], torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("group", [groups.dihedral(8), groups.cyclic(8), groups.dihedral(6)], ids=lambda g: g.name)
def test_every_subgroup_that_was_built_in_is_found_with_its_axis(group: Group) -> None:
    for subgroup in group.subgroups():
        features = symmetrised(random_decoder(group, 4, 30), subgroup, group)
        for found in symmetry.verdicts(features, group, threshold=0.8, invariant_share=0.9):
            assert found.subgroup == subgroup
            assert found.words == symmetry.in_words(subgroup, group)


def test_a_large_invariant_part_does_not_hide_the_symmetry_of_the_rest() -> None:
    group = groups.dihedral(8)
    mirror = next(h for h in group.subgroups() if h.name == "D_1" and h.axis_deg == 45.0)
    offset = 1.5 * random_decoder(groups.trivial(), 1, 30, seed=1)
    features = symmetrised(random_decoder(group, 4, 30), mirror, group) + offset
    plain = symmetry.self_similarity(features, group)
    assert (plain > 0.7).all()  # everything looks symmetric
    assert {v.subgroup for v in symmetry.verdicts(features, group, threshold=0.7, invariant_share=0.95)} == {mirror}


def test_random_features_have_no_symmetry_and_constant_ones_all() -> None:
    group = groups.dihedral(16)
    random = symmetry.verdicts(random_decoder(group, 50, 30), group, threshold=0.5, invariant_share=0.9)
    assert {v.words for v in random} == {"none"}
    constant = random_decoder(group, 4, 30)[:, :1].expand(-1, group.order, -1).contiguous()
    assert {v.words for v in symmetry.verdicts(constant, group, threshold=0.5, invariant_share=0.9)} == {"invariant"}


def test_a_dead_feature_of_zeros_is_given_no_symmetry() -> None:
    group = groups.dihedral(4)
    (found,) = symmetry.verdicts(torch.zeros(1, 8, 3), group, threshold=0.5, invariant_share=0.9)
    assert found.words == "none"
    assert torch.equal(symmetry.self_similarity(torch.zeros(1, 8, 3), group), torch.zeros(1, 8))


def test_words_for_subgroups_of_d4() -> None:
    group = groups.dihedral(4)
    words = {h.elements: symmetry.in_words(h, group) for h in group.subgroups()}
    assert words[(0,)] == "none"
    assert words[(0, 2)] == "2-fold"
    assert words[(0, 1, 2, 3)] == "chiral 4-fold"
    assert words[(0, 4)] == "mirror"
    assert words[(0, 2, 4, 6)] == "2-fold with mirrors"
    assert words[tuple(range(8))] == "invariant"
    assert symmetry.in_words(groups.trivial().subgroups()[0], groups.trivial()) == "none"
    np.testing.assert_equal(groups.cyclic(4).subgroups()[-1].order, 4)


def half_turned(features: Tensor, similarity: float, group: Group) -> Tensor:
    """Changing parts whose self-similarity under the half turn is exactly this: weighed even and odd parts."""
    changing = symmetry.changing_part(features)
    turned = symmetry.translate(changing, group.n // 2, group)
    even, odd = (
        torch.nn.functional.normalize((changing + sign * turned).flatten(1), dim=1).view_as(features)
        for sign in (1, -1)
    )
    return ((1 + similarity) / 2) ** 0.5 * even + ((1 - similarity) / 2) ** 0.5 * odd


@pytest.mark.parametrize("group", [groups.dihedral(8), groups.dihedral(16)], ids=lambda g: g.name)
def test_an_exact_mirror_does_not_carry_a_weak_half_turn(group: Group) -> None:
    mirror = next(h for h in group.subgroups() if h.name == "D_1")
    features = half_turned(symmetrised(random_decoder(group, 12, 30), mirror, group), 0.3, group)
    similarity = symmetry.self_similarity(features, group)
    torch.testing.assert_close(similarity[:, group.n // 2], torch.full((12,), 0.3, dtype=torch.float64))
    with_mirrors = next(h for h in group.subgroups() if h.name == "D_2" and {*mirror.elements} < {*h.elements})
    assert (similarity[:, list(with_mirrors.elements[1:])].mean(1) > 0.5).all(), "the mean rule would say 2-fold"
    for found in symmetry.verdicts(features, group, threshold=0.5, invariant_share=0.9):
        assert (found.words, found.subgroup) == ("mirror", mirror)
        assert found.weakest == pytest.approx(1)


def test_a_strong_half_turn_is_still_found_and_its_weakest_element_told() -> None:
    group = groups.dihedral(8)
    mirror = next(h for h in group.subgroups() if h.name == "D_1")
    features = half_turned(symmetrised(random_decoder(group, 12, 30), mirror, group), 0.7, group)
    for found in symmetry.verdicts(features, group, threshold=0.5, invariant_share=0.9):
        assert found.words == "2-fold with mirrors"
        assert found.weakest == pytest.approx(0.7)
        assert found.score == pytest.approx((1 + 2 * 0.7) / 3)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.85])
def test_planted_symmetries_are_found_beside_a_large_invariant_part(share: float) -> None:
    group = groups.dihedral(8)
    for subgroup in group.subgroups()[:-1]:
        changing = symmetry.changing_part(symmetrised(random_decoder(group, 3, 60), subgroup, group))
        level = torch.ones(1, 1, 60, dtype=torch.float64) / (60 * group.order) ** 0.5
        unit = changing / changing.flatten(1).norm(dim=1)[:, None, None]
        features = share**0.5 * level + (1 - share) ** 0.5 * unit
        for found in symmetry.verdicts(features, group, threshold=0.5, invariant_share=0.9):
            assert found.subgroup == found.changing_subgroup == subgroup


def test_random_half_normal_features_are_not_invariant() -> None:
    """Blocks with nothing in common but their sign hold 64% of their energy in the mean."""
    features = random_decoder(groups.dihedral(16), 50, 30).abs()
    assert (symmetry.invariant_energy_share(features) > 0.6).all()
    found = symmetry.verdicts(features, groups.dihedral(16), threshold=0.5, invariant_share=0.9)
    assert {v.words for v in found} == {"none"}


def test_the_changing_part_of_an_invariant_feature_is_described_too() -> None:
    group = groups.dihedral(8)
    mirror = next(h for h in group.subgroups() if h.name == "D_1" and h.axis_deg == 45.0)
    features = symmetrised(random_decoder(group, 4, 30), mirror, group) + 20
    for found in symmetry.verdicts(features, group, threshold=0.5, invariant_share=0.9):
        assert (found.words, found.subgroup.order, found.changing_subgroup) == ("invariant", group.order, mirror)
