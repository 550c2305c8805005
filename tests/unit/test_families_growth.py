"""Known, turned and new features are told apart, and coverage counts poses up to the symmetry.

Letters: F features, G group elements, C channels.
"""

import numpy as np
import pytest
import torch

from gc_core import groups
from gc_core.families import growth
from gc_core.symmetry import self_similarity, translate
from support.random_crosscoders import random_decoder

GROUP = groups.dihedral(4)
ALIKE = {"least_similarity": 0.5, "invariant_share": 0.9}


def test_known_turned_and_new_features_are_told_apart() -> None:
    smaller_JGC = random_decoder(GROUP, 6, 32)
    turned = torch.cat([translate(smaller_JGC[:1], h, GROUP) for h in range(1, GROUP.order)])
    new = random_decoder(GROUP, 5, 32, seed=1)
    told_F = growth.novelty(torch.cat([smaller_JGC, turned, new]), smaller_JGC, GROUP, **ALIKE)
    np.testing.assert_array_equal(told_F, [growth.KNOWN] * 6 + [growth.TURNED] * 7 + [growth.NEW] * 5)
    assert (growth.novelty(new, smaller_JGC[:0], GROUP, **ALIKE) == growth.NEW).all()


def test_a_feature_turned_into_itself_is_known() -> None:
    mirror = GROUP.n
    features = random_decoder(GROUP, 3, 32)
    features = features + translate(features, mirror, GROUP)
    assert self_similarity(features, GROUP)[:, mirror].numpy() == pytest.approx(1)
    told_F = growth.novelty(translate(features, mirror, GROUP), features, GROUP, **ALIKE)
    assert (told_F == growth.KNOWN).all()


def test_channels_turned_at_random_leave_nothing_known() -> None:
    """The control: norms and symmetries stay, all correspondence is lost."""
    features = random_decoder(GROUP, 8, 32)
    full = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).standard_normal((32, 32)))[0])
    assert (growth.novelty(features @ full, features, GROUP, **ALIKE) == growth.NEW).all()


def test_what_differs_in_what_changes_alone_is_new() -> None:
    """Most of the energy in common, but not what the group moves."""
    level = 2 * random_decoder(GROUP, 1, 32, seed=5).mean(1, keepdim=True)
    one, other = (level + 0.3 * random_decoder(GROUP, 1, 32, seed=seed) for seed in (6, 7))
    assert torch.cosine_similarity(one.flatten(1), other.flatten(1)) > 0.5
    assert growth.novelty(one, other, GROUP, **ALIKE).tolist() == [growth.NEW]


def test_coverage_counts_poses_up_to_the_symmetry() -> None:
    alone, half_turn, whole = (
        next(each for each in GROUP.subgroups() if each.name == name) for name in ("C_1", "C_2", "D_4")
    )
    assert growth.covered(np.arange(8), alone, GROUP) == 1
    assert growth.covered(np.array([0, 0, 1]), alone, GROUP) == 2 / 8
    assert growth.covered(np.array([0, 2]), half_turn, GROUP) == 2 / 8
    assert growth.covered(np.array([3]), whole, GROUP) == 1


def test_members_in_poses_at_random_cover_less_than_members_that_tile() -> None:
    alone = GROUP.subgroups()[0]
    assert growth.covered_by_chance([1], [alone], GROUP, seed=0) == 1 / 8
    chance = growth.covered_by_chance([8] * 50, [alone] * 50, GROUP, seed=0)
    assert chance == pytest.approx(1 - (7 / 8) ** 8, abs=0.02)
    assert np.isnan(growth.covered_by_chance([], [], GROUP, seed=0))
