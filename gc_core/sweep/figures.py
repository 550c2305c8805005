"""Figures of a sweep as SVG inside a page, in the page's own colours: dark on light paper, light on dark."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from gc_core.evaluate.figure import COLOURS, frame
from gc_core.sweep.fits import Fit
from gc_core.sweep.laws import PowerLaw

INK, LINE = "#010203", "#040506"
"""Stand for the page's own colours, which take their place when all is drawn."""
OWN = {COLOURS[0]: "var(--rot)", COLOURS[1]: "var(--mir)", COLOURS[-1]: "var(--quiet)"}
"""Lines' colours that the page has too, lighter on dark paper."""
IN_THE_PAGE = {INK: "currentColor", LINE: "var(--line)", **{colour.lower(): own for colour, own in OWN.items()}}
STYLE = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.parse_math": False}
WIDTH, HEIGHT = 5.2, 3.9
"""Inches of 72 units."""
FEW = 8
"""So many different x get a tick each."""


def draw(fits: Sequence[Fit], colours: dict[str, str], *, prefix: str) -> str:
    """One figure as an SVG element: points with their 95% intervals over images, and laws where there are any.

    `prefix` keeps its names apart from those of other figures of the page.
    """
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": prefix}
    with mpl.rc_context(style):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.subplots()
        _frame(axes, fits)
        for fit in fits:
            _line(axes, fit, colours[fit.series])
        _scales(axes, fits)
        figure.subplots_adjust(left=0.125, right=0.975, top=0.97, bottom=0.14)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _in_the_page(file.getvalue(), prefix, fits)


def colours_of(series: Sequence[str]) -> dict[str, str]:
    """A colour for each line, the same in every figure."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(series))}


def in_the_page(colour: str) -> str:
    """A line's colour as the page writes it."""
    return OWN.get(colour, colour)


def _frame(axes: Axes, fits: Sequence[Fit]) -> None:
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel(fits[0].against, color=INK)
    axes.set_ylabel(fits[0].of, color=INK)
    frame(axes, ink=INK, grid=LINE, edge=LINE)


def _line(axes: Axes, fit: Fit, colour: str) -> None:
    x_N, y_N = np.array(fit.x), np.array(fit.y)
    if fit.of.endswith("FVU"):
        low_N, high_N = (np.array([bound or y for bound, y in zip(b, fit.y, strict=True)]) for b in _bounds(fit))
        axes.vlines(x_N, np.minimum(low_N, y_N), np.maximum(high_N, y_N), color=colour, linewidth=1.2, alpha=0.45)
    axes.plot(x_N, y_N, "o", color=colour, markersize=6)
    if isinstance(fit.law, PowerLaw):
        along_N = np.geomspace(x_N.min(), x_N.max(), 60)
        axes.plot(along_N, fit.law.at(along_N), color=colour, linewidth=1.6)
    else:
        axes.plot(x_N, y_N, color=colour, linewidth=1, linestyle=(0, (2, 3)))


def _bounds(fit: Fit) -> tuple[list[float | None], list[float | None]]:
    return [row.held_out_fvu_low for row in fit.rows], [row.held_out_fvu_high for row in fit.rows]


def _scales(axes: Axes, fits: Sequence[Fit]) -> None:
    """Ticks at the points themselves where they are few, and numbers without powers of ten that would be one tick."""
    different = np.unique(np.concatenate([fit.x for fit in fits]))
    number = FuncFormatter(lambda value, _: _short(value))
    if len(different) <= FEW and _are_apart(different):
        axes.set_xticks(different)
    axes.xaxis.set_major_formatter(number)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter(number)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.margins(x=0.08, y=0.12)


def _are_apart(x_N: NDArray[np.float64]) -> bool:
    span = np.log(x_N[-1] / x_N[0]) if len(x_N) > 1 else 0.0
    return len(x_N) < 2 or bool(np.diff(np.log(x_N)).min() > 0.09 * span)


def _short(value: float) -> str:
    if value >= 1e6:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _in_the_page(svg: str, prefix: str, fits: Sequence[Fit]) -> str:
    """The element alone, its names its own, its colours the page's; what it shows, in words, for who cannot see it."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", element, flags=re.DOTALL)
    element = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", element)
    for stands, colour in IN_THE_PAGE.items():
        element = element.replace(stands, colour)
    label = f"{fits[0].of} against {fits[0].against}"
    return element.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
