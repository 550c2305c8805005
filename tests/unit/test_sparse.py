"""Sparse decoding and encoding equal the plain dense formulas, numbers and gradients, and touch the named rows only.

Letters: B samples, K active features, F features, D values of a row, G group elements, C channels, N rows.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gc_core.sparse import (
    average_over_workers,
    choose,
    drop_row_gradient,
    kernels,
    largest,
    row_gradient,
    select_rows,
    sparse_decode,
    sparse_encode,
    topk,
)
from support.worker_group import member

F_, D = 11, 7
SHAPES = [(4, 3), (5, 1), (1, 8), (0, 3), (3, 0)]
TYPES = [torch.float16, torch.bfloat16]


def code(num_samples: int, num_active: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Values, every fourth zero, and indices, some of them twice in a sample."""
    generator = torch.Generator().manual_seed(num_samples + 10 * num_active)
    index_BK = torch.randint(F_ - 2, (num_samples, num_active), generator=generator)  # two features are never active
    value_BK = torch.randn(num_samples, num_active, dtype=torch.float64, generator=generator)
    value_BK.view(-1)[::4] = 0
    return value_BK.to(dtype), index_BK


def dictionary(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> nn.Parameter:
    made = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return nn.Parameter(made.to(dtype))


def dense_decode(value_BK: Tensor, index_BK: Tensor, W_FD: Tensor) -> Tensor:
    """The definition, through a dense code."""
    z_BF = value_BK.new_zeros(len(value_BK), len(W_FD)).scatter_add(1, index_BK, value_BK)
    return torch.tensordot(z_BF, W_FD, 1)


def dense_encode(read_BD: Tensor, W_FD: Tensor, b_F: Tensor, index_BK: Tensor) -> Tensor:
    return (read_BD.flatten(1) @ W_FD.flatten(1).T + b_F).gather(1, index_BK)


def gradient_of(parameter: Tensor, dense_grad: bool) -> Tensor:
    if dense_grad:
        assert parameter.grad is not None
        return parameter.grad
    assert parameter.grad is None
    found = row_gradient(parameter)
    assert found is not None
    return found.dense()


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# Decoding.


@pytest.mark.parametrize("dense_grad", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("row_shape", [(D,), (3, 4)])
def test_decoding_is_the_dense_product_with_its_gradients(
    shape: tuple[int, int], row_shape: tuple[int, ...], dense_grad: bool
) -> None:
    results = []
    for decode in (dense_decode, lambda *given: sparse_decode(*given, dense_grad=dense_grad)):
        (value_BK, index_BK), W = code(*shape), dictionary(F_, *row_shape)
        value_BK.requires_grad_()
        out = decode(value_BK, index_BK, W)
        (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
        results.append((out.detach(), value_BK.grad, gradient_of(W, dense_grad or decode is dense_decode)))
    for expected, found in zip(*results, strict=True):
        close(found, expected)


def test_gradients_are_the_derivatives() -> None:
    (value_BK, index_BK), W = code(4, 3), dictionary(F_, D)
    value_BK.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w: sparse_decode(v, index_BK, w, dense_grad=True), (value_BK, W))
    read_BD, b_F = dictionary(4, D, seed=2), dictionary(F_, seed=3)
    assert torch.autograd.gradcheck(
        lambda read, w, b: sparse_encode(read, w, b, index_BK, dense_grad=True), (read_BD, W, b_F)
    )
    assert torch.autograd.gradcheck(lambda w: select_rows(w, index_BK.view(-1), dense_grad=True), (W,))


def test_tensors_need_not_be_contiguous() -> None:
    (value_BK, index_BK), W = code(4, 6), dictionary(D, F_).detach().T
    expected = dense_decode(value_BK[:, ::2], index_BK[:, 1::2], W)
    close(sparse_decode(value_BK[:, ::2], index_BK[:, 1::2], W, dense_grad=True), expected)
    read_BD, b_F = dictionary(D, 4).detach().T, dictionary(2 * F_).detach()[::2]
    expected = dense_encode(read_BD, W, b_F, index_BK[:, 1::2])
    close(sparse_encode(read_BD, W, b_F, index_BK[:, 1::2], dense_grad=True), expected)


def test_an_upstream_gradient_need_not_be_contiguous() -> None:
    (value_BK, index_BK), W = code(4, 3), dictionary(F_, D)
    sparse_decode(value_BK, index_BK, W, dense_grad=True).sum().backward()  # an expanded one
    found, W.grad = W.grad, None
    dense_decode(value_BK, index_BK, W).sum().backward()
    close(found, W.grad)


# Encoding.


@pytest.mark.parametrize("dense_grad", [True, False])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("row_shape", [(D,), (2, 3)])
def test_encoding_is_the_dense_product_with_its_gradients(
    shape: tuple[int, int], row_shape: tuple[int, ...], known: bool, dense_grad: bool
) -> None:
    results = []
    for sparse in (False, True):
        index_BK = code(*shape)[1]
        read, W, b_F = dictionary(len(index_BK), *row_shape, seed=2), dictionary(F_, *row_shape), dictionary(F_, seed=3)
        out = expected_BK = dense_encode(read, W, b_F, index_BK)
        if sparse:
            known_BK = expected_BK if known else None
            out = sparse_encode(read, W, b_F, index_BK, dense_grad=dense_grad, known_BK=known_BK)
        (out.relu() * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
        of_weights = [gradient_of(parameter, dense_grad or not sparse) for parameter in (W, b_F)]
        results.append((out.detach(), read.grad, *of_weights))
    for expected, found in zip(*results, strict=True):
        close(found, expected)


# Row gradients.


def test_only_rows_of_active_features_are_touched() -> None:
    W, index_BK = dictionary(F_, D), torch.tensor([[9, 2, 2], [5, 2, 0]])
    value_BK = torch.tensor([[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]], dtype=torch.float64)
    sparse_decode(value_BK, index_BK, W, dense_grad=False).sum().backward()
    found = row_gradient(W)
    assert found is not None
    assert found.touched_U.tolist() == [2, 5, 9], "ascending, once each, and not 0, whose only value is zero"
    close(found.rows(0, 3), torch.tensor([[6.0], [3.0], [1.0]]).double().expand(3, D))
    close(found.rows(1, 2), found.rows(0, 3)[1:2])
    close(found.norm(), found.dense().norm())
    close(found.scaled(0.5).dense(), found.dense() / 2)
    drop_row_gradient(W)
    assert row_gradient(W) is None


def test_passes_add_up_as_dense_gradients_do() -> None:
    """Of two decodings and of a product with some rows in full."""
    gradients = []
    for dense_grad in (True, False):
        W, total = dictionary(F_, D), torch.zeros((), dtype=torch.float64)
        for shape in SHAPES[:2]:
            total = total + sparse_decode(*code(*shape), W, dense_grad=dense_grad).square().sum()
        total = total + select_rows(W, torch.tensor([10, 3, 3]), dense_grad=dense_grad).pow(3).sum()
        total.backward()
        gradients.append(gradient_of(W, dense_grad))
    close(gradients[1], gradients[0])


def test_no_dense_gradient_is_made() -> None:
    """A dictionary with room for the code's rows but not for itself: its memory is one row, repeated."""
    one_row = torch.ones(1, 64).expand(2**34, 64)  # 4 TiB
    W = nn.Parameter(one_row)
    index_BK = torch.tensor([[2**33, 5]])
    total = torch.nn.functional.embedding(index_BK, W.detach()).sum()
    selected = select_rows(W, index_BK[0], dense_grad=False)
    selected.sum().backward()
    found = row_gradient(W)
    assert found is not None
    assert (float(total), found.touched_U.tolist()) == (128, [5, 2**33])
    assert found.rows(0, 2).sum() == 128


def test_a_dictionary_that_cannot_keep_its_gradient_is_refused() -> None:
    value_BK, index_BK = code(2, 2)
    with pytest.raises(ValueError, match="expected the parameter itself"):
        sparse_decode(value_BK, index_BK, dictionary(F_, 2, 3).flatten(1), dense_grad=False)
    with pytest.raises(ValueError, match="dense_grad=True"):
        select_rows(dictionary(F_, D) * 2, index_BK[0], dense_grad=False)


# Precision and repetition.


@pytest.mark.parametrize("dtype", TYPES)
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    """One and then 4,095 numbers that are lost one by one: half precision would stop at the one, or soon after."""
    many = 4096
    W = nn.Parameter(torch.ones(2, 3, dtype=dtype))
    value_BK = torch.full((1, many), 2.0**-12, dtype=dtype)
    value_BK[0, 0] = 1
    index_BK = torch.zeros(1, many, dtype=torch.int64)
    out = sparse_decode(value_BK, index_BK, W, dense_grad=True)
    assert out.dtype == dtype
    expected = torch.tensor(1 + 4095 * 2.0**-12).to(dtype)
    assert out.tolist() == [[expected.item()] * 3]
    out.sum().backward()
    assert W.grad is not None
    assert W.grad.dtype == dtype
    assert W.grad[0].tolist() == [expected.item()] * 3
    wide_W = nn.Parameter(value_BK.detach().clone())
    dots_BK = sparse_encode(torch.ones(1, many, dtype=dtype), wide_W, W.new_zeros(1), index_BK[:, :1], dense_grad=True)
    assert dots_BK.item() == expected.item()


@pytest.mark.parametrize("dtype", TYPES)
def test_half_precision_gives_the_numbers_of_float32(dtype: torch.dtype) -> None:
    (value_BK, index_BK), W = code(64, 8, dtype), dictionary(F_, D, dtype=dtype)
    found = sparse_decode(value_BK, index_BK, W, dense_grad=True)
    expected = dense_decode(value_BK.float(), index_BK, W.float())
    torch.testing.assert_close(found.float(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_repetition_gives_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    W = nn.Parameter(torch.randn(300, 33, generator=generator))
    index_BK = torch.randint(300, (64, 16), generator=generator)
    value_BK = torch.randn(64, 16, generator=generator, requires_grad=True)
    gradients = []
    for _ in range(3):
        value_BK.grad = W.grad = None
        sparse_decode(value_BK, index_BK, W, dense_grad=True).square().sum().backward()
        assert value_BK.grad is not None
        gradients.append((W.grad, value_BK.grad))
    assert all(found.equal(first) for pair in gradients[1:] for found, first in zip(pair, gradients[0], strict=True))


def test_the_ways_to_compute_dot_products_agree() -> None:
    left_BD, W, (_, index_BK) = dictionary(4, D).detach(), dictionary(F_, D).detach(), code(4, 5)
    expected = (left_BD @ W.T).gather(1, index_BK)
    for way in (kernels.sampled_dots, kernels.gathered_dots, kernels.widened_dots):
        close(way(left_BD, W, index_BK), expected)


# The choice of features.


@settings(deadline=None, max_examples=60)
@given(num_features=st.integers(1, 3000), k=st.integers(1, 40), ties=st.booleans(), seed=st.integers(0, 99))
def test_the_largest_are_those_of_topk(num_features: int, k: int, ties: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    score_BF = torch.randn(5, num_features, generator=generator)
    score_BF = (score_BF * 2).round() if ties else score_BF
    k = min(k, num_features)
    index_BK = largest(score_BF, k)
    found = score_BF.gather(1, index_BK).sort(1, descending=True).values
    assert found.equal(score_BF.topk(k, dim=1).values)
    assert all(len(set(row)) == k for row in index_BK.tolist())


def test_the_largest_are_found_wherever_they_lie() -> None:
    """All in one group, all in one stretch, all in the remainder."""
    for winners in (range(0, 4 * 512, 512), range(96, 100), range(2044, 2048), range(4)):
        score_BF = torch.zeros(1, 2048)
        score_BF[0, list(winners)] = 1
        assert sorted(largest(score_BF, 4)[0].tolist()) == list(winners)


def test_features_are_chosen_block_by_block_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(topk.NUMBERS_AT_ONCE, "cpu", 3 * 500)
    read, W, b_F = dictionary(8, 2, 3, seed=2), dictionary(500, 2, 3), dictionary(500, seed=3)
    scale_F = torch.linspace(0.5, 2, 500, dtype=torch.float64)
    index_BK = choose(read, W, b_F, scale_F, 4)
    pre_BF = read.flatten(1) @ W.flatten(1).T + b_F
    assert index_BK.sort(1).values.equal((pre_BF * scale_F).topk(4, dim=1).indices.sort(1).values)


# Workers.


def share(rank: int) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """Parameters with one worker's row gradients: of both, of the second only, of none."""
    both, second, none = dictionary(F_, D), dictionary(F_, D), dictionary(F_, D)
    sparse_decode(*code(3 + rank, 2), both, dense_grad=False).square().sum().backward()
    if rank == 1:
        sparse_decode(*code(4, 2), second, dense_grad=False).square().sum().backward()
    return both, second, none


def average_in_process(rank: int, folder: Path) -> None:
    with member(rank, 2, folder / "meeting"):
        parameters, calls = share(rank), []
        gather = dist.all_gather
        dist.all_gather = lambda *args, **options: calls.append(args) or gather(*args, **options)
        average_over_workers(parameters)
        average_over_workers([dictionary(F_, D)])
        average_over_workers([])
        found = [row_gradient(parameter) for parameter in parameters]
        dense = [None if gradient is None else gradient.dense() for gradient in found]
        torch.save([*dense, len(calls)], folder / f"rank {rank}.pt")


@pytest.mark.slow
def test_workers_hold_the_same_mean_of_their_row_gradients(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(average_in_process, args=(tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank {rank}.pt") for rank in range(2))
    shares = [share(rank) for rank in range(2)]
    assert first[2] is None
    assert second[2] is None
    close(first[0], (gradient_of(shares[0][0], False) + gradient_of(shares[1][0], False)) / 2)
    close(first[1], gradient_of(shares[1][1], False) / 2)
    assert first[0].equal(second[0])
    assert first[1].equal(second[1])
    assert first[3] == second[3] == 3, "sizes and factors of all three together; sizes alone where there are none"


def test_a_part_of_a_gradient_is_that_of_some_features() -> None:
    whole = row_gradient(share(0)[0])
    assert whole is not None
    count = whole.shape[0]
    for first, last in ((0, count), (1, count - 2), (count // 2, count), (2, 2)):
        close(whole.part(first, last).dense(), whole.dense()[first:last])


# Triton's kernels, interpreted.


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed on this platform")
def test_the_cuda_kernels_compute_what_the_others_do() -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    script = Path(__file__).parents[1] / "support/interpreted_kernels.py"
    found = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=environment, cwd=Path.cwd()
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.split() == ["segment_sums"] * 14 + ["row_dots"] * 14
