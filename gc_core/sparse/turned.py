"""Sparse products with turned copies of dictionary rows: (rho(h) W[p])[g] = W[p, g h].

Both directions are sums of single blocks, so that turning costs an index and no copy: what `kernels` does with rows of
a dictionary it does here with its blocks.

Letters: B samples, G group elements, K active copies, P rows of the dictionary, C values of a block.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gc_core.sparse.factors import RowGradient, Turns
from gc_core.sparse.functions import check_holds_gradient, delivered
from gc_core.sparse.kernels import row_dots, segment_sums


def turned_decode(
    value_BK: Tensor, index_BK: Tensor, pose_BK: Tensor, W_PGC: Tensor, turns: Turns, *, dense_grad: bool
) -> Tensor:
    """sum_k value[b, k] rho(pose[b, k]) W[index[b, k]], shape (B, G, C).

    Indices and poses are int64. The gradient of W is dense, or stays in factors with it (`gc_core.sparse`).

    Raises:
        ValueError: `dense_grad` is off and W is computed from a parameter instead of being one.
    """
    check_holds_gradient(W_PGC, dense_grad)
    return _Decode.apply(value_BK, index_BK, pose_BK, W_PGC, turns, dense_grad)


def turned_encode(
    acts_BGC: Tensor,
    bias_C: Tensor,
    W_PGC: Tensor,
    b_P: Tensor,
    index_BK: Tensor,
    pose_BK: Tensor,
    turns: Turns,
    *,
    dense_grad: bool,
    known_BK: Tensor | None = None,
) -> Tensor:
    """<rho(pose[b, k]) W[index[b, k]], acts[b] - bias> + b[index[b, k]], (B, K), with gradients for W, b and the bias,
    which is the same for all blocks.

    `known_BK` gives the numbers where they have been computed already: only the gradient is left to do then. As in
    `sparse_encode`, rows whose upstream gradient is zero in every sample are not touched.

    Raises:
        ValueError: as `turned_decode`.
    """
    check_holds_gradient(W_PGC, dense_grad)
    check_holds_gradient(b_P, dense_grad)
    return _Encode.apply(acts_BGC, bias_C, W_PGC, b_P, index_BK, pose_BK, turns, dense_grad, known_BK)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value_BK: Tensor, index_BK: Tensor, pose_BK: Tensor, W_PGC: Tensor, turns: Turns, dense_grad: bool
    ) -> Tensor:
        ctx.save_for_backward(value_BK, index_BK, pose_BK, W_PGC)
        ctx.turns, ctx.dense_grad = turns, dense_grad
        block_BGK = _blocks(index_BK, pose_BK, turns)
        num_samples, order, num_active = block_BGK.shape
        weight_N = value_BK[:, None].expand(block_BGK.shape).reshape(-1)
        offsets = torch.arange(num_samples * order + 1, device=index_BK.device) * num_active
        sums = segment_sums(weight_N, block_BGK.reshape(-1), offsets, W_PGC.flatten(0, 1))
        return sums.view(num_samples, order, -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _decode_backward(ctx, *upstream)


@once_differentiable
def _decode_backward(ctx: Any, upstream_BGC: Tensor) -> tuple[Tensor | None, ...]:
    value_BK, index_BK, pose_BK, W_PGC = ctx.saved_tensors
    grad_BK = grad_W = None
    if ctx.needs_input_grad[0]:
        grad_BK = _dots(upstream_BGC, W_PGC, index_BK, pose_BK, ctx.turns).to(value_BK)
    if ctx.needs_input_grad[3]:
        factors = RowGradient.of_turned(value_BK, index_BK, pose_BK, upstream_BGC.flatten(1), W_PGC.shape, ctx.turns)
        grad_W = delivered(factors, W_PGC, ctx.dense_grad)
    return grad_BK, None, None, grad_W, None, None


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        acts_BGC: Tensor,
        bias_C: Tensor,
        W_PGC: Tensor,
        b_P: Tensor,
        index_BK: Tensor,
        pose_BK: Tensor,
        turns: Turns,
        dense_grad: bool,
        known_BK: Tensor | None,
    ) -> Tensor:
        read_BGC = acts_BGC - bias_C
        ctx.save_for_backward(read_BGC, W_PGC, b_P, index_BK, pose_BK)
        ctx.turns, ctx.dense_grad = turns, dense_grad
        if known_BK is not None:
            return known_BK.detach().clone()
        return _dots(read_BGC, W_PGC, index_BK, pose_BK, turns) + b_P[index_BK]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _encode_backward(ctx, *upstream)


@once_differentiable
def _encode_backward(ctx: Any, upstream_BK: Tensor) -> tuple[Tensor | None, ...]:
    read_BGC, W_PGC, b_P, index_BK, pose_BK = ctx.saved_tensors
    _, needs_bias, needs_W, needs_b = ctx.needs_input_grad[:4]
    of_W = RowGradient.of_turned(upstream_BK, index_BK, pose_BK, read_BGC.flatten(1), W_PGC.shape, ctx.turns)
    one_B1 = upstream_BK.new_ones(len(upstream_BK), 1)
    of_b = replace(of_W, table_MD=one_B1, shape=b_P.shape, pose_N=None, turns=None)  # of the same entries
    grad_bias = None
    if needs_bias:
        # A block of the bias meets every block of the row, whatever the pose.
        grad_bias = -(of_b.dense() @ W_PGC.sum(1))
    return (
        None,
        grad_bias,
        delivered(of_W, W_PGC, ctx.dense_grad) if needs_W else None,
        delivered(of_b, b_P, ctx.dense_grad) if needs_b else None,
        *(None,) * 5,
    )


def _dots(left_BGC: Tensor, W_PGC: Tensor, index_BK: Tensor, pose_BK: Tensor, turns: Turns) -> Tensor:
    block_BGK = _blocks(index_BK, pose_BK, turns)
    dots = row_dots(left_BGC.flatten(0, 1), W_PGC.flatten(0, 1), block_BGK.flatten(0, 1))
    return dots.view(block_BGK.shape).sum(1)


def _blocks(index_BK: Tensor, pose_BK: Tensor, turns: Turns) -> Tensor:
    """(B, G, K) which of all rows' blocks stands where: block g of a row turned by h is its block g h."""
    order = len(turns.product_GG)
    return index_BK[:, None] * order + turns.product_GG[:, pose_BK].movedim(0, 1)
