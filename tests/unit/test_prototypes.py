"""Families of an untied dictionary as prototypes."""

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.families import best_poses
from gc_core.symmetry import translate
from gc_core.train.prototypes import MOST_FEATURES, family_prototypes

GROUP = groups.parse("D4")
OPTIONS = {"least_similarity": 0.5, "invariant_share": 0.9}


def turned_copies(of_PGC: Tensor, poses: list[list[int]]) -> Tensor:
    return torch.cat(
        [translate(one[None], pose, GROUP) for one, its in zip(of_PGC, poses, strict=True) for pose in its]
    )


def test_turned_copies_become_the_prototype_that_they_are_of() -> None:
    planted_PGC = torch.randn(3, GROUP.order, 40, generator=torch.Generator().manual_seed(0))
    features_FGC = turned_copies(planted_PGC, [[3], [0, 5], [7, 1, 2, 6]])
    length_F = torch.tensor([1.0, 9.0, 0.1, 2.0, 1.0, 5.0, 1.0])
    found_PGC, size_P = family_prototypes(features_FGC * length_F[:, None, None], GROUP, **OPTIONS)
    assert size_P.tolist() == [4, 2, 1]
    similarity_PP, _ = best_poses(found_PGC, planted_PGC[[2, 1, 0]], GROUP)
    torch.testing.assert_close(similarity_PP.diagonal(), torch.ones(3))
    torch.testing.assert_close(found_PGC.flatten(1).norm(dim=1), torch.ones(3))


def test_noise_of_members_averages_out() -> None:
    generator = torch.Generator().manual_seed(1)
    planted_PGC = torch.randn(1, GROUP.order, 40, generator=generator)
    features_FGC = turned_copies(planted_PGC, [list(range(8))])
    noisy_FGC = features_FGC + 0.5 * torch.randn(features_FGC.shape, generator=generator)
    found_PGC, size_P = family_prototypes(noisy_FGC, GROUP, **OPTIONS)
    assert size_P.tolist() == [8]
    single, _ = best_poses(noisy_FGC, planted_PGC, GROUP)
    whole, _ = best_poses(found_PGC, planted_PGC, GROUP)
    assert float(whole) > float(single.max()) + 0.05


def test_zero_features_are_left_out_and_too_many_are_refused() -> None:
    planted_PGC = torch.randn(2, GROUP.order, 40, generator=torch.Generator().manual_seed(0))
    features_FGC = torch.cat([torch.zeros(2, GROUP.order, 40), planted_PGC])
    assert family_prototypes(features_FGC, GROUP, **OPTIONS)[1].tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"8,193 features found, expected at most 8,192"):
        family_prototypes(torch.zeros(MOST_FEATURES + 1, GROUP.order, 1), GROUP, **OPTIONS)
