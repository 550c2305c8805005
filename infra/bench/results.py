"""Results as a file: a benchmark replaces what it wrote earlier, and nothing else."""

import json
from pathlib import Path
from typing import Any


def write_results(path: Path, results: Any) -> None:
    """Write JSON: one row of figures, or a list of rows; over nothing but earlier results with figures of these names.

    Raises:
        ValueError: another file stands there.
    """
    if path.exists() and not _are_alike(path.read_bytes(), results):
        raise ValueError(f"{path}: holds something else, expected earlier results of this benchmark; name another file")
    path.write_text(json.dumps(results, indent=1) + "\n")


def _are_alike(content: bytes, results: Any) -> bool:
    try:
        stored = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return type(stored) is type(results) and (stored == [] or _names(stored) == _names(results))


def _names(results: Any) -> set[str]:
    """Names of the figures; the first row has them all."""
    first = results[0] if isinstance(results, list) and results else results
    return set(first) if isinstance(first, dict) else set()
