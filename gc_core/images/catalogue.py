"""Which stimuli of `shapes` are shown: any number of them drawn at random by name, and a fixed set of every kind.

The names, `line-0`, `bar-0`, ..., are those of `--images all-stimuli`. They are no names of `stimuli`, whose five kinds
stay as they were drawn ever since.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gc_core.images import shapes, stimuli
from gc_core.images.shapes import BLACK, WHITE, Colour, Parameters, opposite_colours

Choice = tuple[float, ...]
_HANDED: Final = (-1.0, 1.0)
_HUES_DEG: Final = (0, 60, 120)
"""Of half a circle: the other half are the same pairs the other way round."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Any number between two, or any of some."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stimulus:
    """One of the fixed set, at no angle."""

    kind: str
    parameters: Parameters
    colours: tuple[Colour, Colour]
    """Background and foreground."""
    colour_name: str
    """The same in words: `white on black`, or the hue."""

    @property
    def name(self) -> str:
        """What a person reads, such as `curve: radius 14 px, width 3 px, white on black`."""
        told = [_in_words(name, value) for name, value in self.parameters.items()]
        return f"{self.kind}: {', '.join([*told, self.colour_name])}"

    def drawn(self, angle_deg: float, mirrored: bool, side_px: int) -> NDArray[np.uint8]:
        """Its pixels (3, H, W), mirrored left-right if so, then turned anticlockwise."""
        return shapes.render(self.kind, self.parameters, angle_deg, mirrored, side_px=side_px, colours=self.colours)


def names(count: int) -> list[str]:
    """`count` names, the kinds in turn."""
    kinds = shapes.kinds()
    return [f"{kinds[i % len(kinds)]}-{i // len(kinds)}" for i in range(count)]


def draw(name: str, side_px: int) -> NDArray[np.uint8]:
    """The stimulus as RGB pixels (3, H, W) of an odd side: its parameters, angle and colours follow from the name.

    Raises:
        ValueError: no stimulus has this name.
    """
    kind, _, number = name.rpartition("-")
    if kind not in _AT_RANDOM or re.fullmatch(r"\d+", number, re.ASCII) is None:
        raise ValueError(f"stimulus {name!r:.80}: expected one of {', '.join(_AT_RANDOM)}, a dash and a number")
    rng = np.random.default_rng([_SEED, list(_AT_RANDOM).index(kind), int(number)])
    parameters = {each: _chosen(rng, among) for each, among in _AT_RANDOM[kind].items()}
    angle_deg, mirrored = rng.uniform(0, 360), bool(rng.random() < 0.5)
    colours = opposite_colours(rng.uniform(0, 360)) if _is_of_colour(kind) else stimuli.two_colours(rng)
    return shapes.render(kind, parameters, angle_deg, mirrored, side_px=side_px, colours=colours)


def fixed_set() -> list[Stimulus]:
    """Some stimuli of every kind, white on black and black on white (not where half a turn, or a shift of phase, does
    the same), or of three pairs of hues."""
    return [stimulus for kind in shapes.kinds() for stimulus in _fixed(kind)]


def _fixed(kind: str) -> Iterator[Stimulus]:
    grid = _FIXED[kind]
    for values in itertools.product(*grid.values()):
        parameters = dict(zip(grid, values, strict=True))
        for colour_name, colours in _palette(kind):
            yield Stimulus(kind=kind, parameters=parameters, colours=colours, colour_name=colour_name)


def _palette(kind: str) -> Iterator[tuple[str, tuple[Colour, Colour]]]:
    if _is_of_colour(kind):
        turned_deg = (0, 180) if kind == "colour-spot" else (0,)  # an edge turned by half a turn is the other one
        for hue_deg in (hue + turn for turn in turned_deg for hue in _HUES_DEG):
            yield f"hue {hue_deg}°", opposite_colours(hue_deg)
        return
    yield "white on black", (BLACK, WHITE)
    if kind not in ("edge", "grating"):
        yield "black on white", (WHITE, BLACK)


def _is_of_colour(kind: str) -> bool:
    return kind.startswith("colour-")


def _chosen(rng: Generator, among: _Range | Choice) -> float:
    return float(rng.uniform(among.low, among.high) if isinstance(among, _Range) else rng.choice(among))


def _in_words(name: str, value: float) -> str:
    if name == "handedness":
        return "anticlockwise" if value > 0 else "clockwise"
    word, _, unit = name.partition("_")
    return f"{word} {value:g}{'°' if unit == 'deg' else ' px' if unit else ''}"


_SEED: Final = 11
"""Beside the kind and the number: `stimuli` draws from generators that are seeded with these two."""
_STROKE: Final = _Range(2, 7)

_AT_RANDOM: Mapping[str, Mapping[str, _Range | Choice]] = {
    "line": {"width_px": _STROKE},
    "bar": {"width_px": _STROKE, "length_px": _Range(12, 36)},
    "edge": {"softness_px": _Range(1, 8)},
    "curve": {"radius_px": _Range(10, 28), "width_px": _STROKE},
    "corner": {"opening_deg": _Range(40, 120), "width_px": _STROKE},
    "circle": {"radius_px": _Range(4, 22), "width_px": _STROKE},
    "spiral": {"spacing_px": _Range(9, 18), "arms": (1, 2), "handedness": _HANDED, "width_px": _Range(2, 5)},
    "grating": {"period_px": _Range(5, 18), "phase_deg": _Range(0, 360)},
    "high-low": {"period_px": _Range(10, 18), "fine_px": _Range(3, 6)},
    "colour-edge": {},
    "colour-spot": {"radius_px": _Range(4, 22)},
}
"""The sizes are those of `stimuli`, where it has the kind."""

_FIXED: Mapping[str, Mapping[str, Choice]] = {
    "line": {"width_px": (2, 4, 8)},
    "bar": {"width_px": (3, 6), "length_px": (14, 28)},
    "edge": {"softness_px": (1, 6)},
    "curve": {"radius_px": (8, 14, 24, 40), "width_px": (2, 5)},
    "corner": {"opening_deg": (50, 90, 120), "width_px": (3,)},
    "circle": {"radius_px": (5, 10, 18), "width_px": (3,)},
    "spiral": {"spacing_px": (10, 16), "arms": (1,), "handedness": _HANDED, "width_px": (3,)},
    "grating": {"period_px": (5, 8, 13), "phase_deg": (0, 90, 180)},
    "high-low": {"period_px": (10, 16), "fine_px": (4,)},
    "colour-edge": {},
    "colour-spot": {"radius_px": (6, 14)},
}
