"""Tables on the screen."""

from collections.abc import Sequence

from rich.table import Table

from jobs.common import console


def show_table(
    title: str, headings: Sequence[str], lines: Sequence[Sequence[str]], *, left: Sequence[str] = ()
) -> None:
    """Columns of numbers, which stand on the right, and those that are to stand on the left."""
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right")
    for line in lines:
        table.add_row(*line)
    console.console.print(table)


def number(value: float | None, digits: int = 2) -> str:
    """Rounded; nothing for None."""
    return "" if value is None else f"{value:.{digits}f}"
