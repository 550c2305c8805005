"""How a layer of any network is read, found out by looking: its output, its operations, and the pixels of one unit.

Letters: N images, C channels, H W pixels.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from gc_core.backbones import probe
from gc_core.backbones.networks import Network
from gc_core.backbones.reading import (
    Layout,
    Position,
    Reading,
    layout_of,
    local_reading,
    squared,
    unit_of,
    whole_reading,
)
from gc_core.backbones.traced import (
    Exported,
    NotLocalError,
    Program,
    Reach,
    analyse,
    blank_images,
    export,
    the_tensor,
    watched,
)
from gc_core.backbones.trunk import Trunk

Evaluation = Literal["auto", "program", "canvas"]
RUNNING_ERRORS = (RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError)
"""What networks raise over images that they cannot take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """How one layer is read."""

    layout: Layout
    reading: Reading
    stride_px: int
    first_px: int
    """Pixel of the centre of unit 0 (of an even field the lower right of the four in the middle)."""
    program: Program | None
    """Computes a unit from its field alone; None where that cannot be."""
    why: str
    """Why there is no program, in words; empty with one."""
    part: tuple[slice, slice] = (slice(None), slice(None))
    """Rows and columns of the patch that the program reads."""


def plan_layer(
    network: Network, layer: str, *, input_px: int, position: Position = "centre", evaluation: Evaluation = "auto"
) -> LayerPlan:
    """Look at the layer and decide how its units are computed.

    A layer whose units see no more than `input_px` pixels is read from the field of one unit: by a program that
    computes nothing else where every operation is known (`evaluation` "canvas" forbids it), otherwise by the network
    itself, on a canvas as small as can be. Any other layer is read from a disc that fills the whole input.

    Raises:
        ValueError: the network cannot take such an image, computes the layer never or twice, or the layer puts out
            nothing that has units.
    """
    output = _look(network, layer, input_px)
    exported, reach, why = _followed(network, layer, input_px)
    try:
        layout = layout_of(output, reach.axes.get(reach.output) if reach else None)
    except ValueError as error:
        raise ValueError(f"layer {layer} {error}.") from error
    plan = partial(_whole, layout, reach, input_px, position)
    if position == "mean":
        return plan("the mean over all units is read")
    if exported and reach and not reach.mixes and (followed := _probed(network, layer, layout, reach, input_px)):
        program = Program(exported, reach) if evaluation == "auto" else None
        local = _local(layout, *followed, program, "" if program else "a canvas was asked for")
    elif reach and reach.mixes:
        return plan(f"{reach.mixes} reads the whole image")
    else:
        field = _tried(network, layer, layout, input_px)
        if field is None:
            return plan(why or "a unit depends on the whole image")
        reading = _on_least_canvas(network, layer, field, input_px)
        local = _local(layout, field, reading, None, why or "the probe finds another field than the operations say")
    if local.reading.patch_px > input_px:
        return plan(f"a unit sees {local.reading.patch_px} px, more than the network's input of {input_px} px")
    return local


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Rows and columns of the image that unit 0 depends on, and the step to the next unit."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    stride_px: int


def _look(network: Network, layer: str, input_px: int) -> Tensor:
    """The layer's output of an image of nothing."""
    module = network.module
    images = blank_images(module, network.fixed_batch or 1, input_px, network.channels_in)
    with warnings.catch_warnings(), torch.no_grad(), watched(module, [layer]) as seen:
        warnings.simplefilter("ignore")
        try:
            module(images)
        except RUNNING_ERRORS as error:
            if not seen[layer]:  # what comes after the layer is not needed
                raise ValueError(
                    f"cannot take a {input_px} x {input_px} px image of {network.channels_in} channels"
                    f" ({_line(error)}); give its input size as --input-px."
                ) from error
    if len(seen[layer]) != 1:
        times = "never" if not seen[layer] else f"{len(seen[layer])} times"
        raise ValueError(f"layer {layer} is computed {times} for one image, expected once; choose another.")
    try:
        return the_tensor(seen[layer][0])
    except ValueError as error:
        raise ValueError(f"layer {layer} {error}.") from error


def _followed(network: Network, layer: str, input_px: int) -> tuple[Exported | None, Reach | None, str]:
    """Where the layer's units look, or why that cannot be told from its operations."""
    try:
        exported = export(network.module, [layer], input_px, network.channels_in)
        return exported, analyse(exported, layer), ""
    except (ValueError, NotLocalError) as error:
        return None, None, str(error)


