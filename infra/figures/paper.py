"""What all figures share: their look, results that they are drawn from, and the file that they become."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gc_core.evaluate.figure import COLOURS, FAINT, INK, file_format, frame, refuse_other_file, to_bytes
from jobs.common import console
from jobs.common.options import cli

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, GREY = COLOURS


def panels(count: int, *, height: float, title: str, caption: str, bottom: float = 0.24) -> tuple[Figure, list[Axes]]:
    """So many axes side by side, under a title and above a caption."""
    figure = Figure(figsize=(10.5, height), dpi=150, facecolor="white")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    figure.suptitle(title, x=0.065, y=0.975, ha="left", fontsize=13, fontweight="bold", color=INK)
    figure.text(0.065, 0.03, caption, fontsize=8.5, color=FAINT)
    figure.subplots_adjust(left=0.075, right=0.975, top=0.84, bottom=bottom, wspace=0.22)
    for each in axes:
        frame(each)
    return figure, axes


def headed(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title and the axes' labels."""
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)


def save(figure: Figure, path: Path) -> None:
    """Write it over nothing but an earlier figure; as PNG, SVG or PDF, by the file's name.

    Raises:
        ValueError: another ending, or another file stands there.
    """
    form = file_format(path.name)
    refuse_other_file(path)
    path.write_bytes(to_bytes(figure, form))


@dataclass(frozen=True, kw_only=True)
class FromResults:
    """Draw a figure of a benchmark's results."""

    json: Path
    """What the benchmark of the same name wrote with --json."""
    out: Path
    """A file that ends in .png, .svg or .pdf."""


def draw_results(
    name: str,
    draw: Callable[[list[dict[str, Any]], Path], None],
    figures: Sequence[str],
    *,
    args: list[str] | None,
    description: str | None,
) -> None:
    """Command line of `python -m infra.figures NAME`, for results of `infra.bench NAME` with these figures."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(FromResults, prog=f"python -m infra.figures {name}", args=args, description=description)
        draw(results(options.json, name, figures), options.out)
        console.say(f"figure: {options.out}")


def results(path: Path, benchmark: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a benchmark's --json file.

    Raises:
        ValueError: there is no such file, or its rows lack one of these figures.
    """
    remedy = f"write it with `python -m infra.bench {benchmark} --json {path}`"
    try:
        rows = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: not found, expected results of a benchmark; {remedy}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: is no JSON, expected results of a benchmark; {remedy}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(each, dict) for each in rows):
        raise ValueError(f"{path}: holds no list of results, expected one; {remedy}")
    for each in rows:
        if lacking := [name for name in names if name not in each]:
            raise ValueError(f"{path}: a result without {', '.join(lacking)}, expected them in all; {remedy}")
    return rows
