"""Scaling gives a shrunk feature its symmetry back, words are compared with chance, and dealt codes explain nothing.

Letters: R features, G group elements, C channels.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gc_core import groups
from gc_core.evaluate import LatentScaling
from infra.bench import scaling, scaling_scores
from infra.bench.planted_symmetries import planted as planted_features
from infra.bench.scaling_scores import Dictionary, agreement, factors, words_of

GROUP = groups.dihedral(8)


def mirrors(count: int, seed: int = 0) -> torch.Tensor:
    """(R, G, C) mirror-symmetric features."""
    subgroup = next(each for each in GROUP.subgroups() if each.name == "D_1")
    return planted_features(GROUP, subgroup, count, rng=np.random.default_rng(seed), channels=64, width=3)


def scaled(decoder_RGC: torch.Tensor, factor_RG: np.ndarray, deviation: float = 0.05) -> LatentScaling:
    return LatentScaling(
        fired_R=np.full(len(decoder_RGC), 50),
        error_RG=factor_RG,
        others_RG=np.zeros(factor_RG.shape),
        deviation_RG=np.full(factor_RG.shape, deviation),
        refitted_RGC=decoder_RGC * torch.from_numpy(factor_RG)[:, :, None].float(),
    )


def test_a_mirror_that_was_shrunk_away_is_there_once_scaled() -> None:
    true_RGC = mirrors(12)
    assert set(words_of(true_RGC, GROUP)) == {"mirror"}
    shrink_RG = np.where(np.random.default_rng(1).random((12, GROUP.order)) < 0.5, 0.1, 1.0)
    shrunk_RGC = true_RGC * torch.from_numpy(shrink_RG)[:, :, None].float()
    lost = words_of(shrunk_RGC, GROUP)
    assert scaling_scores.same_words(lost, ["mirror"] * 12) < 0.5
    told = factors(shrunk_RGC, scaled(shrunk_RGC, 1 / shrink_RG), np.ones(12, bool))
    assert told["filled"] == pytest.approx(1, abs=0.1)
    assert told["weak_factor"] == pytest.approx(10)
    assert told["above"] == pytest.approx((shrink_RG < 1).mean())
    assert told["uneven"] > 10 * told["uneven_by_chance"]
    assert words_of(scaled(shrunk_RGC, 1 / shrink_RG).refitted_RGC, GROUP) == ["mirror"] * 12


def test_factors_that_are_all_equal_are_not_uneven() -> None:
    true_RGC, rng = mirrors(12), np.random.default_rng(0)
    told = factors(true_RGC, scaled(true_RGC, rng.normal(1.3, 0.05, (12, GROUP.order))), np.ones(12, bool))
    assert told["uneven"] == pytest.approx(told["uneven_by_chance"], rel=0.2)
    assert told["above"] > 0.9
    assert told["below"] == 0


def test_words_agree_between_copies_and_by_chance_where_they_are_dealt() -> None:
    features, rng = mirrors(20), np.random.default_rng(0)
    words = ["mirror", "none"] * 10
    mine = Dictionary(penalty="l1", seed=0, decoder_RGC=features, words_R=words)
    pose = rng.integers(GROUP.order, size=20)
    turned = torch.stack([each[GROUP.cayley[:, h]] for each, h in zip(features, pose, strict=True)])
    other = Dictionary(penalty="batchtopk", seed=0, decoder_RGC=turned, words_R=words)
    found = agreement(mine, other, GROUP, 0.7)
    assert (found.partners, found.same, found.dealt) == (1.0, 1.0, 0.5)
    strangers = Dictionary(penalty="batchtopk", seed=1, decoder_RGC=mirrors(20, seed=9), words_R=words)
    nothing = agreement(mine, strangers, GROUP, 0.7)
    assert (nothing.partners, nothing.same, nothing.dealt) == (0.0, None, None)


def test_every_penalty_is_measured_and_the_control_explains_nothing(planted: Any, tmp_path: Path) -> None:
    args = ["--run", planted.run.url, "--seeds", "0", "--held-out", "100", "--features", "32", "--k", "4"]
    args += ["--steps", "60", "--batch", "64", "--least-fired", "5", "--json", str(tmp_path / "rows.json")]
    scaling.main(args)
    rows = {row["penalty"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert list(rows) == ["batchtopk", "l1", "l1_blocks"]
    for row in rows.values():
        assert abs(row["dealt"]) < 0.5 * (row["factor"] + row["others"])
        assert sum(row["words"].values()) == pytest.approx(1)
    assert rows["l1"]["factor"] > rows["batchtopk"]["factor"]
    assert [pair["penalty"] for pair in rows["l1_blocks"]["pairs"]] == ["batchtopk", "l1"]


def test_features_that_never_fire_enough_are_named(planted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--run", planted.run.url, "--held-out", "40", "--features", "32", "--steps", "2", "--least-fired", "9999"]
    with pytest.raises(SystemExit):
        scaling.main(args)
    assert "least-fired" in capsys.readouterr().out