def _probed(network: Network, layer: str, layout: Layout, reach: Reach, input_px: int) -> tuple[Field, Reading] | None:
    """The field that the operations say, and how it is read; None where the probe finds another. A field that is too
    large to matter is not looked at."""
    field = Field(rows=reach.rows, columns=reach.columns, stride_px=reach.stride_px)
    reading = _on_least_canvas(network, layer, field, input_px)
    if reading.patch_px > input_px or network.fixed_batch:
        return field, reading
    rows, columns = (
        (low + unit * reach.stride_px, high + unit * reach.stride_px)
        for (low, high), unit in zip((reach.rows, reach.columns), reading.unit, strict=True)
    )
    with _units(network, layer) as output_of:
        unit = partial(_read, output_of, layout, reading)
        seen = probe.sees_just(unit, reading.canvas_px, rows, columns, network.channels_in)
    return (field, reading) if seen else None


def _on_least_canvas(network: Network, layer: str, field: Field, input_px: int) -> Reading:
    """On a canvas as small as can be, or, where the network takes images of one size alone, of that."""
    reading = local_reading(field.rows, field.columns, field.stride_px, input_px)
    if reading.patch_px > input_px or reading.canvas_px == input_px:
        return reading
    batch = network.fixed_batch or 1
    try:
        with _units(network, layer) as output_of, torch.no_grad():
            output_of(torch.zeros(batch, network.channels_in, reading.canvas_px, reading.canvas_px).double())
    except RUNNING_ERRORS:
        return replace(reading, canvas_px=input_px)
    return reading


def _tried(network: Network, layer: str, layout: Layout, input_px: int) -> Field | None:
    """The field as the probe alone finds it, on the network's own input; None where it touches the border."""
    if layout.kind != "map" or min(layout.grid) < 4 or network.fixed_batch:
        return None
    middle = layout.grid[0] // 2, layout.grid[1] // 2
    readings = [
        Reading(patch_px=input_px, canvas_px=input_px, offset_px=(0, 0), unit=at)
        for at in (middle, (middle[0] + 1, middle[1] + 1))
    ]
    with _units(network, layer) as output_of:
        units = [partial(_read, output_of, layout, reading) for reading in readings]
        if any(probe.sees_border(unit, input_px, network.channels_in) for unit in units):
            return None
        here, there = (probe.find(unit, input_px, network.channels_in) for unit in units)
    stride_px = there[0][0] - here[0][0]
    if stride_px < 1 or there[1][0] - here[1][0] != stride_px:
        return None
    rows, columns = (
        (low - index * stride_px, high - index * stride_px) for (low, high), index in zip(here, middle, strict=True)
    )
    return Field(rows=rows, columns=columns, stride_px=stride_px)


@contextmanager
def _units(network: Network, layer: str) -> Iterator[Trunk]:
    """The network up to the layer, in float64 while the block runs (which float32 comes back from unchanged)."""
    module = network.module
    before = next((each.dtype for each in module.parameters() if each.is_floating_point()), torch.float64)
    trunk = Trunk(module.double(), layer)
    try:
        yield trunk
    finally:
        trunk.release()
        module.to(before)


def _read(output_of: Trunk, layout: Layout, reading: Reading, canvases_NCHH: Tensor) -> Tensor:
    return unit_of(output_of(canvases_NCHH), layout, reading)


def _local(layout: Layout, field: Field, reading: Reading, program: Program | None, why: str) -> LayerPlan:
    (top, side_px), (left, _) = squared(field.rows, field.columns)
    part = tuple(
        slice(low - first, high - first + 1)
        for (low, high), first in zip((field.rows, field.columns), (top, left), strict=True)
    )
    return LayerPlan(
        layout=layout, reading=reading, stride_px=field.stride_px, first_px=top + side_px // 2, program=program,
        why=why, part=(part[0], part[1]),
    )  # fmt: skip


def _whole(layout: Layout, reach: Reach | None, input_px: int, position: Position, why: str) -> LayerPlan:
    centres_px, stride_px = None, max(1, input_px // layout.grid[0])
    if reach is not None:
        stride_px = reach.stride_px
        middle = layout.grid[0] // 2, layout.grid[1] // 2
        down, across = (
            (low + high) / 2 + index * stride_px
            for (low, high), index in zip((reach.rows, reach.columns), middle, strict=True)
        )
        centres_px = down, across
    reading = whole_reading(layout, centres_px, input_px, position)
    return LayerPlan(layout=layout, reading=reading, stride_px=stride_px, first_px=0, program=None, why=why)


def _line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__
