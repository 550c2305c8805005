"""Families of dictionaries that are not compared pair by pair: no neighbour is lost, and they are the planted ones.

Letters: F features, G group elements, C channels.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from gc_core import groups
from gc_core.families import (
    Dictionary,
    Families,
    Neighbours,
    Source,
    coverage,
    family_of,
    family_similarity,
    find_families,
    group_families,
    mutual,
    nearest,
    placed,
    sketched,
)
from gc_core.families.sketch import principal_basis, sketch, upper_bound
from gc_core.groups import Group
from gc_core.symmetry import translate

SHARE, LEAST = 0.9, 0.5
GROUPS = [groups.parse(name) for name in ("trivial", "C2", "C5", "C8", "D1", "D3", "D8")]
every_group = pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)


def random_features(group: Group, count: int, channels: int = 6, seed: int = 0) -> Tensor:
    """With a mean block of every size, one of them hardly anything but that, and one zero."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(count, group.order, channels, generator=generator)
    found += torch.linspace(0, 5, count)[:, None, None] * torch.randn(count, 1, channels, generator=generator)
    found[0] = found[0].mean(0) + 0.01 * found[0]
    found[-1] = 0
    return found


def planted(
    group: Group, sizes: list[int], *, channels: int = 48, noise: float = 0.1
) -> tuple[Tensor, NDArray[np.int64]]:
    """Turned copies of unrelated features, each with noise of its own, in random order; and which family each is of."""
    generator = torch.Generator().manual_seed(1)
    originals = torch.randn(len(sizes), group.order, channels, generator=generator)
    label_F = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    pose_F = torch.randint(group.order, (len(label_F),), generator=generator)
    copies = torch.cat([translate(originals[[of]], int(h), group) for of, h in zip(label_F, pose_F, strict=True)])
    return copies + noise * torch.randn(copies.shape, generator=generator), label_F


def known(decoder_FGC: Tensor, group: Group, numbers: int = 60) -> Dictionary:
    every = np.arange(len(decoder_FGC))
    source = Source(group=group, read=lambda some: decoder_FGC[some], features=every, invariant_share=SHARE)
    return sketched(source, numbers=numbers)


@given(
    name=st.sampled_from([group.name for group in GROUPS]),
    numbers=st.integers(0, 200),
    sampled=st.integers(1, 12),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=60)
def test_the_bound_is_never_below_the_similarity(name: str, numbers: int, sampled: int, seed: int) -> None:
    group = groups.parse(name)
    features = random_features(group, 12, seed=seed)
    basis = principal_basis([features[:sampled]], group, numbers=numbers)
    sketches = sketch(features, basis, group, invariant_share=SHARE)
    exact, _ = family_similarity(features, features, group, invariant_share=SHARE)
    assert (upper_bound(sketches, sketches, basis, group) - exact).min() >= -2e-5


@every_group
def test_with_all_numbers_the_bound_is_near_the_similarity(group: Group) -> None:
    """Else every pair would be a candidate, and the bound of no use."""
    features = random_features(group, 12)
    basis = principal_basis([features], group, numbers=10**6)
    sketches = sketch(features, basis, group, invariant_share=SHARE)
    exact, _ = family_similarity(features, features, group, invariant_share=SHARE)
    assert (upper_bound(sketches, sketches, basis, group) - exact).max() < 0.15


