"""JSON objects in storage, each with a hash of its own content (`gc_core.io.artefacts`)."""

import json
import math
from collections.abc import Mapping
from typing import Any

from gc_core.io import objects
from gc_core.io.artefacts import DamagedError, sealed, unsealed
from gc_core.io.location import Location


def read_json(location: Location, name: str) -> dict[str, Any]:
    """A JSON object, whose own hash is checked where it has one.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not JSON, no JSON object, or was changed since it was written.
    """
    return unsealed(parse_json(objects.read(location, name), location / name), location / name)


def write_json(location: Location, name: str, record: Mapping[str, Any]) -> None:
    """Replace a JSON object, indented for people, with its own hash; NaN and infinities become null."""
    objects.write(location, name, json_bytes(sealed(finite(record))))


def write_json_once(location: Location, name: str, record: Mapping[str, Any]) -> bool:
    """Write a JSON object like `write_json` unless it exists; False if it did."""
    return objects.write_once(location, name, json_bytes(sealed(finite(record))))


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """JSON, indented for people."""
    return json.dumps(record, indent=1, sort_keys=True, allow_nan=False).encode()


def parse_json(content: bytes, where: str | Location) -> dict[str, Any]:
    """A JSON object from outside; NaN, which JSON does not know, is null.

    Raises:
        DamagedError: it is not JSON, or no object.
    """
    try:
        parsed = json.loads(content, parse_constant=lambda constant: None)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where}: not readable as JSON ({str(error) or type(error).__name__})") from None
    if not isinstance(parsed, dict):
        raise DamagedError(f"{where}: {type(parsed).__name__} found, expected a JSON object")
    return parsed


def finite(value: Any) -> Any:
    """Replace numbers that are not finite by None, in plain values."""
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
