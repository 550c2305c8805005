"""Which operations are local, and where each looks: the rule for every ATen operation that vision networks use.

A rule reads one operation and the axes (height, width) on which its inputs lie. It answers with a `Step`: the
same operation without its padding, and the window of each input that one position of the output reads. An operation
without a rule is not local as far as anyone knows.

Letters: N images, C channels, H W positions.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, fx

Axes = tuple[int, int]
"""Dimensions of height and width."""

aten = torch.ops.aten


class NotLocalError(Exception):
    """An operation that mixes positions in a way that no window describes; the text says which."""


@dataclass(frozen=True, slots=True)
class Window:
    """Output position i reads input positions `i * stride - before + d * dilation` for d below `kernel`."""

    kernel: int = 1
    stride: int = 1
    before: int = 0
    dilation: int = 1

    def reads(self, low: int, high: int) -> tuple[int, int]:
        """First and last input position that the outputs from `low` to `high` read."""
        last = high * self.stride - self.before + self.dilation * (self.kernel - 1)
        return low * self.stride - self.before, last


POINT = (Window(), Window())


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation as it is computed without padding."""

    node: fx.Node
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    axes: Axes | None
    """Where height and width are in what it puts out; None where it has neither."""
    windows: Mapping[fx.Node, tuple[Window, Window]] = field(default_factory=dict)
    """What one position reads of each input that has height and width."""
    mixes: str = ""
    """Why a position depends on the whole map, in words; empty where it does not."""


Known = Mapping[fx.Node, Axes | None]
Rule = Callable[[fx.Node, Known], Step]


def step_of(node: fx.Node, axes: Known) -> Step:
    """The rule's answer for one operation.

    Raises:
        NotLocalError: there is no rule, or the operation moves or mixes positions.
    """
    target = node.target
    assert callable(target), "every node calls an operation"
    if all(axes.get(each) is None for each in node.all_input_nodes):
        return Step(node=node, target=target, args=node.args, kwargs=node.kwargs, axes=None)
    rule = RULES.get(target)
    if rule is None:
        raise NotLocalError(f"what `{_name(node)}` reads is not known")
    return rule(node, axes)


def _refuse(node: fx.Node, what: str) -> NoReturn:
    raise NotLocalError(f"`{_name(node)}` {what}")


