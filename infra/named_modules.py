"""`python -m PACKAGE NAME`: runs the module of a package that the first argument names."""

import sys
from collections.abc import Mapping
from importlib import import_module


def run(package: str, modules: Mapping[str, str], args: list[str]) -> None:
    """Call `main` of the module with the other arguments; without a known name list them with what each does."""
    if not args or args[0] not in modules:
        print(f"usage: python -m {package} NAME [OPTIONS]\n")
        print("\n".join(f"  {name:11} {what}" for name, what in modules.items()))
        sys.exit(0 if args in ([], ["-h"], ["--help"]) else 2)
    import_module(f"{package}.{args[0]}").main(args[1:])
