"""Training states in a folder, local or on object storage: whole, or not there.

    FOLDER/step-00000200-1f3a9c0e/part-0-of-2.pt

is what the first of two writing workers holds after 200 steps; the number behind the step is the attempt's, so that
parts of an attempt that died never mix with those of the next. Every part appears whole, and a checkpoint counts as
soon as all its parts are there: no worker waits for another, and nobody gathers the whole. Parts are written by torch
and read back without pickle's code.

Letters: F features.
"""

import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from gc_core import bounds
from gc_core.io import objects, parquet
from gc_core.io.artefacts import digest
from gc_core.io.damage import LIBRARY_ERRORS
from gc_core.io.location import Location
from gc_core.parallel.sharded_state import joined, num_parts

METRICS = "metrics.parquet"
FOLDER = r"step-(\d+)-([0-9a-f]+)"
PART = r"part-(\d+)-of-(\d+)\.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which checkpoints stay."""

    last: int = 2
    """The newest; at least 1."""
    best: int = 1
    """Those with the lowest held-out FVU."""

    def __post_init__(self) -> None:
        bounds.STEPS.refuse("keep.last", self.last)
        bounds.Bound(0, bounds.STEPS.most).refuse("keep.best", self.best)


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """One that is there with all its parts; the order is that of the steps."""

    step: int
    attempt: str
    num_parts: int
    folder: Location


def name_of(step: int, attempt: str) -> str:
    """The folder of a checkpoint."""
    return f"step-{step:08}-{attempt}"


def part_name(part: int, count: int) -> str:
    """Name of one of a checkpoint's files, below its folder."""
    return f"part-{part}-of-{count}.pt"


def host_copy(state: Any) -> Any:
    """Copy a state into memory of its own, tensors on the CPU, to be written while training goes on."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: host_copy(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(host_copy(value) for value in state)
    return state


def save_part(folder: Location, state: Mapping[str, Any]) -> None:
    """Write one worker's state into a checkpoint's folder: tensors, numbers, text, and lists and dicts of them."""
    count = num_parts(state)
    part = state["features"][0] * count // state["dict_size"] if count > 1 else 0
    with objects.stream_to(folder, part_name(part, count)) as stream:
        torch.save(dict(state), stream)


def checkpoints(folder: Location) -> list[Checkpoint]:
    """Those that are there with all their parts, oldest first."""
    return sorted(
        Checkpoint(step, attempt, count, folder / name_of(step, attempt))
        for step, attempt, count in whole(objects.sizes(folder))
    )


def whole(names: Iterable[str]) -> list[tuple[int, str, int]]:
    """Step, attempt and number of parts of each checkpoint of which all parts are among the names below a folder."""
    stored_parts: dict[tuple[str, str, str], set[int]] = {}
    for name in names:
        if match := re.fullmatch(rf"{FOLDER}/{PART}", name):
            step, attempt, part, num_parts = match.groups()
            stored_parts.setdefault((step, attempt, num_parts), set()).add(int(part))
    return [
        (int(step), attempt, int(number))
        for (step, attempt, number), parts in stored_parts.items()
        if len(parts) == int(number)
    ]


def load(checkpoint: Checkpoint) -> dict[str, Any]:
    """The whole state, on the CPU, put together from its parts. Nothing in the files is executed.

    Raises:
        FileNotFoundError: a part is gone.
        ValueError: a part is damaged, holds more than tensors and plain values, or the parts do not fit together.
    """
    parts = [_load_part(checkpoint, part) for part in range(checkpoint.num_parts)]
    try:
        return joined(parts)
    except LIBRARY_ERRORS as error:
        raise ValueError(f"{checkpoint.folder}: {error}; delete this folder to continue from an earlier one") from error


def delete_older(folder: Location, *, keep: Sequence[Checkpoint]) -> None:
    """Delete what is older than the newest of `keep`, half-written ones included, but those to keep."""
    kept = {name_of(checkpoint.step, checkpoint.attempt) for checkpoint in keep}
    newest = max((checkpoint.step for checkpoint in keep), default=0)
    for name in objects.folders(folder):
        match = re.fullmatch(FOLDER, name)
        if match and int(match[1]) < newest and name not in kept:
            objects.delete_named(folder / name, PART)


def metrics_table(metrics: list[dict[str, Any]]) -> pa.Table:
    """One row a record, with a null where a record lacks a column."""
    names = dict.fromkeys(name for row in metrics for name in row)
    return pa.table({name: [row.get(name) for row in metrics] for name in names})


def write_metrics(folder: Location, metrics: list[dict[str, Any]]) -> str:
    """The metrics as `metrics.parquet` in a folder (path or URL); the file's SHA-256."""
    content = parquet.to_bytes(metrics_table(metrics))
    objects.write(folder, METRICS, content)
    return digest(content)


def _load_part(checkpoint: Checkpoint, part: int) -> dict[str, Any]:
    name = part_name(part, checkpoint.num_parts)
    with objects.as_file(checkpoint.folder, name) as path, path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if record := archive.testzip():
                    raise zipfile.BadZipFile(f"the checksum of {record} is wrong")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except LIBRARY_ERRORS as error:
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise ValueError(
                f"{checkpoint.folder / name}: not readable ({reason}); "
                f"delete {checkpoint.folder} to continue from an earlier checkpoint"
            ) from error
