"""Why images cannot be used: counted by kind, told to a person, and the end of a run where they are too many."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from gc_core.images.ref import listed_in

MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One kind of reason."""

    count: int
    example: str
    """Where such an image is, and the details."""


Reasons = Mapping[str, Reason]
"""Reasons by kind, such as `empty file`."""


def kind_of(error: str) -> str:
    """The kind of a reason `KIND (details)`."""
    return error.partition(" (")[0]


def count(records: pa.Table, *statuses: str) -> Reasons:
    """Reasons of the records (rows of a manifest) with one of these statuses, in the order met."""
    wanted = records.filter(
        pc.call_function("is_in", [records["status"]], pc.SetLookupOptions(value_set=pa.array(statuses, pa.string())))
    )
    counts: dict[str, Reason] = {}
    for entry in listed_in(wanted):
        kind, place = kind_of(entry.error), "/".join(filter(None, (entry.ref.url, entry.ref.member)))
        known = counts.get(kind, Reason(count=0, example=place + entry.error.removeprefix(kind)))
        counts[kind] = Reason(count=known.count + 1, example=known.example)
    return counts


def together(one: Reasons, other: Reasons) -> Reasons:
    """The counts of both, with the examples of the first where it has them."""
    joined = dict(one)
    for kind, reason in other.items():
        known = joined.get(kind, Reason(count=0, example=reason.example))
        joined[kind] = Reason(count=known.count + reason.count, example=known.example)
    return joined


def describe(reasons: Reasons, at_most: int = MOST_NAMED) -> str:
    """`12 empty file, 3 damaged image`, the most frequent first; the rest are counted together."""
    ranked = _ranked(reasons)
    named = [f"{reason.count:,} {kind}" for kind, reason in ranked[:at_most]]
    rest = sum(reason.count for _, reason in ranked[at_most:])
    return ", ".join([*named, f"{rest:,} for other reasons"] if rest else named)


def refuse_too_many(reasons: Reasons, *, num_images: int, max_fraction: float, images: str) -> None:
    """ValueError if more than a fraction of the images are bad: the most common reasons, with an example of each."""
    bad = sum(reason.count for reason in reasons.values())
    if bad <= max_fraction * num_images:
        return
    named = "; ".join(
        f"{reason.count:,} {kind}, such as {reason.example}" for kind, reason in _ranked(reasons)[:MOST_NAMED]
    )
    allowed = f"at least {bad:,} of {num_images:,} images are bad, more than --max-bad-fraction {max_fraction:g}"
    raise ValueError(f"images: {images}: {allowed}: {named}. Fix them or raise the fraction; the index continues")


def _ranked(reasons: Reasons) -> list[tuple[str, Reason]]:
    return sorted(reasons.items(), key=lambda item: (-item[1].count, item[0]))
