"""Computes a trunk's layers: with the network's own padding, or with none for the one unit in the middle.

Letters: N images or patches, C channels, H W positions.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, cat

from gc_core.backbones.geometry import field_of, window_of
from gc_core.backbones.layers import Block, Conv, Layer, LocalNorm, MaxPool, Relu


class Kernel(NamedTuple):
    """Weights of one convolution: weight (channels, channels in, kernel, kernel), bias (channels,)."""

    weight: Tensor
    bias: Tensor


Kernels = Mapping[str, Kernel]


def with_padding(layers: tuple[Layer, ...], x_NCHW: Tensor, kernels: Kernels) -> Tensor:
    """The last layer's map as the published network computes it, with its padding at the borders."""
    for layer in layers:
        if isinstance(layer, Block):
            x_NCHW = cat([with_padding(branch, x_NCHW, kernels) for branch in layer.branches], dim=1)
        else:
            x_NCHW = _apply(layer, *_pad(layer, x_NCHW), kernels)
    return x_NCHW


def without_padding(layers: tuple[Layer, ...], x_NCHW: Tensor, kernels: Kernels) -> Tensor:
    """The last layer where no padding is needed: a square of the field's size comes down to one position.

    A branch that looks less far than its block reads only the middle of the map, so that all branches end on the
    same positions and none computes a position that nobody reads.
    """
    for layer in layers:
        if isinstance(layer, Block):
            reach = window_of(layer)[0]
            x_NCHW = cat(
                [
                    without_padding(branch, _trim(x_NCHW, (reach - field_of(branch).size_px) // 2), kernels)
                    for branch in layer.branches
                ],
                dim=1,
            )
        else:
            x_NCHW = _apply(layer, x_NCHW, (0, 0), kernels)
    return x_NCHW


def _apply(
    layer: Conv | Relu | MaxPool | LocalNorm, x_NCHW: Tensor, padding: tuple[int, int], kernels: Kernels
) -> Tensor:
    if isinstance(layer, Conv):
        weight, bias = kernels[layer.weights]
        return F.conv2d(x_NCHW, weight, bias, layer.stride, padding)
    if isinstance(layer, MaxPool):
        return F.max_pool2d(x_NCHW, layer.kernel, layer.stride, padding)
    if isinstance(layer, Relu):
        return F.relu_(x_NCHW)  # in place: a ReLU follows a convolution, whose output nobody else reads
    return _local_norm(layer, x_NCHW)


def _local_norm(layer: LocalNorm, x_NCHW: Tensor) -> Tensor:
    """The sum over neighbouring channels as a product with a banded matrix.

    On a CPU this takes a tenth of the time of `torch.nn.functional.local_response_norm`; in place, for a map is larger
    than the cache and every pass over it costs as much as a small convolution.
    """
    channel = torch.arange(x_NCHW.shape[1], device=x_NCHW.device)
    near_CC = ((channel[:, None] - channel).abs() <= layer.radius).to(x_NCHW.dtype)
    sum_NHWC = F.linear(x_NCHW.square().permute(0, 2, 3, 1), layer.alpha * near_CC)
    return sum_NHWC.add_(layer.bias).pow_(-layer.beta).permute(0, 3, 1, 2).mul_(x_NCHW)


def _pad(layer: Layer, x_NCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Pads what torch cannot: (map, padding left to the operator). Unequal sides are added here, equal ones there."""
    if not isinstance(layer, Conv | MaxPool):
        return x_NCHW, (0, 0)
    top, bottom = layer.border(x_NCHW.shape[-2], layer.kernel, layer.stride)
    left, right = layer.border(x_NCHW.shape[-1], layer.kernel, layer.stride)
    if top == bottom and left == right:
        return x_NCHW, (top, left)
    value = 0.0 if isinstance(layer, Conv) else float("-inf")
    return F.pad(x_NCHW, (left, right, top, bottom), value=value), (0, 0)


def _trim(x_NCHW: Tensor, margin: int) -> Tensor:
    return x_NCHW[..., margin : x_NCHW.shape[-2] - margin, margin : x_NCHW.shape[-1] - margin]
