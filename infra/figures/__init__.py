"""Figures of the documentation, each drawn again by one command: `python -m infra.figures NAME --help`."""
