"""A linear action is found where there is one and not where there is none; one matrix tells all powers only if it is
one.

Letters: N samples, G group elements, C channels.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.evaluate import linear_action as linear
from gc_core.groups import Group

EVERY_GROUP = pytest.mark.parametrize("name", ["C4", "D3", "D4", "D1", "trivial"])


def represented(group: Group, count: int, seed: int = 0, noise: float = 0.0) -> Tensor:
    """(N, G, C) samples whose blocks are moved by two copies of the regular representation, in a basis at random."""
    rng = np.random.default_rng(seed)
    first_NC = rng.standard_normal((count, 2, group.order)) + 0.5
    moved = [first_NC[:, :, np.argsort(group.cayley[g])].reshape(count, -1) for g in range(group.order)]
    basis = np.linalg.qr(np.random.default_rng(99).standard_normal((2 * group.order, 2 * group.order)))[0]
    acts_NGC = np.stack(moved, 1) @ basis
    return torch.from_numpy(acts_NGC + noise * rng.standard_normal(acts_NGC.shape)).float()


def r2(predictor: linear.Predictor, train_NGC: Tensor, test_NGC: Tensor) -> np.ndarray:
    error_NG, deviation_NG = linear.squared_errors(predictor, test_NGC, train_NGC.mean(0))
    return 1 - (error_NG.sum(0) / deviation_NG.sum(0)).numpy()


@EVERY_GROUP
def test_a_representation_is_linear_and_made_of_its_generators(name: str) -> None:
    group = groups.parse(name)
    train_NGC, test_NGC = represented(group, 400), represented(group, 100, seed=1)
    for predictor in (linear.fit_elements(train_NGC, group), linear.fit_generators(train_NGC, group)):
        np.testing.assert_allclose(r2(predictor, train_NGC, test_NGC), 1, atol=1e-3)
        assert predictor.matrix_GCC.shape == (group.order, 2 * group.order, 2 * group.order)
    told_G = r2(linear.identity_action(train_NGC), train_NGC, test_NGC)
    assert told_G[0] == 1
    assert (told_G[1:] < 0.5).all()


@EVERY_GROUP
def test_products_of_generators_are_the_elements(name: str) -> None:
    """Rows are multiplied from the left, so the matrix of g h is that of h times that of g."""
    group = groups.parse(name)
    predictor = linear.fit_generators(represented(group, 400), group)
    for g in range(group.order):
        for h in range(group.order):
            product = predictor.matrix_GCC[h] @ predictor.matrix_GCC[g]
            torch.testing.assert_close(predictor.matrix_GCC[group.cayley[g, h]], product, atol=0.02, rtol=0)


def test_pairs_that_are_dealt_out_tell_nothing() -> None:
    """The control: a(x) of another sample."""
    group = groups.dihedral(4)
    train_NGC, test_NGC = represented(group, 600), represented(group, 200, seed=1)
    dealt_NGC = train_NGC.clone()
    dealt_NGC[:, 1:] = dealt_NGC[torch.randperm(600, generator=torch.Generator().manual_seed(0)), 1:]
    told_G = r2(linear.fit_elements(dealt_NGC, group), train_NGC, test_NGC)
    assert (told_G[1:] < 0.02).all()


def test_each_element_may_be_linear_while_no_single_matrix_tells_all() -> None:
    """Blocks that are told by matrices with no law between them."""
    group, rng = groups.cyclic(4), np.random.default_rng(0)
    matrix_GCC = np.stack([np.linalg.qr(rng.standard_normal((8, 8)))[0] for _ in range(4)])
    matrix_GCC[0] = np.eye(8)
    first_NC = rng.standard_normal((600, 8))
    acts_NGC = torch.from_numpy(np.einsum("nc,gcd->ngd", first_NC, matrix_GCC)).float()
    train_NGC, test_NGC = acts_NGC[:500], acts_NGC[500:]
    np.testing.assert_allclose(r2(linear.fit_elements(train_NGC, group), train_NGC, test_NGC), 1, atol=1e-3)
    one = linear.fit_generators(train_NGC, group)
    assert (r2(one, train_NGC, test_NGC)[1:] < 0.8).all()


def test_what_is_not_linear_is_not_told() -> None:
    group = groups.cyclic(2)
    first_NC = torch.randn(800, 6, generator=torch.Generator().manual_seed(0))
    acts_NGC = torch.stack([first_NC, first_NC.abs()], 1)
    told_G = r2(linear.fit_elements(acts_NGC[:600], group), acts_NGC[:600], acts_NGC[600:])
    assert told_G[0] > 0.99
    assert told_G[1] < 0.1


def test_refining_lowers_the_error_of_all_elements_together() -> None:
    """From a noisy start that one step of rotation gives."""
    group = groups.cyclic(8)
    train_NGC, test_NGC = represented(group, 150, noise=0.7), represented(group, 200, seed=1, noise=0.7)
    before, after = (linear.fit_generators(train_NGC, group, refined=refined) for refined in (False, True))
    told = [float(r2(each, train_NGC, test_NGC)[2:].mean()) for each in (before, after)]
    assert told[1] > told[0]


@pytest.mark.parametrize("strength", [1e-5, 0.1])
def test_ridge_is_the_closed_form(strength: float) -> None:
    generator = torch.Generator().manual_seed(0)
    source_NC, target_ND = (torch.randn(50, n, generator=generator, dtype=torch.float64) for n in (6, 4))
    ridge = linear.Ridge.of(source_NC.T @ source_NC, source_NC.T @ target_ND)
    gram_CC = source_NC.T @ source_NC
    penalty_CC = strength * gram_CC.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    plain_CD = torch.linalg.solve(gram_CC + penalty_CC, source_NC.T @ target_ND)
    torch.testing.assert_close(ridge.matrix(strength).double(), plain_CD, atol=1e-5, rtol=1e-4)


def test_more_blocks_as_sources_help_where_samples_are_few() -> None:
    group = groups.dihedral(4)
    train_NGC, test_NGC = represented(group, 40, noise=0.5), represented(group, 300, seed=1, noise=0.5)
    few, many = (linear.fit_elements(train_NGC, group, sources=each) for each in ((0,), tuple(range(8))))
    assert r2(many, train_NGC, test_NGC)[1:].mean() > r2(few, train_NGC, test_NGC)[1:].mean() + 0.05