def _name(node: fx.Node) -> str:
    """`view` of aten.view.default."""
    return str(getattr(node.target, "__name__", node.target)).split(".", 1)[0]


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """An int, one number or two, as torch takes them."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _arg(node: fx.Node, position: int, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else default


def _input(node: fx.Node, axes: Known) -> tuple[fx.Node, Axes]:
    """The first input and its axes."""
    source = node.args[0]
    assert isinstance(source, fx.Node), "the first argument is a tensor"
    at = axes.get(source)
    if at is None:
        _refuse(node, "reads the map in another argument than its first")
    return source, at


def _last_two(node: fx.Node, at: Axes, what: str) -> None:
    dims = len(_shape(_first(node)))
    if at != (dims - 2, dims - 1):
        _refuse(node, f"{what} other axes than the last two")


def _first(node: fx.Node) -> fx.Node:
    source = node.args[0]
    assert isinstance(source, fx.Node), "the first argument is a tensor"
    return source


def _replaced(node: fx.Node, changes: Mapping[int, Any]) -> tuple[Any, ...]:
    return tuple(changes.get(position, value) for position, value in enumerate(node.args))


def _convolution(node: fx.Node, axes: Known) -> Step:
    source, at = _input(node, axes)
    _last_two(node, at, "convolves")
    weight, bias = node.args[1], _arg(node, 2, None)
    assert isinstance(weight, fx.Node), "weights are tensors"
    kernel = _shape(weight)[-2:]
    stride, dilation = _pair(_arg(node, 3, 1)), _pair(_arg(node, 5, 1))
    padding = _arg(node, 4, 0)
    before = _same(kernel, dilation, padding) if isinstance(padding, str) else _pair(padding)
    windows = tuple(Window(*each) for each in zip(kernel, stride, before, dilation, strict=True))
    args = (source, weight, bias, list(stride), [0, 0], list(dilation), _arg(node, 6, 1))
    return Step(node=node, target=aten.conv2d.default, args=args, axes=at, windows={source: (windows[0], windows[1])})


def _same(kernel: Sequence[int], dilation: tuple[int, int], padding: str) -> tuple[int, int]:
    """torch's "same": of an odd number of positions the one more comes after."""
    if padding == "valid":
        return 0, 0
    first, second = (each * (length - 1) // 2 for each, length in zip(dilation, kernel, strict=True))
    return first, second


def _pooling(node: fx.Node, axes: Known) -> Step:
    """Maxima and means of windows; `ceil_mode` and what lies beyond the border change nothing inside."""
    source, at = _input(node, axes)
    _last_two(node, at, "pools")
    kernel = _pair(_arg(node, 1, 1))
    stride = _pair(_arg(node, 2, None) or kernel)
    before = _pair(_arg(node, 3, 0))
    is_max = node.target in _MAXIMA
    dilation = _pair(_arg(node, 4, 1)) if is_max else (1, 1)
    windows = tuple(Window(*each) for each in zip(kernel, stride, before, dilation, strict=True))
    last = (list(dilation),) if is_max else (False, True, _arg(node, 6, None))
    target = aten.max_pool2d.default if is_max else aten.avg_pool2d.default
    args = (source, list(kernel), list(stride), [0, 0], *last)
    return Step(node=node, target=target, args=args, axes=at, windows={source: (windows[0], windows[1])})


def _pooling_over_channels(node: fx.Node, axes: Known) -> Step:
    """What `nn.LocalResponseNorm` does: a mean over channels alone, height and width being the last axes of three."""
    source, at = _input(node, axes)
    _last_two(node, at, "pools")
    kernel, stride = _arg(node, 1, ()), _arg(node, 2, None) or _arg(node, 1, ())
    if list(kernel)[1:] != [1, 1] or list(stride)[1:] != [1, 1]:
        _refuse(node, "pools over three axes")
    return Step(node=node, target=_target(node), args=node.args, axes=at, windows={source: POINT})


def _padding(node: fx.Node, axes: Known) -> Step:
    """Padding moves positions; what it adds is never read inside. Added channels are kept."""
    source, at = _input(node, axes)
    dims = len(_shape(source))
    pads = list(_arg(node, 1, ()))
    before = {dims - 1 - axis: pads[2 * axis] for axis in range(len(pads) // 2)}
    for axis in range(len(pads) // 2):
        if dims - 1 - axis in at:
            pads[2 * axis] = pads[2 * axis + 1] = 0
    windows = {source: (Window(before=before.get(at[0], 0)), Window(before=before.get(at[1], 0)))}
    if any(pads):
        return Step(
            node=node, target=_target(node), args=_replaced(node, {1: pads}), kwargs=node.kwargs, axes=at,
            windows=windows,
        )  # fmt: skip
    return Step(node=node, target=aten.alias.default, args=(source,), axes=at, windows=windows)


def _target(node: fx.Node) -> Callable[..., Any]:
    assert callable(node.target), "every node calls an operation"
    return node.target


def _pointwise(node: fx.Node, axes: Known) -> Step:
    """Each position by itself. Several maps must lie alike, and no other tensor may differ from position to
    position."""
    maps = [each for each in node.all_input_nodes if axes.get(each) is not None]
    places = {
        (len(_shape(each)) - axes_of[0], len(_shape(each)) - axes_of[1]) for each in maps if (axes_of := axes[each])
    }
    if len(places) != 1:
        _refuse(node, "joins maps that lie on different axes")
    ((from_end_y, from_end_x),) = places
    dims = len(node.meta["val"].shape)
    at = dims - from_end_y, dims - from_end_x
    for each in node.all_input_nodes:
        shape = _shape(each)
        varies = any(len(shape) >= from_end and shape[-from_end] != 1 for from_end in (from_end_y, from_end_x))
        if axes.get(each) is None and varies:
            _refuse(node, "adds to each position something of its own")
    return Step(
        node=node, target=_target(node), args=node.args, kwargs=node.kwargs, axes=at,
        windows=dict.fromkeys(maps, POINT),
    )  # fmt: skip


def _normalised_alone(node: fx.Node, axes: Known) -> Step:
    """Batch norm with remembered statistics."""
    source, at = _input(node, axes)
    return Step(node=node, target=batch_norm, args=node.args, axes=at, windows={source: POINT})


def batch_norm(
    map_NCHW: Tensor,
    weight_C: Tensor | None,
    bias_C: Tensor | None,
    mean_C: Tensor,
    variance_C: Tensor,
    momentum: float,
    epsilon: float,
) -> tuple[Tensor]:
    """The first of ATen's outputs: the others are what training would remember."""
    return (F.batch_norm(map_NCHW, mean_C, variance_C, weight_C, bias_C, False, momentum, epsilon),)


def _item(node: fx.Node, axes: Known) -> Step:
    """One of several outputs, as of batch norm or of a split along the channels."""
    source, at = _input(node, axes)
    return Step(node=node, target=_target(node), args=node.args, axes=at, windows={source: POINT})


def _joined(node: fx.Node, axes: Known) -> Step:
    maps = node.all_input_nodes
    places = {axes.get(each) for each in maps}
    at = next(iter(places))
    if len(places) != 1 or at is None:
        _refuse(node, "joins maps that lie on different axes")
    dim = _dim(node, _arg(node, 1, 0), maps[0])
    if dim in at:
        _refuse(node, "joins maps side by side")
    return Step(node=node, target=_target(node), args=node.args, axes=at, windows=dict.fromkeys(maps, POINT))


def _dim(node: fx.Node, dim: int, source: fx.Node) -> int:
    return dim % len(_shape(source))


def _along_channels(node: fx.Node, axes: Known) -> Step:
    """A split, a slice or a chunk along another axis than height and width."""
    source, at = _input(node, axes)
    position = 2 if node.target in (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default) else 1
    if _dim(node, _arg(node, position, 0), source) in at:
        _refuse(node, "cuts the map")
    return Step(node=node, target=_target(node), args=node.args, axes=at, windows={source: POINT})


def _permuted(node: fx.Node, axes: Known) -> Step:
    source, at = _input(node, axes)
    order = [_dim(node, each, source) for each in _order(node, source)]
    moved = order.index(at[0]), order.index(at[1])
    return Step(node=node, target=_target(node), args=node.args, axes=moved, windows={source: POINT})


def _order(node: fx.Node, source: fx.Node) -> list[int]:
    if node.target is aten.permute.default:
        return list(_arg(node, 1, ()))
    order = list(range(len(_shape(source))))
    first, second = (_dim(node, _arg(node, position, 0), source) for position in (1, 2))
    order[first], order[second] = order[second], order[first]
    return order


def _reshaped(node: fx.Node, axes: Known) -> Step:
    """Channels in other groups, as in a shuffle: the images stay first, height and width the last two axes."""
    source, at = _input(node, axes)
    before, after = _shape(source), tuple(node.meta["val"].shape)
    kept = before[0] == after[0] and at == (len(before) - 2, len(before) - 1) and before[-2:] == after[-2:]
    if not kept:
        _refuse(node, "lays positions out anew")
    return Step(
        node=node, target=_regrouped, args=(source, after[1:-2]), axes=(len(after) - 2, len(after) - 1),
        windows={source: POINT},
    )  # fmt: skip


def _regrouped(map_NCHW: Tensor, channels: Sequence[int]) -> Tensor:
    return map_NCHW.reshape(map_NCHW.shape[0], *channels, *map_NCHW.shape[-2:])


def _squeezed(node: fx.Node, axes: Known) -> Step:
    source, at = _input(node, axes)
    before, after = len(_shape(source)), len(node.meta["val"].shape)
    dim = _arg(node, 1, 0) % max(before, after)
    if dim in at and after < before:
        _refuse(node, "takes away an axis of the map")
    shift = after - before
    moved = tuple(each + (shift if each >= dim else 0) for each in at)
    return Step(node=node, target=_target(node), args=node.args, axes=(moved[0], moved[1]), windows={source: POINT})


def _over_channels(node: fx.Node, axes: Known) -> Step:
    """A sum, a mean or a layer norm: over channels it is local, over positions it depends on all of them."""
    source, at = _input(node, axes)
    dims = len(_shape(source))
    if node.target is aten.layer_norm.default:
        reduced = set(range(dims - len(_arg(node, 1, ())), dims))
        after: Axes | None = at
    else:
        asked = _arg(node, 1, None)
        reduced = {each % dims for each in (range(dims) if not asked else [asked] if isinstance(asked, int) else asked)}
        keeps = bool(_arg(node, 2, False) or node.kwargs.get("keepdim", False))
        fewer = [0 if keeps else sum(each < axis for each in reduced) for axis in at]
        after = at[0] - fewer[0], at[1] - fewer[1]
    if reduced.isdisjoint(at):
        return Step(
            node=node, target=_target(node), args=node.args, kwargs=node.kwargs, axes=after, windows={source: POINT}
        )
    if node.target is aten.layer_norm.default:
        return _mixing(node, axes, "a layer norm over all positions", at)
    return _mixing(node, axes, "a mean over all positions", None)


def _linear(node: fx.Node, axes: Known) -> Step:
    source, at = _input(node, axes)
    if len(_shape(source)) - 1 in at:
        _refuse(node, "multiplies along the map")
    return Step(node=node, target=_target(node), args=node.args, axes=at, windows={source: POINT})


def _pooled_whole(node: fx.Node, axes: Known) -> Step:
    if set(_pair(_arg(node, 1, 1))) != {1}:
        _refuse(node, "pools the map to another size")
    return _mixing(node, axes, "squeeze and excitation", None)


def _normalised_over_map(node: fx.Node, axes: Known) -> Step:
    return _mixing(node, axes, "a norm over all positions", _input(node, axes)[1])


def _mixing(node: fx.Node, axes: Known, what: str, at: Axes | None) -> Step:
    """An operation that reads the whole map; where it still has positions, each is taken to look at its own."""
    windows = {} if at is None else {_input(node, axes)[0]: POINT}
    return Step(
        node=node, target=_target(node), args=node.args, kwargs=node.kwargs, axes=at, windows=windows, mixes=what
    )


_MAXIMA = (aten.max_pool2d.default, aten.max_pool2d_with_indices.default)

_POINTWISE = (
    *("relu", "hardtanh", "relu6", "clamp", "clamp_min", "clamp_max", "silu", "gelu", "hardswish", "hardsigmoid"),
    *("sigmoid", "tanh", "leaky_relu", "elu", "selu", "celu", "softplus", "mish", "prelu", "log_sigmoid"),
    *("hardshrink", "softshrink", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "erf", "sin"),
    *("cos", "pow", "add", "sub", "rsub", "mul", "div", "maximum", "minimum", "where"),
    *("dropout", "feature_dropout", "alpha_dropout", "clone", "contiguous", "alias", "detach"),
    *("to", "_to_copy", "lift_fresh_copy"),
)
"""Each position by itself."""


def _overloads(name: str) -> list[Any]:
    packet = getattr(aten, name)
    return [getattr(packet, overload) for overload in packet.overloads()]


RULES: dict[Any, Rule] = {
    **{overload: _pointwise for name in _POINTWISE for overload in _overloads(name)},
    **dict.fromkeys(_overloads("conv2d"), _convolution),
    **dict.fromkeys([*_MAXIMA, aten.avg_pool2d.default], _pooling),
    **dict.fromkeys([aten.pad.default, aten.constant_pad_nd.default], _padding),
    **dict.fromkeys([aten.reflection_pad2d.default, aten.replication_pad2d.default], _padding),
    aten.avg_pool3d.default: _pooling_over_channels,
    aten._native_batch_norm_legit_no_training.default: _normalised_alone,
    aten.cat.default: _joined,
    **dict.fromkeys([aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default], _along_channels),
    **dict.fromkeys([aten.slice.Tensor], _along_channels),
    **dict.fromkeys([aten.permute.default, aten.transpose.int], _permuted),
    **dict.fromkeys([aten.view.default, aten.reshape.default, aten._unsafe_view.default], _reshaped),
    **dict.fromkeys([aten.unsqueeze.default, aten.squeeze.dim], _squeezed),
    **dict.fromkeys([aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default], _over_channels),
    operator.getitem: _item,
    aten.layer_norm.default: _over_channels,
    aten.linear.default: _linear,
    aten.adaptive_avg_pool2d.default: _pooled_whole,
    aten.adaptive_max_pool2d.default: _pooled_whole,
    **dict.fromkeys([aten.group_norm.default, aten.instance_norm.default], _normalised_over_map),
}
