"""A checkpoint gives back what was put in, and nothing in it is executed."""

import io
import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from gc_core import objects
from gc_core.checkpoint import load_checkpoint, metrics_table, save_checkpoint, write_metrics

METRICS = [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 1.25, "held_out_fvu": 0.5}]


def test_state_and_metrics_come_back_as_they_were(tmp_path: Path) -> None:
    state = {
        "step": 20,
        "model": {"W": torch.randn(2, 3)},
        "optimiser": {"groups": [{"lr": 1e-3, "betas": (0.9, 0.9)}]},
    }
    save_checkpoint(tmp_path / "new" / "folder", state, METRICS)
    found, metrics = load_checkpoint(tmp_path / "new" / "folder")
    torch.testing.assert_close(found.pop("model")["W"], state.pop("model")["W"], rtol=0, atol=0)
    assert found == state
    assert metrics == METRICS


def test_a_checkpoint_before_the_first_metrics_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 0}, [])
    assert load_checkpoint(tmp_path) == ({"step": 0}, [])


def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 0, "code": Path("/anything")}, [])
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        load_checkpoint(tmp_path)


def test_metrics_are_a_table_with_nulls_where_a_record_lacks_a_column(tmp_path: Path) -> None:
    expected = {"step": [10, 20], "loss": [2.5, 1.25], "held_out_fvu": [None, 0.5]}
    assert metrics_table(METRICS).to_pydict() == expected
    write_metrics(str(tmp_path), METRICS)
    assert pq.read_table(io.BytesIO(objects.read(str(tmp_path), "metrics.parquet"))).to_pydict() == expected
