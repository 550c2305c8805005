"""The end of a sweep in the terminal: the table of its crosscoders, what did not end well, the laws, and the places."""

from collections.abc import Sequence

from gc_core.io.run_folder import RunFolder
from gc_core.sweep.fits import FVU_AGAINST_SIZE, fits_of
from gc_core.sweep.laws import PowerLaw
from gc_core.sweep.page import interval, number
from gc_core.sweep.table import Row
from jobs.common import console


def show(run: RunFolder, sweep: str, rows: Sequence[Row]) -> None:
    """The table in the terminal, the laws of size, and where everything is."""
    columns = ["crosscoder", "", "FVU", "95% over images", "L0", "features", "families", "samples/s", "device s"]
    console.table(f"sweep {sweep}", columns, [_columns(row) for row in rows])
    for row in rows:
        if row.why:
            console.say(f"{row.state:<8} {row.name}: {row.why}")
    folder = run.sweep(sweep)
    laws = [(fit.series, _law(fit.law)) for fit in fits_of(rows, FVU_AGAINST_SIZE)]
    places = [("page", f"{folder / 'index.html'}"), ("table", f"{folder / 'crosscoders.parquet'}")]
    console.summary("held-out FVU against features F", [*laws, *places, ("laws", f"{folder / 'fits.json'}")])


def _law(law: object) -> str:
    if not isinstance(law, PowerLaw):
        return str(law)
    floor = f" + {number(law.floor)}" if law.floor else ""
    return f"{number(law.scale)} F^{number(-law.exponent)}{floor}, exponent 95% {interval(law.exponent_interval)}"


def _columns(row: Row) -> list[str]:
    low, high = row.held_out_fvu_low, row.held_out_fvu_high
    bounds_of_fvu = "" if low is None or high is None else interval((low, high))
    numbers = [number(each) for each in (row.l0, row.dict_size, row.families, row.samples_per_s, row.device_s)]
    return [row.name, row.state, number(row.held_out_fvu), bounds_of_fvu, *numbers]
