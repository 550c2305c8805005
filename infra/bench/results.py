"""Results as a file: a benchmark replaces an earlier one's file, and no other."""

import json
from pathlib import Path
from typing import Any


def write_results(path: Path, results: Any) -> None:
    """Write JSON, over nothing but JSON.

    Raises:
        ValueError: another file stands there.
    """
    if path.exists():
        try:
            json.loads(path.read_text())
        except ValueError:
            raise ValueError(f"{path}: holds something that is no JSON, expected results; name another file") from None
    path.write_text(json.dumps(results, indent=1) + "\n")
