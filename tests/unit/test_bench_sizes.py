"""Larger dictionaries of samples with few families hold copies in other poses, and nothing is known in the control.

Letters: N samples, R features, G group elements, C channels.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gc_core import groups
from gc_core.io.run_folder import RunFolder
from infra.bench import sizes
from infra.bench.planted_symmetries import planted as planted_features
from support.small_runs import write_run

GROUP, CHANNELS, FAMILIES, IMAGES = groups.dihedral(4), 24, 3, 60


@pytest.fixture(scope="module")
def families_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Samples of one of three families without symmetry, in any pose."""
    rng = np.random.default_rng(0)
    features = planted_features(
        GROUP, GROUP.subgroups()[0], FAMILIES, rng=rng, channels=CHANNELS, invariant_share=0.2
    ).numpy()
    acts_NGC = np.zeros((IMAGES * 10, GROUP.order, CHANNELS), np.float32)
    for row in range(len(acts_NGC)):
        acts_NGC[row] = 5 * features[rng.integers(FAMILIES)][GROUP.cayley[:, rng.integers(GROUP.order)]]
    acts_NGC += 0.02 * rng.standard_normal(acts_NGC.shape).astype(np.float32)
    return write_run(tmp_path_factory.mktemp("families"), acts_NGC, GROUP)


def test_a_larger_dictionary_adds_poses_of_known_families(families_run: RunFolder, tmp_path: Path) -> None:
    args = ["--run", families_run.url, "--sizes", "8", "64", "--seeds", "0", "--held-out", "150", "--k", "1"]
    sizes.main([*args, "--steps", "300", "--json", str(tmp_path / "rows.json")])
    rows = {(row["kind"], row["features"]): row for row in json.loads((tmp_path / "rows.json").read_text())}
    small, large = rows["untied", 8], rows["untied", 64]
    assert large["coverage"] > 0.8 > small["coverage"] + 0.2
    assert large["families"] <= FAMILIES + 2
    assert large["shares"]["turned"] > large["shares"]["known"]
    assert large["control"] < 0.1
    assert small["shares"] == {}
    assert rows["tied", 64]["coverage"] == 1
    assert rows["tied", 64]["families"] <= FAMILIES + 2
    assert rows["tied", 64]["shares"]["turned"] == 0


def test_families_in_poses_at_random_cover_what_chance_does() -> None:
    """Without any wish to tile."""
    rng = np.random.default_rng(0)
    features = planted_features(GROUP, GROUP.subgroups()[0], 20, rng=rng, channels=64, invariant_share=0.2)
    turned = torch.cat([each[None, GROUP.cayley[:, rng.integers(8)]] for each in features for _ in range(4)])
    told = sizes.tiling(turned + 0.01 * torch.randn(turned.shape), GROUP, tied=False, seed=0)
    assert (told["families"], told["largest"], told["alone"]) == (20, 4, 0)
    assert told["shared_coverage"] == pytest.approx(told["shared_coverage_by_chance"], abs=0.06)


@pytest.mark.parametrize(("given", "found"), [("64 8", "smallest first"), ("8 20", "multiples of 8")])
def test_sizes_that_do_not_fit_are_refused(
    families_run: RunFolder, capsys: pytest.CaptureFixture[str], given: str, found: str
) -> None:
    with pytest.raises(SystemExit):
        sizes.main(["--run", families_run.url, "--sizes", *given.split(), "--kinds", "tied", "--steps", "2"])
    assert found in capsys.readouterr().out
