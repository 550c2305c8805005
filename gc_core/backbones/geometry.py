"""Where the units of a layer look: receptive field, stride and centres, computed from the layers."""

from dataclasses import dataclass

from gc_core.backbones.layers import Block, Conv, Layer, MaxPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The square of pixels that one unit sees, and the step from one unit to the next."""

    size_px: int
    stride_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The units along one axis of an image: unit i is centred on pixel `first_px + i * stride_px`."""

    num_units: int
    first_px: int
    stride_px: int


def field_of(layers: tuple[Layer, ...]) -> Field:
    """Receptive field and stride of the last layer's units."""
    size_px, stride_px = 1, 1
    for layer in layers:
        kernel, stride = window_of(layer)
        size_px += (kernel - 1) * stride_px
        stride_px *= stride
    return Field(size_px=size_px, stride_px=stride_px)


def axis_of(layers: tuple[Layer, ...], length_px: int) -> Axis:
    """Number and centres of the units that the network with its own padding has along `length_px` pixels.

    Raises ValueError when the image is too small for the network.
    """
    num_units, first_px, stride_px = length_px, 0, 1
    for layer in layers:
        if isinstance(layer, Conv | MaxPool):
            before, after = layer.border(num_units, layer.kernel, layer.stride)
            first_px += (layer.kernel // 2 - before) * stride_px
            num_units = (num_units + before + after - layer.kernel) // layer.stride + 1
            stride_px *= layer.stride
        # A block adds half a window on both sides at stride 1: neither the number of units nor their centres change.
        if num_units < 1:
            raise ValueError(f"an image side of {length_px} px leaves no unit at {layer.name}: give a larger image.")
    return Axis(num_units=num_units, first_px=first_px, stride_px=stride_px)


def window_of(layer: Layer) -> tuple[int, int]:
    """(kernel, stride) of one layer; a block's kernel is that of its widest branch."""
    if isinstance(layer, Conv | MaxPool):
        return layer.kernel, layer.stride
    if isinstance(layer, Block):
        return max(field_of(branch).size_px for branch in layer.branches), 1
    return 1, 1
