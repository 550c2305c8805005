"""RUN/sweeps/NAME: the table, the laws and the page of a sweep, and a record of costs that outlasts interruptions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gc_core.analyse.artefacts import OF_A_SWEEP, SWEEP_RECORD
from gc_core.io import objects, parquet
from gc_core.io.artefacts import DamagedError, digest
from gc_core.io.json_objects import finite, json_bytes, read_json, write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.sweep.fits import QUESTIONS, fits_of
from gc_core.sweep.page import SweepPage, render
from gc_core.sweep.table import Cost, Row, to_table

FORMAT_VERSION = 1
_, TABLE, FITS, PAGE = OF_A_SWEEP


def read_costs(run: RunFolder, sweep: str) -> dict[str, Cost]:
    """What each crosscoder took so far, by name; empty before anything was trained.

    Raises:
        DamagedError: the record says something else.
    """
    try:
        record = read_json(run.sweep(sweep), SWEEP_RECORD)
        return {name: Cost(**cost) for name, cost in record["costs"].items()}
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, AttributeError):
        where = run.sweep(sweep) / SWEEP_RECORD
        raise DamagedError(f"{where}: no costs of a sweep found; delete it, or choose another --name") from None


def write_costs(run: RunFolder, sweep: str, costs: Mapping[str, Cost]) -> None:
    """Keep what was spent while the sweep goes on; files of an earlier report are no longer vouched for."""
    write_json(run.sweep(sweep), SWEEP_RECORD, _record(costs, {}))


def write_report(
    run: RunFolder, sweep: str, rows: Sequence[Row], costs: Mapping[str, Cost], *, device: str, footer: str
) -> Location:
    """Write table, laws and page, the record with their hashes last; where the page is."""
    folder = run.sweep(sweep)
    page = SweepPage(name=sweep, run_url=run.url, rows=rows, device=device, footer=footer)
    laws = [fit.to_json() for question in QUESTIONS for fit in fits_of(rows, question)]
    files = {
        TABLE: (parquet.to_bytes(to_table(list(rows))), None),
        FITS: (json_bytes({"fits": finite(laws)}), "application/json"),
        PAGE: (render(page).encode(), "text/html"),
    }
    write_costs(run, sweep, costs)
    for name, (content, media_type) in files.items():
        objects.write(folder, name, content, media_type=media_type)
    write_json(folder, SWEEP_RECORD, _record(costs, {name: digest(content) for name, (content, _) in files.items()}))
    return folder / PAGE


def _record(costs: Mapping[str, Cost], hashes: Mapping[str, str]) -> dict[str, Any]:
    spent = {name: asdict(cost) for name, cost in costs.items()}
    return {"format_version": FORMAT_VERSION, "costs": spent, "files": dict(hashes)}
