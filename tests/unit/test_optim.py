"""The row-wise optimiser is Adam where it promises to be, and differs where and as it says.

Letters: F features, D values of a row, B samples, K active features.
"""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gc_core.sparse import row_gradient, select_rows, sparse_decode, sparse_encode
from gc_core.sparse.factors import ROWS_AT_ONCE_BYTES
from gc_core.train.row_adam import RowAdam, clip_gradients, rounded

F_, D, STEPS = 9, 4, 12
LR, BETAS, EPS = 0.05, (0.9, 0.99), 1e-8


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that rows are visited in more than one block."""
    monkeypatch.setitem(ROWS_AT_ONCE_BYTES, "cpu", 4 * D * 8)


def weights(dtype: torch.dtype = torch.float64, *shape: int) -> nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    return nn.Parameter(torch.randn(*(shape or (F_, 2, D // 2)), dtype=torch.float64, generator=generator).to(dtype))


def touch(W: Tensor, rows: list[int], step: int, *, dense_grad: bool) -> None:
    """A gradient that differs from step to step, on these rows."""
    selected = select_rows(W, torch.tensor(rows), dense_grad=dense_grad)
    (selected.sin() * torch.arange(selected.numel()).view_as(selected).add(step).cos()).sum().backward()


def follow(optimiser: torch.optim.Optimizer, W: Tensor, touched: list[list[int]], *, dense_grad: bool) -> Tensor:
    """The weights after each step."""
    path = []
    for step, rows in enumerate(touched):
        optimiser.zero_grad()
        touch(W, rows, step, dense_grad=dense_grad)
        optimiser.step()
        path.append(W.detach().clone())
    return torch.stack(path)


def torch_adam(touched: list[list[int]]) -> Tensor:
    W = weights()
    return follow(torch.optim.Adam([W], lr=LR, betas=BETAS, eps=EPS), W, touched, dense_grad=True)


def ours(touched: list[list[int]], **options: Any) -> Tensor:
    W = weights()
    return follow(RowAdam([W], lr=LR, betas=BETAS, eps=EPS, **options), W, touched, dense_grad=False)


EVERY_ROW = [list(range(F_))] * STEPS
SOME_ROWS = [[step % F_, (step * step) % F_, 5] for step in range(STEPS)]


@pytest.mark.parametrize("options", [{}, {"lazy": True}, {"lazy": True, "missed": "decay"}], ids=str)
def test_with_every_row_touched_it_is_adam(options: dict[str, Any]) -> None:
    torch.testing.assert_close(ours(EVERY_ROW, **options), torch_adam(EVERY_ROW), rtol=1e-12, atol=1e-12)


def test_not_lazy_it_is_adam_whatever_is_touched() -> None:
    torch.testing.assert_close(ours(SOME_ROWS), torch_adam(SOME_ROWS), rtol=1e-12, atol=1e-12)


def test_lazy_is_not_adam_where_rows_are_missed() -> None:
    """The control for the two tests above."""
    for missed in ("keep", "decay"):
        assert (ours(SOME_ROWS, lazy=True, missed=missed) - torch_adam(SOME_ROWS)).abs().max() > LR / 10


def test_lazy_rows_stand_still_while_untouched() -> None:
    path = ours(SOME_ROWS, lazy=True)
    for step in range(1, STEPS):
        moved = (path[step] != path[step - 1]).flatten(1).any(1).nonzero()[:, 0].tolist()
        assert moved == sorted(set(SOME_ROWS[step]))


def plain_lazy(touched: list[list[int]], missed: str) -> Tensor:
    """From the equations, row by row and in plain numbers."""
    W, (beta1, beta2) = weights(), BETAS
    mean, square = torch.zeros_like(W.data), torch.zeros_like(W.data)
    counts, last = [0] * F_, [0] * F_
    path = []
    for step, rows in enumerate(touched, start=1):
        W.grad = None
        touch(W, rows, step - 1, dense_grad=True)
        assert W.grad is not None
        for row in sorted(set(rows)):
            if missed == "decay":
                mean[row] *= beta1 ** (step - 1 - last[row])
                square[row] *= beta2 ** (step - 1 - last[row])
            counts[row], last[row] = counts[row] + 1, step
            mean[row] = beta1 * mean[row] + (1 - beta1) * W.grad[row]
            square[row] = beta2 * square[row] + (1 - beta2) * W.grad[row] ** 2
            time = step if missed == "decay" else counts[row]
            direction = mean[row] / (1 - beta1**time) / ((square[row] / (1 - beta2**time)).sqrt() + EPS)
            W.data[row] -= LR * direction
        path.append(W.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("missed", ["keep", "decay"])
def test_lazy_follows_its_equations(missed: str) -> None:
    found, expected = ours(SOME_ROWS, lazy=True, missed=missed), plain_lazy(SOME_ROWS, missed)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_decayed_moments_are_those_of_adam() -> None:
    """Gradients that do not depend on the weights, so that both see the same ones."""
    optimisers = []
    for make, dense_grad in ((torch.optim.Adam, True), (RowAdam, False)):
        W = weights()
        extra = {} if dense_grad else {"lazy": True, "missed": "decay"}
        optimiser = make([W], lr=LR, betas=BETAS, **extra)
        for step, rows in enumerate([*SOME_ROWS, list(range(F_))]):
            optimiser.zero_grad()
            (select_rows(W, torch.tensor(rows), dense_grad=dense_grad) * (step + 1)).sum().backward()
            optimiser.step()
        optimisers.append(optimiser.state[W])
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(optimisers[1][name], optimisers[0][name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lazy", [False, True])
def test_parameters_with_ordinary_gradients_move_as_with_adam(lazy: bool) -> None:
    paths = []
    for make in (torch.optim.Adam, lambda given, **options: RowAdam(given, lazy=lazy, **options)):
        W, bias, scalar = weights(), weights(torch.float64, F_), nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        optimiser = make([W, bias, scalar], lr=LR)
        for _ in range(5):
            optimiser.zero_grad()
            (W.sin().sum() * bias.cos().sum() * scalar.square()).backward()
            optimiser.step()
        paths.append((W.detach(), bias.detach(), scalar.detach()))
    for found, expected in zip(paths[1], paths[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_both_kinds_of_gradient_add_up() -> None:
    found = []
    for dense_grad in (True, False):
        W = weights()
        touch(W, [2, 7], 0, dense_grad=True)
        touch(W, [7, 8], 1, dense_grad=dense_grad)
        RowAdam([W], lr=LR).step()
        found.append(W.detach())
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_biases_have_row_gradients_too() -> None:
    found = []
    for dense_grad in (True, False):
        W, bias, read_BD = weights(), weights(torch.float64, F_), torch.ones(3, D, dtype=torch.float64)
        index_BK = torch.tensor([[0, 3], [3, 4], [8, 0]])
        optimiser = RowAdam([W, bias], lr=LR)
        sparse_encode(read_BD, W, bias, index_BK, dense_grad=dense_grad).sin().sum().backward()
        optimiser.step()
        found.append((W.detach(), bias.detach()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_zero_grad_forgets_row_gradients() -> None:
    W = weights()
    optimiser = RowAdam([W], lr=LR)
    touch(W, [1], 0, dense_grad=False)
    optimiser.zero_grad()
    before = W.detach().clone()
    optimiser.step()
    assert row_gradient(W) is None
    assert W.equal(before)


# Half-precision state.


def descend(**options: Any) -> float:
    """Squared error of the rows of a small dictionary, learned from random codes."""
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(F_, D, generator=generator)
    W = nn.Parameter(torch.zeros(F_, D))
    optimiser = RowAdam([W], lr=0.02, **options)
    for _ in range(300):
        optimiser.zero_grad()
        index_BK = torch.randint(F_, (8, 2), generator=generator)
        value_BK = torch.rand(8, 2, generator=generator)
        error_BD = sparse_decode(value_BK, index_BK, W, dense_grad=False) - (
            sparse_decode(value_BK, index_BK, target, dense_grad=True)
        )
        error_BD.square().sum().backward()
        optimiser.step()
    return float((W.detach() - target).square().mean() / target.square().mean())


@pytest.mark.parametrize("lazy", [False, True])
def test_bfloat16_moments_still_descend(lazy: bool) -> None:
    half, full = descend(lazy=lazy, state_dtype=torch.bfloat16), descend(lazy=lazy)
    assert full < 1e-3
    assert half < 2e-3


def test_bfloat16_moments_take_half_the_memory() -> None:
    W, bias = weights(torch.float32), weights(torch.float32, F_)
    optimiser = RowAdam([W, bias], lr=LR, state_dtype=torch.bfloat16)
    (W.sum() + bias.sum()).backward()
    optimiser.step()
    assert {optimiser.state[W][name].dtype for name in ("exp_avg", "exp_avg_sq")} == {torch.bfloat16}
    assert optimiser.state[bias]["exp_avg"].dtype == torch.float32


def test_rounding_is_right_on_average_where_rounding_to_nearest_is_stuck() -> None:
    """A thousandth of the way to the next number of the format."""
    value = 1 + 2.0**-7 / 1000
    values_RD, rows_R = torch.full((1000, 1000), value), torch.arange(1000)
    assert values_RD.to(torch.bfloat16).float().mean() == 1
    means = [float(rounded(values_RD, torch.bfloat16, rows_R, draw).double().mean()) - 1 for draw in range(4)]
    # A million draws of probability 1/1000 (65 of 65,536 steps): a standard deviation of 3%.
    assert means == pytest.approx([2.0**-7 * 65 / 65536] * 4, rel=0.15)
    assert len(set(means)) == 4
    negative = rounded(-values_RD, torch.bfloat16, rows_R, 0)
    assert negative.equal(-rounded(values_RD, torch.bfloat16, rows_R, 0))


def test_numbers_of_the_format_are_kept() -> None:
    exact = torch.randn(50, 40).to(torch.bfloat16)
    exact[0, :3] = torch.tensor([0.0, 1e30, -1e-30])
    assert rounded(exact.float(), torch.bfloat16, torch.arange(50), 7).equal(exact)


def test_an_unknown_type_of_state_is_refused() -> None:
    with pytest.raises(ValueError, match="expected float32, float64 or bfloat16"):
        RowAdam([weights()], lr=LR, state_dtype=torch.float16)


# State.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(lazy: bool, dtype: torch.dtype, tmp_path: Any) -> None:
    def make(W: nn.Parameter) -> RowAdam:
        return RowAdam([W], lr=LR, lazy=lazy, state_dtype=dtype)

    W = weights(torch.float32)
    undisturbed = follow(make(W), W, SOME_ROWS, dense_grad=False)
    W = weights(torch.float32)
    first = make(W)
    follow(first, W, SOME_ROWS[:5], dense_grad=False)
    torch.save({"optimiser": first.state_dict(), "W": W.detach()}, tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt")
    W = nn.Parameter(saved["W"])
    second = make(W)
    second.load_state_dict(deepcopy(saved["optimiser"]))
    assert {name: tensor.dtype for name, tensor in second.state[W].items()} == {
        name: tensor.dtype for name, tensor in saved["optimiser"]["state"][0].items()
    }
    for step in range(5, STEPS):
        second.zero_grad()
        touch(W, SOME_ROWS[step], step, dense_grad=False)
        second.step()
        assert W.equal(undisturbed[step])


# Clipping.


def gradients(dense_grad: bool) -> tuple[nn.Parameter, nn.Parameter]:
    W, bias = weights(), weights(torch.float64, F_)
    touch(W, [1, 4, 6], 0, dense_grad=dense_grad)
    bias.square().sum().backward()
    return W, bias


def dense_of(parameter: nn.Parameter) -> Tensor:
    rows = row_gradient(parameter)
    if rows is not None:
        return rows.dense()
    assert parameter.grad is not None
    return parameter.grad


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_rows_and_ordinary_gradients_are_clipped_together(limit: float) -> None:
    expected = gradients(True)
    norm = nn.utils.clip_grad_norm_(expected, limit)
    found = gradients(False)
    torch.testing.assert_close(clip_gradients(found, limit), norm)
    for ours_, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(dense_of(ours_), dense_of(theirs), rtol=1e-5, atol=1e-9)


def test_a_norm_that_is_not_finite_changes_nothing() -> None:
    W, bias = gradients(False)
    assert bias.grad is not None
    bias.grad[0] = torch.inf
    before = dense_of(W).clone()
    assert clip_gradients([W, bias], 1.0).isinf()
    assert dense_of(W).equal(before)
    assert clip_gradients([], 1.0) == 0
