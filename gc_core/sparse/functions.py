"""Decoding and encoding with chosen features, differentiable, with no dense (B, F) tensor in either direction.

The gradient of a dictionary W either is an ordinary tensor, in `W.grad` (`dense_grad=True`), or stays in factors, in
`row_gradient(W)`, while `W.grad` is left as it is (`dense_grad=False`): then no tensor of the size of W is made.
Sums run in a fixed order and in float32 at least; the same inputs give the same bits. No second derivatives.

Letters: B samples, K active features, F features, D values of a row (any number of axes), N rows.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gc_core.sparse.factors import RowGradient, deposit
from gc_core.sparse.kernels import row_dots, segment_sums


def sparse_decode(value_BK: Tensor, index_BK: Tensor, W_FD: Tensor, *, dense_grad: bool) -> Tensor:
    """sum_k value[b, k] W[index[b, k]], shape (B, *W.shape[1:]), of the type that values and W promote to.

    `index_BK` is int64 in [0, F); a feature may repeat within a sample, and then counts each time. Rows of W whose
    values are all zero are not touched by the gradient.

    Raises:
        ValueError: `dense_grad` is off and W is computed from a parameter instead of being one.
    """
    check_holds_gradient(W_FD, dense_grad)
    return _Decode.apply(value_BK, index_BK, W_FD, dense_grad)


def sparse_encode(
    read_BD: Tensor,
    W_FD: Tensor,
    b_F: Tensor,
    index_BK: Tensor,
    *,
    dense_grad: bool,
    known_BK: Tensor | None = None,
) -> Tensor:
    """Pre-activations W[index[b, k]] . read[b] + b[index[b, k]] of the chosen features only, (B, K).

    `known_BK` gives the numbers where they have been computed already: only the gradient is left to do then. Features
    whose upstream gradient is zero in every sample (those that a ReLU silences) are not touched.

    Raises:
        ValueError: `dense_grad` is off and W or b is computed from a parameter instead of being one.
    """
    check_holds_gradient(W_FD, dense_grad)
    check_holds_gradient(b_F, dense_grad)
    return _Encode.apply(read_BD, W_FD, b_F, index_BK, dense_grad, known_BK)


def select_rows(W_FD: Tensor, index_N: Tensor, *, dense_grad: bool) -> Tensor:
    """W[index_N], shape (N, *W.shape[1:]), for products with a few rows in full; their gradient touches them alone.

    Raises:
        ValueError: as `sparse_decode`.
    """
    check_holds_gradient(W_FD, dense_grad)
    return _Select.apply(W_FD, index_N, dense_grad)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value_BK: Tensor, index_BK: Tensor, W_FD: Tensor, dense_grad: bool) -> Tensor:
        ctx.save_for_backward(value_BK, index_BK, W_FD)
        ctx.dense_grad = dense_grad
        return _sums_per_sample(value_BK, index_BK, W_FD)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _decode_backward(ctx, *upstream)


@once_differentiable
def _decode_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    value_BK, index_BK, W_FD = ctx.saved_tensors
    upstream_BD = upstream.flatten(1)
    grad_BK = row_dots(upstream_BD, W_FD.flatten(1), index_BK).to(value_BK) if ctx.needs_input_grad[0] else None
    factors = RowGradient.of_entries(value_BK, index_BK, upstream_BD, W_FD.shape)
    return grad_BK, None, delivered(factors, W_FD, ctx.dense_grad) if ctx.needs_input_grad[2] else None, None


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        read_BD: Tensor,
        W_FD: Tensor,
        b_F: Tensor,
        index_BK: Tensor,
        dense_grad: bool,
        known_BK: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(read_BD, W_FD, b_F, index_BK)
        ctx.dense_grad = dense_grad
        if known_BK is not None:
            return known_BK.detach().clone()
        return row_dots(read_BD.flatten(1), W_FD.flatten(1), index_BK) + b_F[index_BK]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _encode_backward(ctx, *upstream)


@once_differentiable
def _encode_backward(ctx: Any, upstream_BK: Tensor) -> tuple[Tensor | None, ...]:
    read_BD, W_FD, b_F, index_BK = ctx.saved_tensors
    dense = ctx.dense_grad
    needs_read, needs_W, needs_b = ctx.needs_input_grad[:3]
    one_B1 = upstream_BK.new_ones(len(upstream_BK), 1)
    of_W = RowGradient.of_entries(upstream_BK, index_BK, read_BD.flatten(1), W_FD.shape)
    of_b = replace(of_W, table_MD=one_B1, shape=b_F.shape)  # of the same entries
    return (
        _sums_per_sample(upstream_BK, index_BK, W_FD.flatten(1)).view(read_BD.shape) if needs_read else None,
        delivered(of_W, W_FD, dense) if needs_W else None,
        delivered(of_b, b_F, dense) if needs_b else None,
        *(None, None, None),
    )


class _Select(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, W_FD: Tensor, index_N: Tensor, dense_grad: bool) -> Tensor:
        ctx.save_for_backward(W_FD, index_N)
        ctx.dense_grad = dense_grad
        return W_FD.index_select(0, index_N)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _select_backward(ctx, *upstream)


@once_differentiable
def _select_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    W_FD, index_N = ctx.saved_tensors
    factors = RowGradient.of_rows(index_N, upstream.reshape(len(index_N), W_FD.shape[1:].numel()), W_FD.shape)
    return delivered(factors, W_FD, ctx.dense_grad), None, None


def _sums_per_sample(value_BK: Tensor, index_BK: Tensor, W_FD: Tensor) -> Tensor:
    num_samples, num_active = index_BK.shape
    offsets = torch.arange(num_samples + 1, device=index_BK.device) * num_active
    sums_BD = segment_sums(value_BK.reshape(-1), index_BK.reshape(-1), offsets, W_FD.flatten(1))
    return sums_BD.view(num_samples, *W_FD.shape[1:])


def check_holds_gradient(parameter: Tensor, dense_grad: bool) -> None:
    """ValueError where a gradient in factors would have no parameter to lie with."""
    if not dense_grad and not parameter.is_leaf:
        raise ValueError(
            f"a dictionary of shape {tuple(parameter.shape)} was computed from another tensor, expected the parameter "
            "itself, which keeps its row gradient; pass W without reshaping it, or dense_grad=True"
        )


def delivered(gradient: RowGradient, W_FD: Tensor, dense_grad: bool) -> Tensor | None:
    """What autograd is told: the gradient itself, or nothing once it lies with the parameter."""
    if dense_grad:
        return gradient.dense().to(W_FD.dtype)
    deposit(W_FD, gradient)
    return None
