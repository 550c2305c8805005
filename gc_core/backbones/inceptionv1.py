"""InceptionV1 as Google trained it and Lucid names it, conv2d0 to mixed3b (480 channels, 91 px).

Weights come from the frozen graph `tensorflow_inception_graph.pb` or from a converted state dict, which holds
`NAME.weight` (channels, channels in, kernel, kernel) and `NAME.bias` (channels,) for every convolution (conv2d0,
mixed3a_3x3_bottleneck, ...) and may hold `localresponsenorm0` and `localresponsenorm1`: radius, bias, alpha, beta.
Conversions that call them `NAME_pre_relu_conv.weight` are read too.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from gc_core.backbones.forward import Kernel
from gc_core.backbones.layers import Block, Conv, Layer, LocalNorm, MaxPool, Relu, convolutions, same
from gc_core.backbones.tf_graph import GraphError, Node, parse_graph
from gc_core.backbones.weights import (
    RANDOM_PREFIX,
    Trunk,
    check_kernels,
    looks_like_state,
    parse_state,
    random_kernels,
    sha256_of,
    weight_file,
)

DEFAULT_LAYER = "mixed3b"
MEAN_PIXEL = 117.0  # the network's input is pixel - 117, in -117..138


def inceptionv1_layers() -> tuple[Layer, ...]:
    """conv2d0 to mixed3b under the graph's node names; `NAME_pre_relu` is a convolution before its ReLU."""
    return (
        *_conv("conv2d0", 64, kernel=7, stride=2),
        MaxPool(name="maxpool0", kernel=3, stride=2, border=same),
        _norm("localresponsenorm0"),
        *_conv("conv2d1", 64),
        *_conv("conv2d2", 192, kernel=3),
        _norm("localresponsenorm1"),
        MaxPool(name="maxpool1", kernel=3, stride=2, border=same),
        _mixed("mixed3a", 64, (96, 128), (16, 32), 32),
        _mixed("mixed3b", 128, (128, 192), (32, 96), 64),
    )


def load_inceptionv1(weights: str | None) -> Trunk:
    """The trunk with weights from a graph or state dict (path or file:// URL), or "random:SEED".

    Raises ValueError in one line when there are none, or they are damaged or of another network.
    """
    if weights is None:
        raise ValueError(
            "inceptionv1 comes without weights: give the path of tensorflow_inception_graph.pb (or of a state dict"
            ' converted from it) as weights, or use the backbone "googlenet", whose weights are bundled.'
        )
    layers = inceptionv1_layers()
    if weights.startswith(RANDOM_PREFIX):
        kernels, sha256 = random_kernels(layers, weights)
    else:
        content = weight_file(weights).read_bytes()
        sha256 = sha256_of(content)
        if looks_like_state(content):
            layers, kernels = _from_state(layers, parse_state(content, weights), weights)
        else:
            layers, kernels = _from_graph(layers, content, weights)
        check_kernels(layers, kernels, weights)
    return Trunk(
        layers=layers,
        kernels=kernels,
        mean_RGB=(MEAN_PIXEL, MEAN_PIXEL, MEAN_PIXEL),
        scale_RGB=(1.0, 1.0, 1.0),
        sha256=sha256,
    )


def _from_graph(layers: tuple[Layer, ...], content: bytes, origin: str) -> tuple[tuple[Layer, ...], dict[str, Kernel]]:
    try:
        nodes = parse_graph(content)
        prefix = _prefix(nodes)
        kernels = {conv.weights: _graph_kernel(nodes, prefix + conv.weights) for conv, _ in convolutions(layers, 3)}
        normed = [_graph_norm(layer, nodes, prefix) if isinstance(layer, LocalNorm) else layer for layer in layers]
    except GraphError as error:
        raise ValueError(f"{origin}: not an intact frozen TensorFlow graph of InceptionV1 ({error}).") from error
    return tuple(normed), kernels


def _prefix(nodes: Mapping[str, Node]) -> str:
    """What stands before every name in a graph that was imported into another, such as `import/`."""
    known = "localresponsenorm0"
    return next((name.removesuffix(known) for name in nodes if name.endswith(f"/{known}")), "")


