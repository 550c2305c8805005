"""Drawn stimuli whose symmetry is known: lines, curves, corners, circles and gratings at any angle, exactly centred.

Coordinates are (right, up) pixels from the centre pixel. Each stimulus follows from its kind and number alone.

Letters: H W pixels.
"""

import re
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gc_core.images.shapes import Colour

Coverage = NDArray[np.float64]
"""(H, W) share of foreground colour at each sample, 0 to 1."""

_OVERSAMPLING = 4


def names(count: int) -> list[str]:
    """`count` stimulus names, the kinds in turn: line-0, curve-0, ..."""
    kinds = list(_DRAW)
    return [f"{kinds[i % len(kinds)]}-{i // len(kinds)}" for i in range(count)]


def draw(name: str, side_px: int) -> NDArray[np.uint8]:
    """The stimulus as RGB pixels (3, H, W) of an odd side.

    Raises:
        ValueError: no stimulus has this name.
    """
    match = re.fullmatch(r"([a-z]+)-(\d+)", name)
    if match is None or match[1] not in _DRAW:
        raise ValueError(f"stimulus {name!r}: expected one of {', '.join(_DRAW)}, a dash and a number")
    rng = np.random.default_rng([list(_DRAW).index(match[1]), int(match[2])])
    background, foreground = (np.array(colour) for colour in two_colours(rng))
    fine = side_px * _OVERSAMPLING
    axis = (np.arange(fine) - (fine - 1) / 2) / _OVERSAMPLING
    covered = _DRAW[match[1]](rng, axis[None, :], -axis[:, None])
    covered = covered.reshape(side_px, _OVERSAMPLING, side_px, _OVERSAMPLING).mean((1, 3))
    pixels = background[:, None, None] * (1 - covered) + foreground[:, None, None] * covered
    return pixels.round().astype(np.uint8)


def two_colours(rng: Generator) -> tuple[Colour, Colour]:
    """Two RGB colours, 0 to 255, at least 90 grey levels apart; half of the pairs are grey."""
    while True:
        pair = rng.uniform(0, 255, (2, 3))
        if rng.random() < 0.5:
            pair[:] = pair.mean(1, keepdims=True)
        if abs(pair[0].mean() - pair[1].mean()) > 90:
            (red, green, blue), (red2, green2, blue2) = pair.tolist()
            return (red, green, blue), (red2, green2, blue2)


def _rotated(rng: Generator, right: Coverage, up: Coverage) -> tuple[Coverage, Coverage]:
    angle = rng.uniform(0, 2 * np.pi)
    return right * np.cos(angle) + up * np.sin(angle), up * np.cos(angle) - right * np.sin(angle)


def _stroke(rng: Generator, distance: Coverage) -> Coverage:
    return (np.abs(distance) <= rng.uniform(1.0, 3.5)).astype(np.float64)


def _line(rng: Generator, right: Coverage, up: Coverage) -> Coverage:
    _, across = _rotated(rng, right, up)
    return _stroke(rng, across)


def _curve(rng: Generator, right: Coverage, up: Coverage) -> Coverage:
    """An arc through the centre, less than half of its circle, so that it never closes."""
    along, across = _rotated(rng, right, up)
    radius = rng.uniform(10, 28)
    away = np.hypot(along, across - radius)
    on_arc = np.abs(np.arctan2(along, radius - across)) < 0.45 * np.pi
    return _stroke(rng, away - radius) * on_arc


def _corner(rng: Generator, right: Coverage, up: Coverage) -> Coverage:
    """Two rays from the centre, 50 to 110 degrees apart."""
    along, across = _rotated(rng, right, up)
    half = np.deg2rad(rng.uniform(50, 110)) / 2
    from_ray = along * np.sin(half) - np.abs(across) * np.cos(half)
    before_tip = along * np.cos(half) + np.abs(across) * np.sin(half) < 0
    return _stroke(rng, np.where(before_tip, np.hypot(along, across), from_ray))


def _circle(rng: Generator, right: Coverage, up: Coverage) -> Coverage:
    return _stroke(rng, np.hypot(right, up) - rng.uniform(4, 22))


def _grating(rng: Generator, right: Coverage, up: Coverage) -> Coverage:
    """A sine wave with a crest or a trough at the centre, so that it keeps its mirrors."""
    _, across = _rotated(rng, right, up)
    return 0.5 + 0.5 * rng.choice([-1, 1]) * np.cos(2 * np.pi * across / rng.uniform(5, 18))


_DRAW: dict[str, Callable[[Generator, Coverage, Coverage], Coverage]] = {
    "line": _line,
    "curve": _curve,
    "corner": _corner,
    "circle": _circle,
    "grating": _grating,
}
