"""A trunk as data: a tuple of layers that names what is computed and says nothing of how.

Geometry (`geometry`) and both evaluations (`evaluate`) are derived from these records. Windows are square and odd, so
every unit has a centre pixel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Border = Callable[[int, int, int], tuple[int, int]]
"""(length, kernel, stride) -> pixels added before and after one axis."""


def centred(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Half a window on both sides: torch's `padding=kernel // 2`."""
    return kernel // 2, kernel // 2


def rounded_up(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Nothing before, after just enough for the last window to start inside: torch's `ceil_mode=True, padding=0`."""
    num_windows = -(-(length - kernel) // stride) + 1
    if (num_windows - 1) * stride >= length:
        num_windows -= 1
    return 0, max(0, (num_windows - 1) * stride + kernel - length)


def same(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: ceil(length / stride) windows, and of an odd number of added pixels the last goes after."""
    added = max(0, (-(-length // stride) - 1) * stride + kernel - length)
    return added // 2, added - added // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution with bias; what was a batch norm has been folded into it."""

    name: str
    """Name of the linear output, before the ReLU."""
    weights: str
    """Name under which its kernel (channels, channels in, kernel, kernel) and bias (channels,) are kept."""
    channels: int
    kernel: int = 1
    stride: int = 1
    border: Border = centred


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu:
    """max(x, 0)."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool:
    """Maximum over a window; added pixels never win."""

    name: str
    kernel: int
    stride: int
    border: Border


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNorm:
    """Local response normalisation, as TensorFlow defines it.

    x_c / (bias + alpha * sum of x_d^2 over |d - c| <= radius) ** beta: alpha is not divided by the window.
    """

    name: str
    radius: int
    bias: float
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Branches that read the same map at stride 1; their outputs are joined along the channels."""

    name: str
    branches: "tuple[tuple[Layer, ...], ...]"


Layer = Conv | Relu | MaxPool | LocalNorm | Block


def layer_names(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """Every layer that can be asked for, in order of computation; a block comes after its branches."""
    names: list[str] = []
    for layer in layers:
        if isinstance(layer, Block):
            names += [name for branch in layer.branches for name in layer_names(branch)]
        names.append(layer.name)
    return tuple(names)


def layers_until(layers: tuple[Layer, ...], name: str) -> tuple[Layer, ...]:
    """The shortest tuple of layers whose last one is `name`: of a block that holds it, only its own branch."""
    for position, layer in enumerate(layers):
        if layer.name == name:
            return layers[: position + 1]
        if isinstance(layer, Block):
            for branch in layer.branches:
                if name in layer_names(branch):
                    return layers[:position] + layers_until(branch, name)
    raise ValueError(f"there is no layer {name!r}; expected one of {', '.join(layer_names(layers))}.")


def num_channels(layers: tuple[Layer, ...], channels_in: int) -> int:
    """Channels of the last layer's map."""
    for layer in layers:
        if isinstance(layer, Conv):
            channels_in = layer.channels
        elif isinstance(layer, Block):
            channels_in = sum(num_channels(branch, channels_in) for branch in layer.branches)
    return channels_in


def convolutions(layers: tuple[Layer, ...], channels_in: int) -> Iterator[tuple[Conv, int]]:
    """Every convolution with the number of channels it reads."""
    for position, layer in enumerate(layers):
        before = num_channels(layers[:position], channels_in)
        if isinstance(layer, Conv):
            yield layer, before
        elif isinstance(layer, Block):
            for branch in layer.branches:
                yield from convolutions(branch, before)
