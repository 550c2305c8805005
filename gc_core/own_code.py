"""Functions of a user's own that an option names as `package.module:function`.

This runs code: only for what a person named on a command line, never for what a store's configuration says.
"""

import importlib
import sys
from pathlib import Path
from typing import Any


def called(text: str, what: str) -> Any:
    """What the function gives, called without arguments; it is found from the current folder too.

    Raises:
        ValueError: there is no such function, or it fails; `what` begins the line.
    """
    module, _, function = text.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), function)()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{what}: {text[:80]} cannot be had ({reason[:200]}); expected package.module:function, a function without"
            " arguments"
        ) from error
