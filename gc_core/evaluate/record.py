"""`evaluation.json` beside a crosscoder: everything that was ever measured of it, each kind as it was measured last."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gc_core.evaluate.downstream import Downstream
from gc_core.evaluate.held_out import HeldOut
from gc_core.evaluate.stability import Stability
from gc_core.io.artefacts import DamagedError
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.run_folder import RunFolder

FILE = "evaluation.json"


def file_name(step: int | None) -> str:
    """File name of a finished crosscoder's evaluation, or of its checkpoint's at a step."""
    return FILE if step is None else f"evaluation-step-{step:08}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one evaluation measured of one crosscoder."""

    held_out: HeldOut
    stability: Mapping[str, Stability]
    """Stability by the name of the crosscoder compared with."""
    downstream: Downstream | None
    """None where no classifier was given."""


def write_evaluation(run: RunFolder, name: str, evaluation: Evaluation, step: int | None = None) -> None:
    """Put the new measurements into the file; older ones of other kinds stay. With a step, of its checkpoint."""
    known = read_evaluation(run, name, step) or {}
    stability = {other: asdict(measured) for other, measured in evaluation.stability.items()}
    record = {"held_out": asdict(evaluation.held_out), "stability": {**known.get("stability", {}), **stability}}
    if evaluation.downstream is not None:
        record["downstream"] = asdict(evaluation.downstream)
    write_json(run.crosscoder(name), file_name(step), {**known, **record})


def read_evaluation(run: RunFolder, name: str, step: int | None = None) -> dict[str, Any] | None:
    """The file's record; None where nothing was measured. With a step, of its checkpoint.

    Raises:
        DamagedError: it is no evaluation.
    """
    try:
        record = read_json(run.crosscoder(name), file_name(step))
    except FileNotFoundError:
        return None
    kinds = (record.get("held_out"), record.get("stability", {}), record.get("downstream", {}))
    if not all(isinstance(kind, dict) for kind in kinds):
        where = run.crosscoder(name) / file_name(step)
        raise DamagedError(f"{where}: no evaluation found there; delete it, then run jobs.evaluate again")
    return record
