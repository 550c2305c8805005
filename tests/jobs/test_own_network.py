"""A network of one's own, from a file in the current folder to activations, as a stranger would start it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gc_core.analyse.shown import why_not_shown
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from jobs import layers

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NETWORK = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.GELU(), nn.Conv2d(8, 6, 2))
"""


def test_a_network_in_the_current_folder_is_harvested_by_workers_too(tmp_path: Path) -> None:
    (tmp_path / "my_network.py").write_text(NETWORK)
    options = "--backbone my_network:make --layer 2 --group D4 --images stimuli --max-stimuli 20 --out run"
    done = subprocess.run(
        [sys.executable, "-m", "jobs.harvest", *options.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "field of 8 px, computed without padding" in done.stdout
    assert "ASSUMED; set it with --preprocessing" in done.stdout
    opened = open_store(RunFolder.at(str(tmp_path / "run")))
    assert (opened.num_rows, opened.group.order, opened.channels) == (20, 8, 6)
    acts_NGC = opened.read(0, opened.num_rows).astype(np.float64)
    assert np.isfinite(acts_NGC).all()
    assert acts_NGC.std() > 0
    said = why_not_shown(opened.attrs, opened.group)
    assert said == "the network is what my_network:make returns, code that is not run because a store names it"


def test_the_layers_of_a_network_are_listed_with_what_a_unit_sees(capsys: pytest.CaptureFixture[str]) -> None:
    layers.main(["--backbone", "torchvision:squeezenet1_1", "--weights", "random:0", "--find", "features.3"])
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in lines if line.startswith("features.3.squeeze "))
    assert row[:4] == ["features.3.squeeze", "Conv2d", "16", "55"]
    assert not any(line.startswith("features.4") for line in lines)
