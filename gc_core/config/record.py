"""What all configs have in common: checked when made, to JSON and back, a fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from gc_core import bounds
from gc_core.io.typed import record_of


@dataclass(frozen=True, kw_only=True)
class Config:
    """A record that goes to JSON and back; a field with a fixed choice of words takes no other."""

    LATER: ClassVar[Mapping[str, Any]] = {}
    """Fields that earlier versions did not have, with the value that says what those did. A field with that value is
    left out of the JSON and of the fingerprint: what was made before keeps its identity, and its meaning."""
    BOUNDS: ClassVar[Mapping[str, bounds.Bound]] = {}
    """Bounds of every field that is a number."""

    def __post_init__(self) -> None:
        bounds.refuse_text(self)
        bounds.refuse_numbers(self, self.BOUNDS)
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and (value := getattr(self, name)) not in get_args(kind):
                raise ValueError(f"{name}: found {value!r:.80}, expected one of {', '.join(get_args(kind))}")

    def to_json(self) -> dict[str, Any]:
        """Plain values by field name."""
        return {name: value for name, value in asdict(self).items() if not self._is_as_before(name, value)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The record from `to_json`'s values.

        Raises:
            ValueError: a field is unknown or missing (written by another version) or its value is refused.
        """
        if missing := sorted({f.name for f in fields(cls)} - values.keys() - cls.LATER.keys()):
            found = f"{cls.__name__}: no {', '.join(missing)} found"
            raise ValueError(
                f"{found}, written by a version that did not know them; use that version, or another --name or --out"
            )
        return record_of(cls, {**cls.LATER, **values}, where=cls.__name__)

    def fingerprint(self) -> str:
        """16 hex digits that differ whenever a field differs."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: Self) -> list[str]:
        """`field: mine, not theirs` for each field that differs."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name}: {mine[name]!r}, not {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]

    @classmethod
    def _is_as_before(cls, name: str, value: Any) -> bool:
        return name in cls.LATER and value == cls.LATER[name]