@every_group
@pytest.mark.parametrize("numbers", [0, 20, 10**6])
def test_neighbours_are_those_of_all_pairs(group: Group, numbers: int) -> None:
    features, _ = planted(group, [6, 5, 3, 1, 1], channels=5, noise=0.8)
    features = torch.cat([features, random_features(group, 9, channels=5)])
    exact, _ = family_similarity(features, features, group, invariant_share=SHARE)
    exact = exact.fill_diagonal_(-1).numpy()
    among = known(features, group, numbers)
    found = nearest(range(3, 20), among, least_similarity=LEAST, most=len(features))
    similarity = np.zeros_like(exact)
    similarity[found.first_E, found.second_E] = found.similarity_E
    expected = np.where(exact >= LEAST, exact, 0)
    near_the_bound = abs(exact - LEAST) < 1e-4
    np.testing.assert_allclose(
        similarity[3:20][~near_the_bound[3:20]], expected[3:20][~near_the_bound[3:20]], atol=1e-4
    )
    assert (expected[3:20] > 0).any()
    for first, second, pose in zip(found.first_E, found.second_E, found.pose_E, strict=True):
        turned = translate(features[[second]], int(pose), group)
        cosine = torch.nn.functional.cosine_similarity(features[first].flatten(), turned.flatten(), dim=0)
        assert cosine >= exact[first, second] - 1e-3


def test_only_the_nearest_are_kept_and_only_if_both_think_so() -> None:
    group = groups.dihedral(3)
    features, _ = planted(group, [12], noise=0.5)
    found = nearest(range(12), known(features, group), least_similarity=0, most=4)
    exact, _ = family_similarity(features, features, group, invariant_share=SHARE)
    exact = exact.fill_diagonal_(-1).numpy()
    assert (np.bincount(found.first_E) == 4).all()
    for first in range(12):
        assert set(found.second_E[found.first_E == first]) == set(np.argsort(-exact[first])[:4])
    pairs = {(int(one), int(other)) for one, other in zip(found.first_E, found.second_E, strict=True)}
    both = mutual(found, 12)
    expected = sorted((one, other) for one, other in pairs if one < other and (other, one) in pairs)
    assert list(zip(both.first_E, both.second_E, strict=True)) == expected != []


def test_of_equally_near_copies_no_few_are_everybodys_neighbours() -> None:
    group = groups.dihedral(4)
    features, _ = planted(group, [80], noise=0)
    pairs = mutual(nearest(range(80), known(features, group), least_similarity=LEAST, most=16), 80)
    degree = np.bincount(np.concatenate([pairs.first_E, pairs.second_E]), minlength=80)
    assert degree.min() >= 4


@pytest.mark.parametrize("name", ["trivial", "C6", "D8"])
def test_planted_families_are_found_whatever_their_sizes(name: str) -> None:
    group = groups.parse(name)
    features, label_F = planted(group, [90, 40, 12, 5, 2, 2, 1, 1, 1])
    found = find_families(known(features, group), least_similarity=LEAST)
    assert (
        adjusted_rand_score(label_F, np.where(found.family_F < 0, np.arange(300, 300 + len(label_F)), found.family_F))
        == 1
    )
    assert (found.family_F >= 0).sum() == 151
    assert np.nanmin(found.similarity_F) > 0.9
    assert np.nanmin(found.consistency_F) > 0.99
    assert (np.isnan(found.consistency_F) == (found.family_F < 0)).all()


@pytest.mark.parametrize("name", ["trivial", "C6", "D8"])
def test_unrelated_features_stay_alone(name: str) -> None:
    group = groups.parse(name)
    features = torch.randn(300, group.order, 64, generator=torch.Generator().manual_seed(0))
    found = find_families(known(features, group), least_similarity=LEAST)
    assert (found.family_F == -1).all()
    assert np.isnan(found.place_F2).all()


def test_average_linkage_finds_the_same_families() -> None:
    group = groups.dihedral(8)
    features, _ = planted(group, [20, 9, 9, 4, 3, 2, 1, 1, 1, 1], noise=0.5)
    similarity, pose = family_similarity(features, features, group, invariant_share=SHARE)
    plain = group_families(similarity.numpy(), pose.numpy(), least_similarity=LEAST)
    found = find_families(known(features, group), least_similarity=LEAST)
    np.testing.assert_array_equal(found.family_F, plain.family_F)


