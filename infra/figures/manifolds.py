"""How well each shape of the toy of manifolds is told by one family.

python -m infra.bench manifolds --json manifolds.json
python -m infra.figures manifolds --json manifolds.json --out docs/manifolds.png
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from infra.figures.paper import INK, draw_results, headed, panels, save

NAMES = {
    "oracle": "oracle: spaces and what is active",
    "tied": "tied poses",
    "untied": "untied crosscoder",
    "blocks": "block-sparse featurizer",
    "sae": "autoencoder",
    "untrained": "tied poses, untrained (control)",
}
TURNED = ("circle", "disk", "sphere", "torus", "moebius")
"""Shapes that the group turns about an axis of theirs."""
CAPTION = (
    "Share of a factor's variance that the best single family tells, mean over its factors and all seeds.\n"
    "Left of the black rule the group turns the shape, right of it nothing is turned."
)


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.figures manifolds`."""
    draw_results("manifolds", draw, ("kind", "k", "seed", "shapes"), args=args, description=__doc__)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The figure's file: a field for each kind and shape, its number in it."""
    by_kind = {kind: [row for row in rows if (row["kind"], row["k"]) == kind] for kind in _kinds(rows)}
    shapes = sorted(rows[0]["shapes"], key=lambda shape: (shape not in TURNED, shape))
    figure, (axes,) = panels(1, height=4.4, title="Which shapes are one family?", caption=CAPTION, bottom=0.2)
    figure.subplots_adjust(left=0.25, top=0.88)
    told = [[mean(row["shapes"][shape] for row in some) for shape in shapes] for some in by_kind.values()]
    axes.imshow(told, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    headed(axes, "")
    axes.grid(visible=False)
    for y, values in enumerate(told):
        for x, value in enumerate(values):
            axes.text(
                x, y, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else INK, fontsize=9.5
            )
    axes.axvline(sum(shape in TURNED for shape in shapes) - 0.5, color=INK, linewidth=1.2)
    axes.set_xticks(range(len(shapes)), [shape.replace("_", " ") for shape in shapes])
    axes.set_yticks(range(len(by_kind)), [_named(*kind, list(by_kind)) for kind in by_kind])
    axes.spines[:].set_visible(False)
    save(figure, path)


def _kinds(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """Those with a name, in its order, by their active features."""
    return sorted({(row["kind"], row["k"]) for row in rows if row["kind"] in NAMES}, key=lambda each: _place(*each))


def _place(kind: str, k: int) -> tuple[int, int]:
    return list(NAMES).index(kind), k


def _named(kind: str, k: int, among: Sequence[tuple[str, int]]) -> str:
    """With the number of active features, where the kind stands there more than once."""
    return NAMES[kind] + (f", k = {k}" if sum(other == kind for other, _ in among) > 1 else "")
