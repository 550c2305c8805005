"""`python -m infra.figures chance`, and the like: each module of this package named here draws one figure."""

import sys
from importlib import import_module

FIGURES = {
    "chance": "strength and p-value of mirrors: planted ones, none, and one harmonic in one direction",
    "separation": "how families and harmonics keep kinds of stimuli apart, of results of `infra.bench separation`",
    "linear": "how linearly rotations act in each layer, of results of `infra.bench linear`",
    "manifolds": "how well each shape is told by one family, of results of `infra.bench manifolds`",
}


def main(args: list[str]) -> None:
    """Draw the figure that the first argument names."""
    if not args or args[0] not in FIGURES:
        print("usage: python -m infra.figures NAME [OPTIONS]\n")
        print("\n".join(f"  {name:11} {what}" for name, what in FIGURES.items()))
        sys.exit(0 if args in ([], ["-h"], ["--help"]) else 2)
    import_module(f"infra.figures.{args[0]}").main(args[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
