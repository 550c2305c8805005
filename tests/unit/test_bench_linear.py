"""The benchmark of linear action tells a linear layer from the control, element by element."""

import json
from pathlib import Path

import numpy as np
import pytest

from gc_core import groups
from gc_core.io.run_folder import RunFolder
from infra.bench import linear
from support.small_runs import write_run

GROUP = groups.dihedral(8)
IMAGES, ROWS_PER_IMAGE = 60, 10


@pytest.fixture(scope="module")
def linear_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Blocks that are moved by the regular representation, with a little noise."""
    rng = np.random.default_rng(0)
    first_NC = rng.standard_normal((IMAGES * ROWS_PER_IMAGE, GROUP.order)) + 1
    acts_NGC = np.stack([first_NC[:, np.argsort(GROUP.cayley[g])] for g in range(GROUP.order)], 1)
    noise_NGC = 0.05 * rng.standard_normal(acts_NGC.shape)
    return write_run(tmp_path_factory.mktemp("linear"), (acts_NGC + noise_NGC).astype(np.float32), GROUP)


@pytest.mark.parametrize("sources", ["identity", "all"])
def test_a_linear_layer_is_told_from_the_control(linear_run: RunFolder, tmp_path: Path, sources: str) -> None:
    args = ["--runs", linear_run.url, "--held-out", "150", "--sources", sources, "--json", str(tmp_path / "rows.json")]
    linear.main(args)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["turn_deg"], row["mirrored"]) for row in rows[:2]] == [(45, False), (90, False)]
    assert len(rows) == GROUP.order - 1
    assert [row["exact"] for row in rows] == [int(g) % 2 == 0 for g in GROUP.turns[1:]]
    for row in rows:
        assert row["own"] > 0.98
        assert row["own_interval"][0] < row["own"] < row["own_interval"][1]
        assert row["powers"] > 0.95
        assert row["same"] < 0.5
        assert row["dealt"] < 0.05


def test_a_group_inside_the_store_s_is_measured_alone(linear_run: RunFolder, tmp_path: Path) -> None:
    linear.main(["--runs", linear_run.url, "--group", "C4", "--held-out", "150", "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["turn_deg"] for row in rows] == [90, 180, 270]
    assert all(row["exact"] and row["own"] > 0.98 for row in rows)
