"""The chain finds what was planted, on problems of seconds, and misses what cannot be found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gc_core.symmetry import translate
from infra.bench import planted as bench
from infra.bench import planted_chain as chain
from infra.bench.planted_world import Samples, plant

SMALL = bench.PlantedBench(
    group="D4", families=4, stabilisers=("C1", "D1", "C2", "D4"), channels=24, active=1, rows=1500, held_out=300,
    width=None, prototypes=8, features=64, steps=200, batch=64, learning_rate=3e-3,
)  # fmt: skip


def options(**changes: Any) -> list[str]:
    """As on the command line."""
    given = {"families": 4, "channels": 24, "rows": 1500, "held-out": 300, "batch": 64, "learning-rate": 3e-3}
    given = {"group": "D4", "width": None, "prototypes": 8, "features": 64, "steps": 20, "active": 1} | given
    return [word for name, value in (given | changes).items() for word in (f"--{name}", *str(value).split())]


def of_dictionary(rows_FGC: torch.Tensor, truth: Any, *, tied: bool = False) -> chain.Found:
    return chain.score(chain.describe(rows_FGC, truth.group, tied=tied), truth)


def test_the_planted_dictionary_itself_is_found_whole_untied_and_tied() -> None:
    truth = plant(bench.PlantedBench(group="D8", families=10, channels=32), 0)
    for found in (of_dictionary(truth.dictionary(), truth), of_dictionary(truth.prototype_PGC, truth, tied=True)):
        assert found.mean_max_cosine == pytest.approx(1, abs=1e-5)
        assert (found.family_ari, found.num_families) == (1, 10)
        assert found.axis_accuracy == 1
        assert found.stabiliser_accuracy == 1
    posed = translate(truth.prototype_PGC, 5, truth.group)
    assert of_dictionary(posed, truth, tied=True).axis_accuracy == 1


def test_strangers_and_half_of_the_families_are_not_found() -> None:
    truth = plant(SMALL, 0)
    strangers = of_dictionary(torch.randn(40, 8, 24, generator=torch.Generator().manual_seed(0)), truth)
    assert strangers.family_ari < 0.2
    assert strangers.mean_max_cosine < 0.5
    half = of_dictionary(truth.prototype_PGC[:2], truth, tied=True)
    assert half.stabiliser_accuracy == 0.5
    assert half.mean_max_cosine < 0.95


def test_poses_of_samples_are_told_by_the_most_active_member_in_its_pose() -> None:
    """The planted dictionary with perfect codes: members of a family tell the same, whatever pose each has in it."""
    truth = plant(replace(SMALL, stabilisers=("C1",), families=2), 0)
    family_F, pose_F = truth.features
    shuffled = np.random.default_rng(0).permutation(len(family_F))
    about = chain.describe(truth.dictionary()[shuffled], truth.group)
    held_out = Samples(acts_NGC=torch.zeros(0), family_NA=family_F[:, None], pose_NA=pose_F[:, None])
    size_NR = torch.eye(len(family_F))[:, shuffled]
    seen = chain.Observed(size_NR=size_NR, pose_NR=np.zeros(size_NR.shape, np.int64), fvu=0.0)
    assert not chain.pose_errors(about, seen, truth, held_out).any()
    silent = replace(seen, size_NR=0 * size_NR)
    assert (chain.pose_errors(about, silent, truth, held_out) == truth.group.n // 2).all()
    tied = chain.describe(translate(truth.prototype_PGC, 6, truth.group), truth.group, tied=True)
    turn_N1 = truth.group.cayley[pose_F, truth.group.inverse[6]][:, None]
    size_NR = torch.from_numpy(np.eye(2, dtype=np.float32)[family_F])
    seen = chain.Observed(size_NR=size_NR, pose_NR=np.tile(turn_N1, (1, 2)), fvu=0.0)
    assert not chain.pose_errors(tied, seen, truth, held_out).any()


def test_every_kind_is_trained_analysed_and_summed_up(tmp_path: Path) -> None:
    file = tmp_path / "planted.json"
    bench.main([*options(rows=600), "--curve", "noise", "0.3", "--seeds", "3", "--json", str(file)])
    found = json.loads(file.read_text())
    rows = found.pop("rows")
    told = [(row["kind"], row["difficulty"], row["value"]) for row in rows]
    assert told == [*((kind, "", None) for kind in bench.KINDS), *((kind, "noise", 0.3) for kind in bench.KINDS)]
    assert found.keys() == bench.SUMMARY.keys()
    assert found["oracle_stabiliser_accuracy"] == rows[0]["stabiliser_accuracy"]
    assert found["family_ari"] == rows[1]["family_ari"], "of the first world, not of the curve"
    assert found["sae_family_ari"] == rows[3]["family_ari"]
    assert rows[5]["held_out_fvu"] > rows[1]["held_out_fvu"] + 0.1
    assert all(row["seed"] == 3 and row["planted_features"] == 18 for row in rows)
    assert rows[3]["best_family_ari"] >= rows[3]["family_ari"]


def test_tied_poses_are_learned_and_noise_alone_is_not() -> None:
    store = bench.stored(SMALL, 0)
    found = bench.measure("tied", SMALL, store, None, 0, "", None)
    assert found.mean_max_cosine > 0.9
    assert found.family_ari == 1
    assert found.median_pose_error_steps == 0
    drowned = replace(SMALL, noise=0.99)
    lost = bench.measure("tied", drowned, bench.stored(drowned, 0), None, 0, "noise", 0.99)
    assert lost.mean_max_cosine < 0.5
    assert lost.family_ari == pytest.approx(0), "tied poses are families, but of nothing that was planted"


def test_what_no_element_changes_is_found_by_prototypes_with_equal_blocks(tmp_path: Path) -> None:
    file = tmp_path / "planted.json"
    more = {"families": 4, "rows": 2500, "prototypes": 7, "steps": 250, "active": 2, "batch": 128, "features": 32}
    more |= {"imperfect": 0, "stabilisers": "C1 D4", "invariant-prototypes": 4, "kinds": "tied untied"}
    bench.main([*options(**more), "--no-null", "--json", str(file)])
    tied, untied = json.loads(file.read_text())["rows"]
    assert tied["invariant_cosine"] > 0.8, "of strangers 0.4"
    assert tied["mean_max_cosine"] > 0.9
    assert untied["invariant_cosine"] is None


def test_a_target_that_is_missed_is_said() -> None:
    figures = dict.fromkeys(bench.SUMMARY, None)
    assert bench.verdicts(figures) == [], "nothing was measured"
    good = {**figures, "family_ari": 0.995, "median_pose_error_steps": 0.5, "null_false_positive_rate": 0.0}
    assert all(line.startswith("reached") for line in bench.verdicts(good))
    bad = {**figures, "family_ari": 0.98, "median_pose_error_steps": 1.0, "null_false_positive_rate": 0.06}
    assert [line.split()[0] for line in bench.verdicts(bad)] == ["MISSED"] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curve": ("noises", "1")}, "curve: found 'noises', expected one of group families"),
        ({"curve": ("noise", "much")}, "curve: found 'much', expected a value of noise"),
        ({"curve": ("noise", "1.5")}, "noise: found 1.5"),
        ({"kinds": ("tide",)}, "kinds: found 'tide'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_a_curve_changes_one_difficulty_at_a_time() -> None:
    curve = bench.points(replace(SMALL, curve=("width", "2", "None", "channels", "8")))
    assert [(name, value) for name, value, _ in curve] == [("", None), ("width", 2.0), ("width", None), ("channels", 8)]
    assert [(world.width, world.channels) for _, _, world in curve] == [(None, 24), (2.0, 24), (None, 24), (None, 8)]
