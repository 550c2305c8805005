"""Stimuli drawn from parameters, at any angle and mirrored, exactly: lines, bars, edges, curves, corners, circles,
spirals, gratings, high-low frequency boundaries and contrasts of colour.

    render("curve", {"radius_px": 14, "width_px": 3}, angle_deg=30, side_px=59)

Each is a function of continuous coordinates, sampled at pixels' centres after these were turned back: what is turned is
drawn anew, never resampled. Borders are ramps one pixel wide across themselves, the same in every direction.
Coordinates are (right, up) pixels from the centre pixel. At angle 0 all are their own left-right mirror images but for
spirals, which have none.

Letters: H W pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gc_core.bounds import Bound

Plane = NDArray[np.float64]
"""(H, W) one number at each pixel; of coverage 0 to 1, the share of foreground."""
Colour = tuple[float, float, float]
"""RGB, 0 to 255."""
Parameters = Mapping[str, float]

BLACK: Final[Colour] = (0.0, 0.0, 0.0)
WHITE: Final[Colour] = (255.0, 255.0, 255.0)
ARC_DEG: Final = 162.0
"""How much of its circle a curve is: less than half, so that it never closes."""

_LUMINANCE: Final = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in Rec. 601."""
_LENGTH_PX, _ANGLE_DEG = Bound(0.5, 1e4), Bound(-1e6, 1e6)
_BOUNDS: Mapping[str, Bound] = {
    "width_px": Bound(1, 1e4),
    "length_px": _LENGTH_PX,
    "softness_px": Bound(1, 1e4),
    "radius_px": _LENGTH_PX,
    "opening_deg": Bound(1, 359),
    "spacing_px": _LENGTH_PX,
    "arms": Bound(1, 16),
    "handedness": Bound(-1, 1),
    "period_px": Bound(2, 1e4),
    "fine_px": Bound(2, 1e4),
    "phase_deg": _ANGLE_DEG,
}
_WHOLE: Final = ("arms", "handedness")


def render(
    kind: str,
    parameters: Parameters,
    angle_deg: float = 0.0,
    mirrored: bool = False,
    *,
    side_px: int,
    colours: tuple[Colour, Colour] | None = None,
) -> NDArray[np.uint8]:
    """The stimulus as RGB pixels (3, H, W) of an odd side, mirrored left-right if so, then turned anticlockwise.

    `parameters` are those of `parameters_of(kind)`: lengths in pixels, angles in degrees. `colours` are background and
    foreground: white on black unless given, and two opposite hues of equal luminance for contrasts of colour.

    Raises:
        ValueError: no such kind, other parameters than its own, one out of bounds, or an even side.
    """
    _check(kind, parameters, side_px)
    right, up = _coordinates(side_px, angle_deg, mirrored)
    covered = _KINDS[kind].cover(right, up, **parameters)
    background, foreground = (np.array(each) for each in colours or _KINDS[kind].colours)
    pixels = background[:, None, None] * (1 - covered) + foreground[:, None, None] * covered
    return pixels.round().astype(np.uint8)


def kinds() -> tuple[str, ...]:
    """All kinds, in an order that never changes."""
    return tuple(_KINDS)


def parameters_of(kind: str) -> tuple[str, ...]:
    """Names of the parameters of a kind."""
    return _KINDS[kind].parameters


def opposite_colours(hue_deg: float) -> tuple[Colour, Colour]:
    """Two colours on opposite sides of grey, as far from it as can be, of one luminance (Rec. 601): 127.5 of 255."""
    basis = np.linalg.svd(_LUMINANCE[None])[2][1:]  # two directions of colour that change no luminance
    direction = np.array([np.cos(np.deg2rad(hue_deg)), np.sin(np.deg2rad(hue_deg))]) @ basis
    away = 127.5 * direction / np.abs(direction).max()
    return _colour(127.5 - away), _colour(127.5 + away)


def _colour(rgb: NDArray[np.float64]) -> Colour:
    red, green, blue = rgb.tolist()
    return red, green, blue


def _check(kind: str, parameters: Parameters, side_px: int) -> None:
    if kind not in _KINDS:
        raise ValueError(f"stimulus: no kind {kind!r:.80}, expected one of {', '.join(_KINDS)}")
    expected = parameters_of(kind)
    if {*parameters} != {*expected}:
        found = ", ".join(map(str, parameters)) or "none"
        raise ValueError(f"stimulus {kind}: parameters {found:.80} found, expected {', '.join(expected)}")
    for name, value in parameters.items():
        _BOUNDS[name].refuse(f"stimulus {kind}: {name}", value)
        if name in _WHOLE and (value != round(value) or value == 0):
            raise ValueError(f"stimulus {kind}: {name} is {value:g}, expected a whole number other than 0")
    if side_px < 1 or side_px % 2 == 0:
        raise ValueError(f"stimulus {kind}: side of {side_px} px found, expected an odd one, which has a centre pixel")


