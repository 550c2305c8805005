"""A training whose machine is taken away and replaced, on a real Ray: it goes on, as if nothing had happened."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gc_core import groups
from gc_core.io.run_folder import RunFolder
from gc_core.train import Worker, open_data, resolve, train
from support.shrink_and_grow import CONFIG, EVERY, NAME
from support.small_runs import write_run

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """1,000 rows over C_4 with 8 channels, made of ten features."""
    rng = np.random.default_rng(0)
    decoder_FGC = rng.standard_normal((10, 4, 8))
    code_NF = rng.uniform(1, 2, (1000, 10)) * (rng.random((1000, 10)) < 0.2)
    acts_NGC = np.einsum("nf,fgc->ngc", code_NF, decoder_FGC) + 0.3
    return write_run(tmp_path / "run", acts_NGC.astype(np.float32), groups.cyclic(4), (3, 50))


class EnoughError(Exception):
    """Ends the undisturbed training."""


def undisturbed(run: RunFolder, steps: int) -> list[dict[str, float]]:
    """Metrics up to a step, as one worker alone finds them."""
    data, rows = open_data(run, CONFIG), list[dict[str, float]]()

    def report(metrics: list[dict[str, float]]) -> None:
        rows.append(metrics[0])
        if metrics[0]["step"] >= steps:
            raise EnoughError

    with pytest.raises(EnoughError):
        train([resolve(CONFIG, data)], data, Worker(), report=report)
    return rows


def test_a_training_outlives_its_machine_and_takes_up_another(run: RunFolder) -> None:
    """In a process of its own because a process joins one Ray only."""
    command = [sys.executable, str(ROOT / "tests/support/shrink_and_grow.py"), run.url]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert told.returncode == 128 + signal.SIGINT, told.stdout + told.stderr
    lost = re.search(r"a machine was lost after a checkpoint of step (\d+)", told.stdout)
    assert lost, told.stdout + told.stderr
    assert int(lost[1]) % EVERY, "written for the notice, and not because it was due"
    shrunk, joined, grown = (
        told.stdout.find(line) for line in ("has 1 of 2 workers", "a machine joined", "has 2 of 2 workers")
    )
    assert -1 < shrunk < joined < grown, told.stdout
    metrics = pq.read_table(run.crosscoder(NAME).local_path / "metrics.parquet").to_pylist()
    assert metrics[-1]["step"] > int(lost[1])
    for row, other in zip(metrics, undisturbed(run, metrics[-1]["step"]), strict=True):
        found = {name: row[name] for name in other}
        assert found == pytest.approx(other, rel=1e-4, abs=1e-6, nan_ok=True)
