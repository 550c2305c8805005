"""`python -m infra.figures chance`, and the like: each module of this package named here draws one figure."""

import sys

from infra.named_modules import run

FIGURES = {
    "chance": "strength and p-value of mirrors: planted ones, none, and one harmonic in one direction",
    "separation": "how families and harmonics keep kinds of stimuli apart, of results of `infra.bench separation`",
    "linear": "how linearly rotations act in each layer, of results of `infra.bench linear`",
    "manifolds": "how well each shape is told by one family, of results of `infra.bench manifolds`",
}


def main(args: list[str]) -> None:
    """Draw the figure that the first argument names."""
    run("infra.figures", FIGURES, args)


if __name__ == "__main__":
    main(sys.argv[1:])
