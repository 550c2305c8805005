"""The page of a sweep: one static file without scripts that opens from disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gc_core.sweep.figures import colours_of, draw, in_the_page
from gc_core.sweep.fits import (
    FAMILIES_AGAINST_SIZE,
    FINISHED,
    FVU_AGAINST_COMPUTE,
    FVU_AGAINST_L0,
    FVU_AGAINST_SIZE,
    QUESTIONS,
    Fit,
    Question,
    fits_of,
)
from gc_core.sweep.laws import Interval, TooFew
from gc_core.sweep.table import Row

HEADINGS = ["crosscoder", "held-out FVU", "F", "L0", "dead", "families", "steps", "FLOP", "samples/s", "device s"]
TOGETHER = (
    ("size", (FVU_AGAINST_SIZE, FVU_AGAINST_COMPUTE, FAMILIES_AGAINST_SIZE)),
    ("sparsity", (FVU_AGAINST_L0,)),
)
"""Questions whose lines are the same, so that one key stands above their figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPage:
    """What the page says of a sweep."""

    name: str
    run_url: str
    rows: Sequence[Row]
    device: str
    """What device seconds are of, such as `CPU core`."""
    footer: str
    """How it was made."""


def render(page: SweepPage) -> str:
    """The page as one HTML text, which refers to nothing outside itself; whatever names hold, it is text."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("gc_core.sweep"), PackageLoader("gc_core.atlas")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = environment.get_template("atlas.css").render() + environment.get_template("sweep.css").render()
    return environment.get_template("sweep.html.j2").render(page=_view(page), style=Markup(style))


def interval(bounds: Interval | None) -> str:
    """`0.12 to 0.15`."""
    return "" if bounds is None else f"{number(bounds[0])} to {number(bounds[1])}"


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    if value is None:
        return "\N{EN DASH}"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _view(page: SweepPage) -> dict[str, Any]:
    best = _best(page.rows)
    return {
        "name": page.name,
        "run_url": page.run_url,
        "lede": _lede(page.rows),
        "facts": _facts(page, best),
        "figures": [each for kind, questions in TOGETHER if (each := _figures(page.rows, kind, questions))],
        "laws": [_law(fit) for question in QUESTIONS for fit in _asked(page.rows, question)],
        "headings": HEADINGS,
        "rows": [_row(row, row in best) for row in page.rows],
        "reasons": [(row.name, row.why) for row in page.rows if row.why],
        "footer": page.footer,
    }


def _best(rows: Sequence[Row]) -> list[Row]:
    """The finished crosscoder of least FVU of each group; one of several."""
    groups: dict[str | None, list[Row]] = {}
    for row in rows:
        if row.state in FINISHED and row.held_out_fvu is not None:
            groups.setdefault(row.group, []).append(row)
    every = [min(each, key=lambda row: row.held_out_fvu or 0) for each in groups.values()]
    return every if sum(map(len, groups.values())) > len(every) else []


def _lede(rows: Sequence[Row]) -> str:
    counted = {state: sum(row.state == state for row in rows) for state in ("trained", "kept", "stopped", "failed")}
    words = {"trained": "trained", "kept": "kept from before", "stopped": "stopped on the way", "failed": "failed"}
    told = ", ".join(f"{count:,} {words[state]}" for state, count in counted.items() if count)
    return f"{len(rows):,} crosscoders on one store of activations: {told}."


def _facts(page: SweepPage, best: Sequence[Row]) -> list[tuple[str, str]]:
    samples = max((row.samples or 0 for row in page.rows), default=0)
    device_s = sum(row.device_s or 0 for row in page.rows)
    facts = [(f"least FVU, {'SAE' if row.group == 'trivial' else row.group}", number(row.held_out_fvu)) for row in best]
    sizes = sorted({row.dict_size for row in page.rows if row.dict_size})
    facts += [("features F", f"{sizes[0]:,} to {sizes[-1]:,}")] if len(sizes) > 1 else []
    facts += [("samples seen by each", f"{samples:,}")] if samples else []
    facts += [(f"{page.device} seconds", f"{device_s:,.0f}")] if device_s else []
    flop = sum(row.flop or 0 for row in page.rows)
    return [*facts, *([("FLOP", f"{flop:.2g}")] if flop else [])]


def _figures(rows: Sequence[Row], kind: str, questions: Sequence[Question]) -> dict[str, Any] | None:
    """Figures of lines that are the same; None where no line has two points."""
    asked = [fits_of(rows, question) for question in questions]
    shown = [fits for fits in asked if any(len(set(fit.x)) > 1 for fit in fits)]
    if not shown:
        return None
    colours = colours_of([fit.series for fits in shown for fit in fits])
    drawn = [
        (_title(fits[0]), Markup(draw(fits, colours, prefix=f"{kind}{place}"))) for place, fits in enumerate(shown)
    ]
    return {"key": [(label, in_the_page(colour)) for label, colour in colours.items()], "drawn": drawn}


def _asked(rows: Sequence[Row], question: Question) -> list[Fit]:
    """The lines of a question that the sweep asks: x differs along one of them, or it is the size."""
    fits = fits_of(rows, question)
    return fits if question is FVU_AGAINST_SIZE or any(len(set(fit.x)) > 1 for fit in fits) else []


def _title(fit: Fit) -> str:
    return f"{fit.of[0].upper()}{fit.of[1:]} against {fit.against}"


def _law(fit: Fit) -> dict[str, Any]:
    about = {"series": fit.series, "what": f"{fit.of} against {fit.against}"}
    if isinstance(fit.law, TooFew):
        return {**about, "why_not": str(fit.law)}
    law = fit.law
    return {
        **about,
        "why_not": "",
        "exponent": number(law.exponent),
        "exponent_interval": interval(law.exponent_interval),
        "scale": number(law.scale),
        "scale_interval": interval(law.scale_interval),
        "floor": f"{number(law.floor)} ({interval(law.floor_interval)})" if law.floor_interval else "none found",
        "points": f"{law.num_points}",
        "r_squared": f"{law.r_squared:.3f}",
    }


def _row(row: Row, best: bool) -> dict[str, Any]:
    low, high = row.held_out_fvu_low, row.held_out_fvu_high
    dead = "\N{EN DASH}" if row.dead_share is None else f"{row.dead_share:.1%}"
    counts = ["\N{EN DASH}" if n is None else f"{n:,}" for n in (row.dict_size, row.families, row.steps)]
    return {
        "name": row.name,
        "state": row.state,
        "best": best,
        "interval": "" if low is None or high is None else interval((low, high)),
        "numbers": [
            number(row.held_out_fvu), counts[0], number(row.l0), dead, counts[1], counts[2],
            number(row.flop), number(row.samples_per_s), number(row.device_s),
        ],
    }  # fmt: skip
