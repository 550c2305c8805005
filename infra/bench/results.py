"""Results as a file: a benchmark replaces what it wrote earlier, and nothing else."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def write_results(path: Path, results: Any) -> None:
    """Write JSON: one row of figures, or a list of rows; over nothing but earlier results with figures of these names.

    Raises:
        ValueError: another file stands there.
    """
    if path.exists() and not _are_alike(path.read_bytes(), results):
        raise ValueError(f"{path}: holds something else, expected earlier results of this benchmark; name another file")
    path.write_text(json.dumps(results, indent=1) + "\n")


def collected(rows: Iterable[Row], path: Path | None) -> list[Row]:
    """All rows, which are dataclasses; with a path, those so far are written there whenever one comes.

    Raises:
        ValueError: another file stands there.
    """
    so_far: list[Row] = []
    for row in rows:
        so_far.append(row)
        if path is not None:
            write_results(path, [asdict(each) for each in so_far])
    return so_far


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