def _coordinates(side_px: int, angle_deg: float, mirrored: bool) -> tuple[Plane, Plane]:
    """Where each pixel was before the stimulus was mirrored and turned; quarter turns to the last digit."""
    offset = np.arange(side_px) - float(side_px // 2)
    right, up = offset[None, :], -offset[:, None]
    quarters, rest_deg = divmod(angle_deg, 90.0)
    for _ in range(int(quarters) % 4):
        right, up = up, -right
    cos, sin = np.cos(np.deg2rad(rest_deg)), np.sin(np.deg2rad(rest_deg))
    before_right, before_up = right * cos + up * sin, up * cos - right * sin
    return (-before_right if mirrored else before_right), before_up


def _inside(distance: Plane) -> Plane:
    """Coverage by the distance inside a border, in pixels; negative outside."""
    return np.clip(0.5 + distance, 0.0, 1.0)


def _stroke(distance: Plane, width_px: float) -> Plane:
    return _inside(width_px / 2 - np.abs(distance))


def _line(right: Plane, up: Plane, *, width_px: float) -> Plane:
    """Level, through the whole field."""
    return _stroke(up, width_px)


def _bar(right: Plane, up: Plane, *, width_px: float, length_px: float) -> Plane:
    """A level rectangle."""
    beyond_right, beyond_up = np.abs(right) - length_px / 2, np.abs(up) - width_px / 2
    outside = np.hypot(np.maximum(beyond_right, 0), np.maximum(beyond_up, 0))
    return _inside(-outside - np.minimum(np.maximum(beyond_right, beyond_up), 0))


def _edge(right: Plane, up: Plane, *, softness_px: float) -> Plane:
    """Foreground above a level border that is so wide."""
    return _inside(up / softness_px)


def _sharp_edge(right: Plane, up: Plane) -> Plane:
    return _inside(up)


def _curve(right: Plane, up: Plane, *, radius_px: float, width_px: float) -> Plane:
    """An arc through the centre that opens upwards."""
    half = np.deg2rad(ARC_DEG) / 2
    from_middle = radius_px - up
    on_arc = np.abs(np.arctan2(right, from_middle)) <= half
    to_end = np.hypot(np.abs(right) - radius_px * np.sin(half), from_middle - radius_px * np.cos(half))
    return _stroke(np.where(on_arc, np.hypot(right, from_middle) - radius_px, to_end), width_px)


def _corner(right: Plane, up: Plane, *, opening_deg: float, width_px: float) -> Plane:
    """Two rays from the centre, opening upwards."""
    half = np.deg2rad(opening_deg) / 2
    along = np.abs(right) * np.sin(half) + up * np.cos(half)
    across = np.abs(right) * np.cos(half) - up * np.sin(half)
    return _stroke(np.where(along < 0, np.hypot(right, up), across), width_px)


def _circle(right: Plane, up: Plane, *, radius_px: float, width_px: float) -> Plane:
    return _stroke(np.hypot(right, up) - radius_px, width_px)


def _spiral(right: Plane, up: Plane, *, spacing_px: float, arms: float, handedness: float, width_px: float) -> Plane:
    """Arms from the centre outwards, anticlockwise where handedness is 1, clockwise where it is -1."""
    away = np.hypot(right, up)
    turns = away / spacing_px - handedness * arms * np.arctan2(up, right) / (2 * np.pi)
    along_radius = spacing_px * (turns - np.round(turns))
    steepness = np.hypot(1.0, spacing_px * arms / (2 * np.pi * np.maximum(away, 1e-9)))
    return _stroke(along_radius / steepness, width_px)


def _grating(right: Plane, up: Plane, *, period_px: float, phase_deg: float) -> Plane:
    """A level sine wave; at phase 0 the centre is on a crest of the foreground."""
    return 0.5 + 0.5 * np.cos(2 * np.pi * up / period_px + np.deg2rad(phase_deg))


def _high_low(right: Plane, up: Plane, *, period_px: float, fine_px: float) -> Plane:
    """Upright waves, fine ones above the middle and coarse ones below it: no border between light and dark."""
    above = _inside(up)
    fine, coarse = np.cos(2 * np.pi * right / fine_px), np.cos(2 * np.pi * right / period_px)
    return 0.5 + 0.5 * (above * fine + (1 - above) * coarse)


def _spot(right: Plane, up: Plane, *, radius_px: float) -> Plane:
    return _inside(radius_px - np.hypot(right, up))


@dataclass(frozen=True, slots=True)
class _Kind:
    cover: Callable[..., Plane]
    """Coverage from (right, up) and the parameters."""
    parameters: tuple[str, ...]
    colours: tuple[Colour, Colour] = (BLACK, WHITE)
    """Background and foreground where none are given."""


_KINDS: dict[str, _Kind] = {
    "line": _Kind(_line, ("width_px",)),
    "bar": _Kind(_bar, ("width_px", "length_px")),
    "edge": _Kind(_edge, ("softness_px",)),
    "curve": _Kind(_curve, ("radius_px", "width_px")),
    "corner": _Kind(_corner, ("opening_deg", "width_px")),
    "circle": _Kind(_circle, ("radius_px", "width_px")),
    "spiral": _Kind(_spiral, ("spacing_px", "arms", "handedness", "width_px")),
    "grating": _Kind(_grating, ("period_px", "phase_deg")),
    "high-low": _Kind(_high_low, ("period_px", "fine_px")),
    "colour-edge": _Kind(_sharp_edge, (), opposite_colours(0)),
    "colour-spot": _Kind(_spot, ("radius_px",), opposite_colours(0)),
}
