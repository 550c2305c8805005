"""The field's figure: variance left unexplained against features used, one colour a method, every size marked.

An autoencoder (the one-element group) explains the untransformed block only, a crosscoder all blocks with the same
code. So they meet in the panel of the untransformed block; the other panel shows what the crosscoders do besides.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gc_core.crosscoder import CrosscoderShape
from gc_core.evaluate.held_out import HeldOut

DRAWN_BY = "group-crosscoders"
"""Creator in every figure's metadata."""
FORMATS = ("png", "svg", "pdf")
CAPTION = (
    "Held-out samples; numbers are dictionary sizes. Left: all blocks, which only a crosscoder explains.\n"
    "Right: the untransformed block alone, the same data for crosscoders and autoencoders (SAE). Lower left is better."
)
WORDS = {"topk": "top-k", "batchtopk": "batch top-k", "jumprelu": "JumpReLU", "l1": "L1"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
"""Okabe and Ito's, which the colour-blind tell apart; without their yellow, which white paper swallows."""
INK, FAINT, GRID, EDGE = "#222222", "#6f6f6f", "#e9e9e9", "#bbbbbb"
LABEL_POINTS = 8
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": LABEL_POINTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One crosscoder in the figure."""

    method: str
    """What its colour stands for."""
    autoencoder: bool
    """Whether it is an ordinary autoencoder, of the one-element group."""
    dict_size: int
    l0: float
    fvu: float
    fvu_identity: float

    @staticmethod
    def of(shape: CrosscoderShape, held_out: HeldOut) -> "Point":
        """A crosscoder and what was measured of it.

        Raises:
            ValueError: its FVU is undefined.
        """
        if held_out.fvu is None or held_out.fvu_identity is None:
            found = f"figure: the FVU of a crosscoder of {shape.dict_size:,} features is undefined"
            raise ValueError(f"{found} (held-out samples hardly vary), expected a number; leave it out with --name")
        alone = shape.group.order == 1
        method = WORDS.get(shape.activation, shape.activation)
        if not alone and len(shape.reads) > 1:
            method += f", reads {len(shape.reads)} blocks"
        return Point(
            method=f"SAE, {method}" if alone else f"{_in_print(shape.group.name)} crosscoder, {method}",
            autoencoder=alone,
            dict_size=shape.dict_size,
            l0=held_out.l0,
            fvu=held_out.fvu,
            fvu_identity=held_out.fvu_identity,
        )


def file_format(name: str) -> str:
    """`png`, `svg` or `pdf`, by the file's name; ValueError for another."""
    ending = PurePosixPath(name).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise ValueError(f"figure: {name!r} found, expected a file name that ends in .png, .svg or .pdf")
    return ending


def draw(points: Sequence[Point], *, title: str, form: str) -> bytes:
    """The image's file, as one of `FORMATS`."""
    figure = Figure(figsize=(10.5, 5.4), dpi=150, facecolor="white")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    methods = sorted({point.method for point in points}, key=lambda method: (method.startswith("SAE"), method))
    colours = {method: COLOURS[i % len(COLOURS)] for i, method in enumerate(methods)}
    ends_left = _panel(left, "all blocks", [p for p in points if not p.autoencoder], lambda p: p.fvu, colours)
    ends_right = _panel(right, "the untransformed block", points, lambda p: p.fvu_identity, colours)
    left.set_ylabel("fraction of variance unexplained", color=INK)
    _scale(left, points)
    handles = {line.get_label(): line for line in right.get_lines() if not str(line.get_label()).startswith("_")}
    ordered = [(handles[method], method) for method in methods]
    figure.legend(
        *zip(*ordered, strict=True),
        loc="upper left",
        bbox_to_anchor=(0.06, 0.925),
        ncols=3,
        frameon=False,
        fontsize=9.5,
        handlelength=3,
    )
    figure.suptitle(title, x=0.065, y=0.975, ha="left", fontsize=13, fontweight="bold", color=INK)
    figure.text(0.065, 0.025, CAPTION, fontsize=8.5, color=FAINT)
    figure.subplots_adjust(left=0.075, right=0.975, top=0.78, bottom=0.165, wspace=0.07)
    _label(left, ends_left)
    _label(right, ends_right)
    return to_bytes(figure, form)


def to_bytes(figure: Figure, form: str) -> bytes:
    """A figure's file, as one of `FORMATS`, which says who drew it."""
    file = io.BytesIO()
    named = {"png": {"Software": DRAWN_BY}, "svg": {"Creator": DRAWN_BY, "Date": None}, "pdf": {"Creator": DRAWN_BY}}
    figure.savefig(file, format=form, metadata=named[form])
    return file.getvalue()


def frame(axes: Axes, *, ink: str = INK, grid: str = GRID, edge: str = EDGE) -> None:
    """The look of all axes: a faint grid, edges at the left and below alone, no ticks."""
    axes.grid(color=grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(edge)
    axes.tick_params(which="both", colors=ink, length=0)


def refuse_other_file(path: Path) -> None:
    """ValueError if a file stands there that is no figure of this program."""
    if path.exists() and not (path.is_file() and DRAWN_BY.encode() in path.read_bytes()):
        raise ValueError(f"figure: {path} exists and was not drawn by this program; name another file")


def _panel(
    axes: Axes, title: str, points: Sequence[Point], height: Callable[[Point], float], colours: dict[str, str]
) -> "list[_End]":
    """Draw the lines; where each ends."""
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel("active features a sample (L0)", color=INK)
    frame(axes)
    ends: list[_End] = []
    for series in _series(points):
        look: dict[str, Any] = {"color": colours[series[0].method], "label": series[0].method}
        dashes = (0, (4, 2)) if series[0].autoencoder else "solid"
        fill = "white" if series[0].autoencoder else look["color"]
        x, y = [p.l0 for p in series], [height(p) for p in series]
        axes.plot(x, y, linewidth=1.6, linestyle=dashes, marker="o", markerfacecolor=fill, markersize=5.5, **look)
        for place, point in enumerate(series):
            if place == len(series) - 1 or series[place + 1].dict_size != point.dict_size:
                ends.append(_End(x[place], y[place], f"{point.dict_size:,}", look["color"]))
    return ends


class _End(NamedTuple):
    """Where a line ends, and what is written there."""

    x: float
    y: float
    text: str
    colour: str


def _label(axes: Axes, ends: Sequence[_End]) -> None:
    """Write beside the ends, from low to high, each far enough above the one before to be read."""
    points_per_pixel = 72 / axes.figure.dpi
    at = {end: axes.transData.transform((end.x, end.y)) * points_per_pixel for end in ends}
    written: list[tuple[float, float]] = []
    for end in sorted(ends, key=lambda end: end.y):
        x, y = at[end]
        near = [above for beside, above in written if abs(beside - x) < 4 * LABEL_POINTS]
        height = max([y, *(above + LABEL_POINTS + 1 for above in near if above > y - LABEL_POINTS - 1)])
        written.append((x, height))
        axes.annotate(end.text, (end.x, end.y), xytext=(7, height - y), color=end.colour, **_BESIDE)


def _series(points: Sequence[Point]) -> list[list[Point]]:
    """Lines: along L0 for each size of a method, where a size has several; else along the sizes."""
    series = []
    for _, same_method in groupby(sorted(points, key=lambda p: p.method), key=lambda p: p.method):
        by_size = sorted(same_method, key=lambda p: (p.dict_size, p.l0))
        lines = [list(line) for _, line in groupby(by_size, key=lambda p: p.dict_size)]
        series += lines if any(len(line) > 1 for line in lines) else [by_size]
    return series


def _scale(axes: Axes, points: Sequence[Point]) -> None:
    """Logarithmic in L0; a little further than the points reach."""
    heights = [height for p in points for height in ((p.fvu_identity,) if p.autoencoder else (p.fvu, p.fvu_identity))]
    axes.set_xscale("log")
    axes.set_xlim(0.75 * min(p.l0 for p in points), 1.6 * max(p.l0 for p in points))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(max(0, 0.75 * min(heights)), 1.12 * max(heights))


def _in_print(group_name: str) -> str:
    """`D_32` with its number set low."""
    letter, _, number = group_name.partition("_")
    return f"{letter}$_{{{number}}}$"
