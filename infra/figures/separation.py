"""The paper's two claims: families keep kinds of stimuli apart, and curves differ from lines.

    python -m infra.bench separation --run RUN --json separation.json
    python -m infra.figures separation --json separation.json --out docs/separation.png

Letters: J harmonics of rotation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from infra.figures.paper import BLUE, COLOURS, FAINT, GREEN, INK, ORANGE, draw_results, headed, panels, save

SCORES = {"silhouette": "silhouette of kinds", "rand_index": "Rand index of families"}
LOOKS = {"untied": ("untied crosscoder", BLUE), "sae": ("autoencoder", ORANGE), "tied": ("tied poses", GREEN)}
SHOWN = ("curve", "corner", "line", "grating")
"""Kinds whose harmonics are drawn; others have their rows in the results."""
CAPTION = (
    "Each dot is one seed; hollow: the control, kinds dealt out to the stimuli at random. Tied prototypes are families "
    "by themselves, so they have no Rand index.\nRight: share of what changes under rotation, by harmonic, of untied "
    "features that each kind drives; 95% intervals over features, first seed."
)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.figures separation`."""
    draw_results("separation", draw, ("kind", "seed", "control", "stimuli", *SCORES), args=args, description=__doc__)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The figure's file."""
    title = "Families keep kinds of stimuli apart, and curves differ from lines"
    figure, (*left, right) = panels(3, height=4.6, title=title, caption=CAPTION)
    for axes, (score, heading) in zip(left, SCORES.items(), strict=True):
        headed(axes, heading)
        _dots(axes, rows, score)
    headed(right, "transform blocks, by harmonic", "harmonic of rotation", "share of the changing part")
    untied = next((row for row in rows if row["kind"] == "untied" and not row["control"]), None)
    if untied is not None:
        _harmonics(right, untied)
    save(figure, path)


def _dots(axes: Axes, rows: Sequence[dict[str, Any]], score: str) -> None:
    kinds = [kind for kind in LOOKS if any(row["kind"] == kind for row in rows)]
    for row in rows:
        if row["kind"] in kinds and row[score] is not None:
            place, colour = kinds.index(row["kind"]), LOOKS[row["kind"]][1]
            fill = "white" if row["control"] else colour
            beside = place + 0.09 * (row["seed"] % 5 - 1)
            axes.plot([beside], [row[score]], "o", color=colour, markerfacecolor=fill, markersize=6)
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.set_xticks(range(len(kinds)), [LOOKS[kind][0].replace(" ", "\n") for kind in kinds], color=INK)
    axes.set_xlim(-0.5, len(kinds) - 0.5)
    axes.grid(visible=False, axis="x")


def _harmonics(axes: Axes, row: dict[str, Any]) -> None:
    for number, (kind, colour) in enumerate(zip(SHOWN, COLOURS, strict=False)):
        share_J = row["stimuli"].get(kind, {}).get("harmonics", [])
        if share_J:
            at = [j + 1 + 0.07 * (number - (len(SHOWN) - 1) / 2) for j in range(len(share_J))]
            mean_J, low_J, high_J = zip(*share_J, strict=True)
            axes.plot(at, mean_J, "-o", color=colour, linewidth=1.4, markersize=4.5, label=f"{kind}s")
            axes.vlines(at, low_J, high_J, color=colour, linewidth=1.4)
    axes.set_ylim(0, None)
    axes.set_xticks(range(1, 5))
    axes.legend(frameon=False, fontsize=9, loc="upper right")
