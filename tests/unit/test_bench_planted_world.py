"""The planted world is what it says: families, stabilisers, poses and difficulties."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gc_core.symmetry import changing_part, invariant_energy_share, self_similarity, translate
from infra.bench.planted_world import World, plant, sample

SMALL = World(group="D4", families=8, channels=16, imperfect=0.0, width=None)


def test_the_default_has_twice_as_many_different_features_as_channels() -> None:
    family_F, _ = plant(World(), 0).features
    assert len(np.unique(family_F)) == World().families
    assert len(family_F) / World().channels == pytest.approx(2, abs=0.02)


def test_every_class_of_subgroups_is_planted_and_leaves_its_features_as_they_are() -> None:
    truth = plant(SMALL, 0)
    assert {each.name for each in truth.stabiliser_P} == {each.name for each in truth.group.subgroups()}
    similarity_PG = self_similarity(truth.prototype_PGC.double(), truth.group)
    for one_G, stabiliser in zip(similarity_PG, truth.stabiliser_P, strict=True):
        kept = torch.nonzero(one_G > 1 - 1e-6)[:, 0].tolist()
        assert kept == list(stabiliser.elements), "these and no others"


def test_different_features_are_the_poses_that_differ() -> None:
    truth = plant(SMALL, 0)
    family_F, pose_F = truth.features
    planted = truth.dictionary()
    for family, stabiliser in enumerate(truth.stabiliser_P):
        mine = np.flatnonzero(family_F == family)
        assert len(mine) == truth.group.order // stabiliser.order
        assert (torch.cdist(planted[mine].flatten(1), planted[mine].flatten(1)) + torch.eye(len(mine)) > 0.1).all()
    turned = translate(truth.prototype_PGC[family_F[3:4]], int(pose_F[3]), truth.group)
    torch.testing.assert_close(planted[3:4], turned)


def test_difficulties_change_what_they_say() -> None:
    steady = plant(replace(SMALL, invariant_share=0.8, stabilisers=("C1", "D_1")), 0)
    assert {each.name for each in steady.stabiliser_P} == {"C_1", "D_1"}
    torch.testing.assert_close(invariant_energy_share(steady.prototype_PGC), torch.full((8,), 0.8))
    imperfect = plant(replace(SMALL, imperfect=0.3, stabilisers=("C2",)), 0)
    kept = self_similarity(changing_part(imperfect.prototype_PGC), imperfect.group)[:, imperfect.group.n // 2]
    assert (kept < 0.95).all()
    assert (kept > 0.4).all()


def test_samples_are_sums_of_their_families_and_noise() -> None:
    truth = plant(SMALL, 0)
    quiet = sample(truth, replace(SMALL, noise=0.0, active=2), 50, np.random.default_rng(1))
    for row in range(50):
        parts = truth.posed(quiet.family_NA[row], quiet.pose_NA[row]).flatten(1)
        found = torch.linalg.lstsq(parts.T, quiet.acts_NGC[row].flatten()[:, None])
        assert ((found.solution > 0.49) & (found.solution < 1.51)).all()
        torch.testing.assert_close(parts.T @ found.solution, quiet.acts_NGC[row].flatten()[:, None])
    noisy = sample(truth, replace(SMALL, noise=0.2, active=2), 50, np.random.default_rng(1))
    added = (noisy.acts_NGC - quiet.acts_NGC).square().sum() / noisy.acts_NGC.square().sum()
    assert float(added) == pytest.approx(0.2, abs=0.02)


def test_rare_families_and_upright_poses_are_drawn_so() -> None:
    truth = plant(SMALL, 0)
    alike = sample(truth, replace(SMALL, rarity=0.0, active=1), 4000, np.random.default_rng(1))
    rare = sample(truth, replace(SMALL, rarity=1.0, upright=0.5, active=1), 4000, np.random.default_rng(1))
    counts = [np.bincount(each.family_NA.ravel(), minlength=8) for each in (alike, rare)]
    assert counts[0].max() / counts[0].min() < 1.4
    assert counts[1][0] / counts[1][7] == pytest.approx(8, rel=0.25)
    assert (rare.pose_NA == 0).mean() == pytest.approx(0.5 + 0.5 / 8, abs=0.03)
    assert (np.diff(np.sort(sample(truth, SMALL, 50, np.random.default_rng(2)).family_NA, axis=1)) > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stabilisers": ("C3",)}, "stabilisers: found 'C3', expected some of C1"),
        ({"active": 9}, "active: found 9, expected 1 to families"),
        ({"noise": 1.0}, "noise: found 1.0"),
        ({"imperfect": -0.1}, "imperfect: found -0.1"),
    ],
)
def test_worlds_that_cannot_be_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
