"""What options may be: numbers finite and within bounds, text that a line can show.

No bound is near what anybody needs; they end early what would otherwise be a wait without end, or an error that names
nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MOST_CHARACTERS = 8192
"""Longest text, such as a path or a list of sizes."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Numbers from `least` to `most`."""

    least: float
    most: float
    above_least: bool = False
    """`least` itself is none of them."""

    def refuse(self, name: str, value: float) -> None:
        """Raise ValueError, with the name, for a number that is none of these."""
        if not (self.least < value if self.above_least else self.least <= value):
            expected = "more than" if self.above_least else "at least"
            raise ValueError(
                f"{name}: found {_shown(value)}, expected {self._as_range() or f'{expected} {self.least:g}'}"
            )
        if value > self.most:
            raise ValueError(f"{name}: found {_shown(value)}, expected {self._as_range() or f'at most {self.most:,}'}")

    def _as_range(self) -> str:
        """Both ends of a range within 0..1; empty for others, whose far end would only distract."""
        return f"{self.least:g} to {self.most:g}" if self.most <= 1 else ""


SHARE = Bound(0, 1)
SEED = Bound(0, 2**63 - 1)
"""Range that random generators take."""
FLOAT32 = 3.4e38
"""The largest number of the arithmetic that coefficients are used in."""
WEIGHT = Bound(0, FLOAT32)
POSITIVE = Bound(0, FLOAT32, above_least=True)
PIXELS = Bound(1, 65_535)
"""Longest side that JPEG can record."""
FEATURES = Bound(1, 2**26)
"""67 million: of a group with one element and 480 channels they are 260 GB of weights."""
IMAGES = Bound(1, 10**12)
STIMULI = Bound(1, 10_000_000)
"""They are listed in memory, and no two million of them differ by more than a pixel's rounding."""
SAMPLES = Bound(1, 10**15)
"""A million epochs of a store of a billion samples."""
STEPS = Bound(1, 10**12)
BATCH = Bound(1, 2**24)
SHARD_ROWS = Bound(1, 2**20)
"""A shard is one stored object, held in memory while it is written."""
WORKERS = Bound(1, 1_000_000)
CPUS = Bound(0, 65_536, above_least=True)
GPUS = Bound(0, 1024)
"""GPUs of one worker; CPUS likewise."""


HOURS = Bound(0, 876_000)
"""Up to a century."""
WAIT_MINUTES = Bound(0, 525_600)
"""Up to a year."""
GROW_MINUTES = Bound(0, 525_600, above_least=True)


def refuse_numbers(record: Any, bounds: Mapping[str, Bound], *, prefix: str = "") -> None:
    """Raise ValueError at the first number of a dataclass instance that is outside of its bound; None is no number."""
    for name, bound in bounds.items():
        if (value := getattr(record, name)) is not None:
            bound.refuse(prefix + name, value)


def refuse_text(record: Any) -> None:
    """Raise ValueError at the first field with text that no name or path is: control characters, or too long."""
    for each in fields(record):
        value = getattr(record, each.name)
        for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
            if isinstance(text, str):
                refuse_odd_text(each.name, text)


def refuse_odd_text(name: str, text: str) -> None:
    """Raise ValueError for control characters, such as a line's end, and for more than 8,192 characters."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{name}: found {len(text):,} characters, expected at most {MOST_CHARACTERS:,}")
    if odd := next((each for each in text if ord(each) < 32 or ord(each) == 127), None):
        raise ValueError(f"{name}: found {odd!r} in {text[:80]!r}, expected no control characters")


def _shown(value: float) -> str:
    if isinstance(value, int) and value.bit_length() > 200:
        return f"{'-' if value < 0 else ''}a whole number of {round(value.bit_length() * math.log10(2)):,} digits"
    return str(value)
