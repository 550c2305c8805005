"""How one unit's activations are read out of a whole network: where its patch lies on the canvas, and which position
of the output is the unit.

Letters: N patches, C channels, S patch side, h w units, T tokens.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Position = Literal["centre", "mean"]
MOST_PREFIX_TOKENS = 16
"""Class tokens and registers before the tokens of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a layer puts out."""

    kind: Literal["map", "tokens", "vector"]
    channels: int
    axes: tuple[int, int] = (2, 3)
    """Height and width of a map."""
    grid: tuple[int, int] = (1, 1)
    """Units down and across."""
    prefix: int = 0
    """Tokens before those of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A patch of `patch_px` lies at `offset_px` on a canvas of the network's mean colour, and `unit` is read."""

    patch_px: int
    canvas_px: int
    offset_px: tuple[int, int]
    """Rows above and columns left of the patch."""
    unit: tuple[int, int]
    position: Position = "centre"
    whole_input: bool = False
    """Whether the unit depends on the whole canvas: then the picture is a disc, so that turning it brings no new
    corners into sight."""


def layout_of(output: object, axes: tuple[int, int] | None = None) -> Layout:
    """What kind of output this is; `axes` are height and width where they are known.

    Raises:
        ValueError: it is no tensor of images' units; says what was found.
    """
    if not isinstance(output, Tensor):
        raise ValueError(f"puts out a {type(output).__name__}, expected one tensor; choose a layer inside it")
    shape = tuple(output.shape)
    if len(shape) == 4:
        down, across = axes or ((1, 2) if shape[1] == shape[2] != shape[3] else (2, 3))
        channels = shape[({1, 2, 3} - {down, across}).pop()]
        return Layout(kind="map", channels=channels, axes=(down, across), grid=(shape[down], shape[across]))
    if len(shape) == 3:
        side = math.isqrt(shape[1])
        prefix = shape[1] - side**2
        if side < 2 or prefix > MOST_PREFIX_TOKENS:
            raise ValueError(f"puts out {shape[1]} tokens, which are no square and at most {MOST_PREFIX_TOKENS} more")
        return Layout(kind="tokens", channels=shape[2], grid=(side, side), prefix=prefix)
    if len(shape) == 2:
        return Layout(kind="vector", channels=shape[1])
    raise ValueError(f"puts out a tensor of {len(shape)} axes, expected a map, tokens or one vector an image")


def on_canvas(patches_NCSS: Tensor, reading: Reading) -> Tensor:
    """The patches where the reading wants them, 0 (the mean colour) around them."""
    (top, left), rest = reading.offset_px, reading.canvas_px - reading.patch_px
    return F.pad(patches_NCSS, (left, rest - left, top, rest - top))


def unit_of(output: Tensor, layout: Layout, reading: Reading) -> Tensor:
    """(N, C) of the reading's unit, or the mean over all units."""
    if layout.kind == "vector":
        return output
    if layout.kind == "tokens":
        tokens_NTC = output[:, layout.prefix :]
        row, column = reading.unit
        return tokens_NTC.mean(1) if reading.position == "mean" else tokens_NTC[:, row * layout.grid[1] + column]
    if reading.position == "mean":
        return output.mean(layout.axes)
    down, across = layout.axes
    return output.narrow(down, reading.unit[0], 1).narrow(across, reading.unit[1], 1).flatten(1)


def as_map(output: Tensor, layout: Layout) -> Tensor:
    """(N, C, h, w), whatever the layout."""
    if layout.kind == "vector":
        return output[:, :, None, None]
    if layout.kind == "tokens":
        grid_NhwC = output[:, layout.prefix :].unflatten(1, layout.grid)
        return grid_NhwC.permute(0, 3, 1, 2)
    return output if layout.axes == (2, 3) else output.permute(0, 3, 1, 2)


def local_reading(rows: tuple[int, int], columns: tuple[int, int], stride_px: int, like_px: int) -> Reading:
    """Read the first unit whose field, `rows` by `columns` pixels for unit 0, lies on the canvas.

    The canvas is as small as can be among those that differ from `like_px` by whole strides: there a network whose
    padding depends on the image's size pads as at that size. The patch is a square; where the field is not, it reaches
    beyond the shorter sides.
    """
    (top, patch_px), (left, _) = squared(rows, columns)
    units = [max(0, math.ceil(-first / stride_px)) for first in (top, left)]
    offset_px = top + units[0] * stride_px, left + units[1] * stride_px
    least_px = max(offset_px) + patch_px
    canvas_px = least_px + (like_px - least_px) % stride_px
    return Reading(patch_px=patch_px, canvas_px=canvas_px, offset_px=offset_px, unit=(units[0], units[1]))


def squared(rows: tuple[int, int], columns: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first, side) of the square about the field, down and across; a side that cannot be centred gets one row more."""
    side = max(high - low + 1 for low, high in (rows, columns))
    starts = [low - (side - (high - low + 1) + 1) // 2 for low, high in (rows, columns)]
    return (starts[0], side), (starts[1], side)


def whole_reading(
    layout: Layout, centres_px: tuple[float, float] | None, canvas_px: int, position: Position
) -> Reading:
    """Read the unit in the middle of a whole canvas; `centres_px` is the centre of unit (h // 2, w // 2), where it is
    known: else units tile the canvas.

    The disc of the picture turns about the unit's centre, and is as large as fits there.
    """
    unit = layout.grid[0] // 2, layout.grid[1] // 2
    if position == "mean" or layout.kind == "vector":
        return Reading(
            patch_px=canvas_px, canvas_px=canvas_px, offset_px=(0, 0), unit=unit, position=position, whole_input=True
        )
    tiles = [(index + 0.5) * canvas_px / number - 0.5 for index, number in zip(unit, layout.grid, strict=True)]
    centres = [math.floor(2 * each + 0.5) / 2 for each in centres_px or tiles]  # a corner or the middle of a pixel
    if centres[0] % 1 != centres[1] % 1:
        raise ValueError("its units are centred on pixels one way and between them the other; use --position mean")
    patch_px = min(round(2 * min(each + 0.5, canvas_px - 0.5 - each)) for each in centres)
    top, left = (round(each - (patch_px - 1) / 2) for each in centres)
    return Reading(
        patch_px=patch_px, canvas_px=canvas_px, offset_px=(top, left), unit=unit, position="centre", whole_input=True
    )
