"""Plain values from JSON as the record that they should be: every field there, of its type, and no other."""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def record_of(kind: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """The dataclass instance of `values`; a float takes a whole number, nothing else is converted.

    Raises:
        ValueError: a field is missing, unknown, of another type, or refused by the record itself.
    """
    assert is_dataclass(kind), "a record is a dataclass"
    known = set(kind.__dataclass_fields__)
    if unknown := sorted(set(map(str, values)) - known):
        raise ValueError(f"{where}: unknown fields {unknown} found, expected some of {sorted(known)}")
    try:
        return _adapter(kind).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        found = f"{first['input']!r:.40} found, expected"
        said = first["msg"].removeprefix("Value error, ").replace("Input should be", found)
        raise ValueError(": ".join(filter(None, [where, place, said]))) from None


@lru_cache(maxsize=64)
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
