"""Correlations over a group equal their definition, for every group.

Letters: N samples, M others, G group elements, C channels.
"""

import pytest
import torch
from torch import Tensor

from gc_core.crosscoder.correlations import correlations, real_representations, transform
from gc_core.groups import FiniteGroup
from support.table_groups import NAMES as TABLES
from support.table_groups import any_group

NAMES = ["trivial", "C2", "C3", "C4", "C7", "C8", "D1", "D2", "D3", "D4", "D5", "D8", "D32", *TABLES]


def blocks(count: int, group: FiniteGroup, seed: int) -> Tensor:
    return torch.randn(count, group.order, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_a_correlation_is_the_inner_product_with_the_turned_copy(name: str) -> None:
    group = any_group(name)
    left_NGC, right_MGC = blocks(4, group, 0), blocks(5, group, 1)
    found_NMH = correlations(transform(left_NGC, group), transform(right_MGC, group), group)
    expected = torch.stack(
        [torch.einsum("ngc,mgc->nm", left_NGC, right_MGC[:, group.cayley[:, h]]) for h in range(group.order)], dim=2
    )
    torch.testing.assert_close(found_NMH, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_pass_through_a_correlation(name: str) -> None:
    group = any_group(name)
    left, right = blocks(2, group, 0).requires_grad_(), blocks(3, group, 1).requires_grad_()
    weight = torch.randn(2, 3, group.order, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (correlations(transform(left, group), transform(right, group), group) * weight).sum().backward()
    found = left.grad, right.grad
    left.grad = right.grad = None
    plain = sum(
        (torch.einsum("ngc,mgc->nm", left, right[:, group.cayley[:, h]]) * weight[:, :, h]).sum()
        for h in range(group.order)
    )
    torch.as_tensor(plain).backward()
    torch.testing.assert_close(found, (left.grad, right.grad), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_transform_keeps_inner_products(name: str) -> None:
    group = any_group(name)
    parts = transform(blocks(4, group, 0), group)
    energy = sum(part.square().sum((0, 2, 3)) for part in parts)
    if all(irrep.is_real for irrep in group.irreps()):  # otherwise some planes hold every number twice
        torch.testing.assert_close(energy, blocks(4, group, 0).square().sum((1, 2)))
    for representation in real_representations(group):
        products = representation.matrices[:, None] @ representation.matrices[None]
        assert abs(products - representation.matrices[group.cayley]).max() < 1e-12