def _graph_kernel(nodes: Mapping[str, Node], name: str) -> Kernel:
    """Kernel and bias that the graph's convolution reads; TensorFlow keeps kernels as (kernel, kernel, in, out)."""
    weight = _source(nodes, f"{name}_pre_relu/conv", f"{name}_w").constant()
    bias = _source(nodes, f"{name}_pre_relu", f"{name}_b").constant()
    if weight.ndim != 4:
        raise GraphError(f"the kernel of {name} has {weight.ndim} axes, expected 4")
    return Kernel(torch.from_numpy(weight).permute(3, 2, 0, 1).contiguous(), torch.from_numpy(bias))


def _source(nodes: Mapping[str, Node], reader: str, usual: str) -> Node:
    """The constant that node `reader` takes as its second input; without such a node, the one called `usual`."""
    name = nodes[reader].inputs[1] if reader in nodes and len(nodes[reader].inputs) == 2 else usual
    for _ in range(len(nodes)):  # a damaged graph may go round in circles
        if name not in nodes or nodes[name].op != "Identity" or not nodes[name].inputs:
            break
        name = nodes[name].inputs[0]
    if name not in nodes:
        raise GraphError(f"has no {name}")
    return nodes[name]


def _graph_norm(norm: LocalNorm, nodes: Mapping[str, Node], prefix: str) -> LocalNorm:
    node = nodes.get(prefix + norm.name)
    if node is None or node.op != "LRN":
        raise GraphError(f"has no LRN node {prefix}{norm.name}")
    return replace(  # the defaults are those of TensorFlow's operation
        norm,
        radius=node.integer("depth_radius", 5),
        bias=node.real("bias", 1.0),
        alpha=node.real("alpha", 1.0),
        beta=node.real("beta", 0.5),
    )


def _from_state(
    layers: tuple[Layer, ...], state: Mapping[str, Tensor], origin: str
) -> tuple[tuple[Layer, ...], dict[str, Kernel]]:
    suffix = "_pre_relu_conv" if "conv2d0_pre_relu_conv.weight" in state else ""
    try:
        kernels = {
            conv.weights: Kernel(*(state[f"{conv.weights}{suffix}.{part}"].double() for part in ("weight", "bias")))
            for conv, _ in convolutions(layers, 3)
        }
    except KeyError as missing:
        raise ValueError(
            f"{origin}: has no {missing.args[0]}, expected NAME.weight and NAME.bias of conv2d0 to mixed3b."
        ) from missing
    normed = [_state_norm(layer, state, origin) if isinstance(layer, LocalNorm) else layer for layer in layers]
    return tuple(normed), kernels


def _state_norm(norm: LocalNorm, state: Mapping[str, Tensor], origin: str) -> LocalNorm:
    if norm.name not in state:
        return norm
    values = state[norm.name].double().flatten().tolist()
    if len(values) != 4:
        raise ValueError(f"{origin}: {norm.name} holds {len(values)} values, expected radius, bias, alpha, beta.")
    return replace(norm, radius=round(values[0]), bias=values[1], alpha=values[2], beta=values[3])


def _conv(name: str, channels: int, *, kernel: int = 1, stride: int = 1) -> tuple[Layer, ...]:
    pre_relu = Conv(name=f"{name}_pre_relu", weights=name, channels=channels, kernel=kernel, stride=stride, border=same)
    return pre_relu, Relu(name=name)


def _norm(name: str) -> LocalNorm:
    return LocalNorm(name=name, radius=5, bias=2.0, alpha=1e-4, beta=0.5)  # what the published graph says


def _mixed(name: str, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> Block:
    return Block(
        name=name,
        branches=(
            _conv(f"{name}_1x1", one),
            (*_conv(f"{name}_3x3_bottleneck", three[0]), *_conv(f"{name}_3x3", three[1], kernel=3)),
            (*_conv(f"{name}_5x5_bottleneck", five[0]), *_conv(f"{name}_5x5", five[1], kernel=5)),
            (MaxPool(name=f"{name}_pool", kernel=3, stride=1, border=same), *_conv(f"{name}_pool_reduce", pool)),
        ),
    )
