"""The laws of a sweep: what held-out FVU and families do as size, compute or active features grow."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gc_core.evaluate.figure import WORDS
from gc_core.sweep.laws import PowerLaw, TooFew, fit
from gc_core.sweep.table import Row

FINISHED = ("kept", "trained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the rows of a sweep."""

    of: str
    """Name of y."""
    against: str
    """Name of x."""
    y: Callable[[Row], float | None]
    x: Callable[[Row], float | None]
    series: Callable[[Row], str]
    """What stays the same along a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One line's points and their law."""

    of: str
    against: str
    series: str
    rows: tuple[Row, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    law: PowerLaw | TooFew

    def to_json(self) -> dict[str, Any]:
        """Plain values; the points by the crosscoders' names."""
        names = [row.name for row in self.rows]
        points = [{"name": n, "x": x, "y": y} for n, x, y in zip(names, self.x, self.y, strict=True)]
        law = asdict(self.law) if isinstance(self.law, PowerLaw) else None
        why_not = str(self.law) if isinstance(self.law, TooFew) else None
        about = {"of": self.of, "against": self.against, "series": self.series}
        return {**about, "law": law, "why_not": why_not, "points": points}


def method(row: Row) -> str:
    """Group, poses, encoder and activation, in words."""
    kind = "SAE" if row.group == "trivial" else f"{row.group} {'tied' if row.tying == 'orbit' else 'untied'}"
    reads = f", reads {row.encoder_reads}" if row.tying == "none" and row.encoder_reads != "identity" else ""
    return f"{kind}{reads}, {WORDS.get(str(row.activation), str(row.activation))}"


def sparsity(row: Row) -> str:
    """The number that keeps codes sparse."""
    if row.activation == "l1":
        return f"{row.l1_coefficient:.3g}"
    return f"{row.k}" if row.activation != "jumprelu" else f"{row.jumprelu_coefficient:.3g}"


def but_size(row: Row) -> str:
    """What stays the same while the dictionary grows."""
    return f"{method(row)} {sparsity(row)}{_rate(row)}"


def but_sparsity(row: Row) -> str:
    """What stays the same while codes grow denser."""
    return f"{method(row)}, {row.dict_size:,} features"


FVU_AGAINST_SIZE = Question(
    of="held-out FVU",
    against="features F",
    y=lambda row: row.held_out_fvu,
    x=lambda row: row.dict_size,
    series=but_size,
)
FVU_AGAINST_COMPUTE = Question(
    of="held-out FVU", against="training FLOP", y=lambda row: row.held_out_fvu, x=lambda row: row.flop, series=but_size
)
FVU_AGAINST_L0 = Question(
    of="held-out FVU", against="active features L0", y=lambda row: row.held_out_fvu, x=lambda row: row.l0,
    series=but_sparsity,
)  # fmt: skip
FAMILIES_AGAINST_SIZE = Question(
    of="families", against="features F", y=lambda row: row.families, x=lambda row: row.dict_size, series=but_size
)
QUESTIONS = (FVU_AGAINST_SIZE, FVU_AGAINST_COMPUTE, FVU_AGAINST_L0, FAMILIES_AGAINST_SIZE)


def fits_of(rows: Sequence[Row], question: Question) -> list[Fit]:
    """A line's law for each series of finished crosscoders, points in the order of x; those without a logarithm are in
    the table alone."""
    by_series: dict[Hashable, list[tuple[float, float, Row]]] = {}
    for row in rows:
        if row.state not in FINISHED:
            continue
        x, y = question.x(row), question.y(row)
        if x is not None and y is not None and 0 < x < math.inf and 0 < y < math.inf:
            by_series.setdefault(question.series(row), []).append((x, y, row))
    return [_fit(question, str(series), points) for series, points in by_series.items()]


def _fit(question: Question, series: str, points: list[tuple[float, float, Row]]) -> Fit:
    x, y, rows = zip(*sorted(points, key=lambda point: point[:2]), strict=True)
    return Fit(of=question.of, against=question.against, series=series, rows=rows, x=x, y=y, law=fit(x, y))


def _rate(row: Row) -> str:
    """The learning rate's default follows from the size, so that it tells lines apart only where it was asked for;
    then it stands in the name."""
    return f", rate {row.learning_rate:.3g}" if "-lr_" in row.name else ""
