"""The Triton kernels on a CUDA device give the numbers and gradients of the CPU, and the same bits again.

Letters: B samples, K active features, F features, D values of a row.
"""

import pytest
import torch
from torch import Tensor, nn

from gc_core.sparse import choose, kernels, row_gradient, sparse_decode, sparse_encode
from gc_core.train.row_adam import RowAdam

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]

F_, D, B, K = 700, 1030, 48, 8


def gradients(device: str, dtype: torch.dtype, dense_grad: bool) -> list[Tensor]:
    """Reconstruction, and the gradients of the input and of all weights."""
    generator = torch.Generator().manual_seed(0)
    index_BK = torch.randint(F_, (B, K), generator=generator).to(device)
    read, W_enc, W_dec = (
        nn.Parameter((torch.randn(shape, generator=generator) / D**0.5).to(device, dtype))
        for shape in ((B, D), (F_, D), (F_, D))
    )
    b_enc = nn.Parameter(torch.randn(F_, generator=generator).to(device, dtype))
    value_BK = sparse_encode(read, W_enc, b_enc, index_BK, dense_grad=dense_grad).relu()
    out = sparse_decode(value_BK, index_BK, W_dec, dense_grad=dense_grad)
    out.float().sin().sum().backward()
    found = [out.detach(), read.grad]
    for parameter in (W_enc, b_enc, W_dec):
        rows = row_gradient(parameter)
        found.append(parameter.grad if rows is None else rows.dense())
    assert all(tensor is not None for tensor in found)
    return [tensor.float().cpu() for tensor in found if tensor is not None]


@pytest.mark.parametrize("dense_grad", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_are_those_of_the_cpu(dtype: torch.dtype, dense_grad: bool) -> None:
    assert kernels.has_triton(torch.zeros(1, device="cuda")), "Triton comes with PyTorch for CUDA"
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    for found, expected in zip(gradients("cuda", dtype, dense_grad), gradients("cpu", dtype, dense_grad), strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_repetition_gives_the_same_bits() -> None:
    first, again = (gradients("cuda", torch.float32, False) for _ in range(2))
    assert all(one.equal(other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("lazy", [False, True])
def test_the_optimiser_moves_weights_as_on_the_cpu(lazy: bool) -> None:
    moved = []
    for device in ("cpu", "cuda"):
        W = nn.Parameter(torch.randn(F_, D, generator=torch.Generator().manual_seed(1)).to(device))
        optimiser = RowAdam([W], lr=0.01, lazy=lazy)
        for step in range(3):
            optimiser.zero_grad()
            index_BK = (torch.arange(B * K, device=device) * 7 + step).view(B, K) % F_
            sparse_decode(torch.ones(B, K, device=device), index_BK, W, dense_grad=False).square().sum().backward()
            optimiser.step()
        moved.append(W.detach().cpu())
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-4, atol=1e-4)


def test_the_same_features_are_chosen() -> None:
    generator = torch.Generator().manual_seed(2)
    read, W = torch.randn(B, 64, generator=generator).double(), torch.randn(F_, 64, generator=generator).double()
    found, expected = (
        choose(read.to(device), W.to(device), *torch.ones(2, F_, device=device).double(), K).cpu().sort(1).values
        for device in ("cuda", "cpu")
    )
    assert found.equal(expected)
