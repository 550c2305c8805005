"""Similarity over all poses equals the plain maximum; transformed copies are found as families.

Letters: F features, G group elements, C channels.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.families import Families, best_poses, family_similarity, group_families, shown_poses
from gc_core.groups import Group, Subgroup
from gc_core.symmetry import changing_part, translate
from support.random_crosscoders import random_decoder

GROUPS = [
    groups.trivial(),
    groups.cyclic(1),
    groups.cyclic(5),
    groups.cyclic(8),
    groups.dihedral(1),
    groups.dihedral(3),
    groups.dihedral(8),
]
every_group = pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)


@every_group
def test_the_fourier_way_is_the_plain_maximum_over_poses(group: Group) -> None:
    mine, others = random_decoder(group, 7, 5, seed=1), random_decoder(group, 4, 5, seed=2)
    cosines = torch.stack(
        [
            torch.nn.functional.cosine_similarity(
                mine.flatten(1)[:, None], translate(others, h, group).flatten(1)[None], dim=2
            )
            for h in range(group.order)
        ],
        dim=2,
    )
    similarity, pose = best_poses(mine, others, group)
    torch.testing.assert_close(similarity, cosines.amax(2), atol=1e-12, rtol=0)
    torch.testing.assert_close(cosines.gather(2, pose[..., None])[..., 0], similarity, atol=1e-12, rtol=0)


@every_group
def test_similarity_is_the_same_from_both_sides_and_the_pose_the_inverse(group: Group) -> None:
    features = random_decoder(group, 7, 5)
    similarity, pose = best_poses(features, features, group)
    torch.testing.assert_close(similarity, similarity.T, atol=1e-12, rtol=0)
    np.testing.assert_array_equal(group.inverse[pose.numpy()], pose.T.numpy())


def families_of(features: Tensor, group: Group) -> Families:
    similarity, pose = family_similarity(features, features, group, invariant_share=0.9)
    return group_families(similarity.numpy(), pose.numpy(), least_similarity=0.8)


@pytest.mark.parametrize("group", [groups.dihedral(8), groups.cyclic(6)], ids=lambda g: g.name)
def test_transformed_copies_are_one_family_with_their_poses(group: Group) -> None:
    originals = random_decoder(group, 3, 20)
    turns = [0, 2, 5]
    copies = torch.cat([translate(originals, h, group) for h in turns])  # features i, i + 3, i + 6 belong together
    found = families_of(copies, group)
    for i in range(3):
        members = [i, i + 3, i + 6]
        assert len(set(found.family_F[members])) == 1
        representative = found.representative_F[i]
        for member in members:
            moved = translate(copies[[member]], int(found.pose_F[member]), group)
            torch.testing.assert_close(moved, copies[[representative]])
    assert len(set(found.family_F)) == 3


def test_unrelated_features_stay_alone() -> None:
    found = families_of(random_decoder(groups.dihedral(4), 6, 40), groups.dihedral(4))
    assert (found.family_F == -1).all()
    np.testing.assert_array_equal(found.representative_F, np.arange(6))


@pytest.mark.parametrize("num_features", [0, 1])
def test_fewer_than_two_features_have_no_family(num_features: int) -> None:
    found = group_families(
        np.ones((num_features, num_features), np.float32),
        np.zeros((num_features, num_features), np.int64),
        least_similarity=0.5,
    )
    assert len(found.family_F) == num_features
    assert (found.family_F == -1).all()


def cosine(mine: Tensor, others: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(mine.flatten(1)[:, None], others.flatten(1)[None], dim=2)


@every_group
def test_family_similarity_is_the_plain_largest_of_the_smaller_cosine(group: Group) -> None:
    mine, others = random_decoder(group, 7, 5, seed=1) + 0.5, random_decoder(group, 4, 5, seed=2) + 0.5
    both = torch.stack(
        [
            torch.minimum(cosine(mine, moved), cosine(changing_part(mine), changing_part(moved)))
            for moved in (translate(others, h, group) for h in range(group.order))
        ],
        dim=2,
    )
    similarity, pose = family_similarity(mine, others, group, invariant_share=1.1)
    if group.order > 1:
        torch.testing.assert_close(similarity, both.amax(2), atol=1e-9, rtol=0)
        torch.testing.assert_close(both.gather(2, pose[..., None])[..., 0], similarity, atol=1e-9, rtol=0)


def test_unrelated_features_that_share_half_of_their_energy_stay_alone() -> None:
    group, level = groups.dihedral(8), random_decoder(groups.trivial(), 1, 40, seed=1)
    changing = changing_part(random_decoder(group, 60, 40))
    changing /= changing.flatten(1).norm(dim=1)[:, None, None]
    features = changing + level / (level.norm() * group.order**0.5)
    whole, pose = best_poses(features, features, group)
    joined = group_families(whole.numpy(), pose.numpy(), least_similarity=0.5)
    assert (joined.family_F == 0).all(), "by the whole alone they are one family"
    similarity, pose = family_similarity(features, features, group, invariant_share=0.9)
    found = group_families(similarity.numpy(), pose.numpy(), least_similarity=0.5)
    assert (found.family_F == -1).all()


def test_invariant_features_are_compared_as_a_whole() -> None:
    group = groups.dihedral(4)
    levels = random_decoder(groups.trivial(), 2, 30, seed=1).repeat_interleave(3, 0)  # two kinds, three copies of each
    features = levels.expand(-1, group.order, -1) + 0.05 * random_decoder(group, 6, 30)
    assert families_of(features, group).family_F.tolist() in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("group", [groups.dihedral(8), groups.cyclic(6)], ids=lambda g: g.name)
def test_the_pose_shown_is_how_far_the_stimulus_is_turned_smallest_of_its_coset(group: Group) -> None:
    for stabiliser in group.subgroups():
        original = random_decoder(group, 1, 20)
        original = torch.stack([translate(original, h, group) for h in stabiliser.elements]).mean(0)
        turned = torch.cat([translate(original, h, group) for h in range(group.order)])
        similarity, pose = family_similarity(turned, turned, group, invariant_share=0.9)
        found = group_families(similarity.numpy(), pose.numpy(), least_similarity=0.8)
        of_each = [_conjugate(group, stabiliser, h) for h in range(group.order)]
        shown = shown_poses(found, of_each, group)
        first = int(found.representative_F[0])
        for h in range(group.order):
            against = group.cayley[h, group.inverse[first]]  # rho(h) D = rho(h first^-1) of the representative
            coset = group.cayley[against, list(of_each[first].elements)]
            assert shown[h] == min(coset)


def _conjugate(group: Group, subgroup: Subgroup, h: int) -> Subgroup:
    elements = sorted(int(group.cayley[group.cayley[h, s], group.inverse[h]]) for s in subgroup.elements)
    return next(other for other in group.subgroups() if other.elements == tuple(elements))