def everything(found: Families) -> list[NDArray[np.generic]]:
    return [found.family_F, found.pose_F, found.representative_F, found.similarity_F.round(3), found.place_F2]


def test_families_do_not_depend_on_how_features_are_split_into_blocks() -> None:
    group = groups.dihedral(4)
    features, _ = planted(group, [30, 8, 3, 1, 1], noise=0.6)
    among = known(features, group)
    whole = find_families(among, least_similarity=LEAST)
    assert (whole.family_F >= 0).any()
    for block in (1, 7, 40):
        split = find_families(among, least_similarity=LEAST, block=block)
        for mine, theirs in zip(everything(split), everything(whole), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_poses_turn_every_member_into_the_representative() -> None:
    group = groups.dihedral(8)
    features, _ = planted(group, [14, 9], noise=0.05)
    found = find_families(known(features, group), least_similarity=LEAST)
    for number, (representative, pose) in enumerate(zip(found.representative_F, found.pose_F, strict=True)):
        turned = translate(features[[number]], int(pose), group)
        cosine = torch.nn.functional.cosine_similarity(turned.flatten(), features[representative].flatten(), dim=0)
        assert cosine > 0.98
    assert (found.pose_F[np.unique(found.representative_F)] == 0).all()


def test_poses_that_do_not_agree_round_a_circle_are_told() -> None:
    group = groups.cyclic(8)
    features, _ = planted(group, [12], noise=0.02)
    among = known(features, group)
    pairs = mutual(nearest(range(12), among, least_similarity=LEAST, most=12), 12)
    every = np.arange(12)
    assert family_of(every, pairs, among).consistency > 0.99
    wrong = Neighbours(
        first_E=pairs.first_E,
        second_E=pairs.second_E,
        similarity_E=pairs.similarity_E,
        pose_E=(pairs.pose_E + 3) % 8,
    )
    assert family_of(every, wrong, among).consistency < 0.3


def test_coverage_is_the_share_of_poses_that_members_have_up_to_symmetry() -> None:
    group = groups.dihedral(4)
    original = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(0))
    mirror = next(each for each in group.subgroups() if each.order == 2 and each.num_rotations == 1)
    symmetric = torch.stack([translate(original, h, group) for h in mirror.elements]).mean(0)
    alone = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(1))
    features = torch.cat([*(translate(symmetric, h, group) for h in (0, 1, 2)), alone])
    found = find_families(known(features, group), least_similarity=LEAST)
    identity = group.subgroups()[0]
    conjugates = [stabiliser_of(features[[number]], group) for number in range(3)]
    shares = coverage(found, [*conjugates, identity], group)
    np.testing.assert_allclose(shares, [3 / 4, 3 / 4, 3 / 4, np.nan])
    np.testing.assert_allclose(coverage(found, [identity] * 4, group), [3 / 8, 3 / 8, 3 / 8, np.nan])


def stabiliser_of(feature: Tensor, group: Group) -> groups.Subgroup:
    same = [h for h in range(group.order) if torch.allclose(translate(feature, h, group), feature, atol=1e-5)]
    return next(each for each in group.subgroups() if each.elements == tuple(same))


def test_members_of_a_family_lie_together_on_the_map() -> None:
    group = groups.cyclic(4)
    features, label_F = planted(group, [30, 30, 30, 1])
    among = known(features, group)
    pairs = mutual(nearest(range(91), among, least_similarity=LEAST, most=91), 91)
    place_F2, again_F2 = placed(pairs, 91), placed(pairs, 91)
    np.testing.assert_array_equal(place_F2, again_F2)
    (alone,) = np.flatnonzero(np.isnan(place_F2).any(1))
    assert label_F[alone] == 3
    distance = np.linalg.norm(place_F2[:, None] - place_F2[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    distance[alone] = distance[:, alone] = np.inf
    nearest_F = distance.argmin(1)
    others = np.arange(91) != alone
    assert (label_F[nearest_F] == label_F)[others].mean() > 0.95
