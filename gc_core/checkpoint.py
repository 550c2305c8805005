"""Training state in a folder: tensors by torch (read back without pickle), metrics as Parquet."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gc_core import objects

STATE = "state.pt"
METRICS = "metrics.parquet"


def save_checkpoint(folder: Path, state: Mapping[str, Any], metrics: list[dict[str, Any]]) -> None:
    """Write tensors, numbers, and lists and dicts of them, and the metrics so far."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state), folder / STATE)
    pq.write_table(metrics_table(metrics), folder / METRICS)


def load_checkpoint(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `save_checkpoint` wrote, on the CPU. Nothing in the files is executed.

    Raises:
        FileNotFoundError: the folder holds no checkpoint.
        pickle.UnpicklingError: the file holds more than tensors and plain values.
    """
    state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    rows = pq.read_table(folder / METRICS).to_pylist()
    return state, [{name: value for name, value in row.items() if value is not None} for row in rows]


def metrics_table(metrics: list[dict[str, Any]]) -> pa.Table:
    """One row a record, with a null where a record lacks a column."""
    names = dict.fromkeys(name for row in metrics for name in row)
    return pa.table({name: [row.get(name) for row in metrics] for name in names})


def write_metrics(url: str, metrics: list[dict[str, Any]]) -> None:
    """The metrics as `metrics.parquet` in a folder (path or URL)."""
    buffer = io.BytesIO()
    pq.write_table(metrics_table(metrics), buffer)
    objects.write(url, METRICS, buffer.getvalue())
