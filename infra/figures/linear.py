"""How linearly rotations and mirrors act on activations, layer by layer.

python -m infra.bench linear --runs RUNS/* --sources all --json linear.json
python -m infra.figures linear --json linear.json --out docs/linear.png
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes

from infra.figures.paper import BLUE, FAINT, GREEN, GREY, INK, ORANGE, draw_results, headed, panels, save

KINDS = {
    "own": ("a matrix for each element", BLUE),
    "refined": ("powers of one matrix, refined", GREEN),
    "powers": ("powers of one matrix, fitted to one step", ORANGE),
    "same": ("a(x) as it is", GREY),
}
CAPTION = (
    "R² of a(g.x) told from a(x) on stimuli kept apart, mean over the elements but the identity. Filled: quarter turns "
    "and their mirrors, which move pixels\nexactly; hollow: elements that interpolate. The control, matrices fitted to "
    "pairs of different stimuli, lies at the dotted line."
)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.figures linear`."""
    draw_results("linear", draw, ("layer", "exact", "dealt", *KINDS), args=args, description=__doc__)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The figure's file; layers stand in the order of the results."""
    figure, (axes,) = panels(
        1, height=4.6, title="How linear is the network's own action?", caption=CAPTION, bottom=0.18
    )
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    headed(axes, "", "", "R²")
    for number, (kind, (name, colour)) in enumerate(KINDS.items()):
        for exact in (True, False):
            told = [
                _mean([row[kind] for row in rows if (row["layer"], row["exact"]) == (layer, exact)]) for layer in layers
            ]
            at = [place + 0.16 * (number - 1.5) + (0 if exact else 0.07) for place in range(len(layers))]
            label = name if exact else None
            fill = colour if exact else "white"
            axes.plot(at, told, "o", color=colour, markerfacecolor=fill, markersize=7, label=label)
    axes.axhline(mean(row["dealt"] for row in rows), color=FAINT, linewidth=1.2, linestyle="dotted")
    _layers(axes, layers)
    axes.legend(frameon=False, fontsize=9, loc="center right", bbox_to_anchor=(1.0, 0.42))
    save(figure, path)


def _layers(axes: Axes, layers: Sequence[str]) -> None:
    axes.set_xticks(range(len(layers)), layers, color=INK)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.grid(visible=False, axis="x")


def _mean(values: Sequence[float]) -> float:
    """NaN, which is not drawn, where there are none."""
    return mean(values) if values else float("nan")
