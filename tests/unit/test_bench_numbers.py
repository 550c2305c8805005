"""The sweep of rates and the revival benchmark measure and judge what they say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gc_core import groups
from gc_core.config import TrainConfig
from gc_core.crosscoder import Crosscoder, CrosscoderShape
from gc_core.symmetry import translate
from gc_core.train import open_data
from infra.bench import plans, poses, revive, seeds, sweep, tying
from infra.bench.dictionaries import twin_share


def row(rate: float, **changes: Any) -> dict[str, Any]:
    about = {"encoder": "all", "activation": "topk", "dict_size": 256, "held_out_fvu": 0.5, "loss": 10.0}
    return {**about, "rate": rate, **changes}


def tied_shape(name: str, *, channels: int, prototypes: int, k: int) -> CrosscoderShape:
    group = groups.parse(name)
    reads, dict_size = tuple(range(group.order)), prototypes * group.order
    return CrosscoderShape(
        group=group, channels=channels, dict_size=dict_size, reads=reads, activation="topk", k=k, tying="orbit"
    )


def test_a_default_is_judged_against_the_best_of_its_case() -> None:
    rows = [row(1.0, held_out_fvu=0.52), row(0.5), row(1.0, dict_size=1024), row(2.0, dict_size=1024, held_out_fvu=0.7)]
    found = sweep.above_best(rows)
    assert found == pytest.approx({("all", "topk", 256): 0.04, ("all", "topk", 1024): 0.0})


def test_where_the_active_features_are_not_given_the_loss_is_judged() -> None:
    rows = [row(1.0, activation="l1", loss=11.0), row(0.25, activation="l1", held_out_fvu=0.1)]
    assert sweep.above_best(rows) == pytest.approx({("all", "l1", 256): 0.1})


def test_the_default_rate_must_be_among_those_swept() -> None:
    with pytest.raises(ValueError, match="expected 1"):
        sweep.SweepBench(run="RUN", rates=(0.5, 2.0))


def test_a_sweep_trains_every_case_at_every_rate(planted: Any, tmp_path: Path) -> None:
    args = ["--run", planted.run.url, "--group", "C2", "--encoders", "all", "--activations", "topk", "l1"]
    args += ["--sizes", "256", "--rates", "1", "2", "--steps", "2", "--json", str(tmp_path / "found.json")]
    sweep.main(args)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(each["activation"], each["rate"]) for each in found] == [(a, r) for a in ("topk", "l1") for r in (1, 2)]
    assert found[1]["learning_rate"] == pytest.approx(2 * found[0]["learning_rate"])
    assert found[0]["held_out_fvu"] != found[1]["held_out_fvu"]


def test_the_ways_to_revive_are_different_trainings(planted: Any, tmp_path: Path) -> None:
    args = ["--run", planted.run.url, "--group", "C4", "--dict-size", "300", "--steps", "40"]
    revive.main([*args, "--json", str(tmp_path / "found.json")])
    found = {each["way"]: each for each in json.loads((tmp_path / "found.json").read_text())}
    assert list(found) == ["none", "auxk"]
    assert len({each["fvu"] for each in found.values()}) == 2
    assert all(0 <= each[name] <= 1 for each in found.values() for name in ("dead_share", "never_share", "twin_share"))


def test_a_way_that_leaves_features_dead_or_costs_reconstruction_has_missed() -> None:
    good = {"dead_share": 0.04, "never_share": 0.01, "fvu": 0.4, "held_out_fvu": 0.5}
    bad = {"dead_share": 0.06, "never_share": 0.07, "fvu": 0.41, "held_out_fvu": 0.52}
    assert all(line.startswith("reached") for line in revive.verdicts({"none": good, "auxk": good}))
    assert all(line.startswith("MISSED") for line in revive.verdicts({"none": good, "auxk": bad}))


def test_twins_are_features_that_another_resembles() -> None:
    rows_FGC = torch.eye(12).view(12, 3, 4).clone()
    assert twin_share(rows_FGC) == 0
    rows_FGC[7] = 3 * rows_FGC[2]
    rows_FGC[8] = -rows_FGC[1]
    assert twin_share(rows_FGC) == pytest.approx(2 / 12)


def test_tied_and_untied_train_on_the_same_rows_and_are_judged_on_the_same_images(planted: Any, tmp_path: Path) -> None:
    file = tmp_path / "tying.json"
    sizes = ["--prototypes", "4", "--features", "16", "--k", "2", "--steps", "8", "--batch", "32"]
    tying.main(["--run", planted.run.url, "--rows", "200", "all", "--held-out", "40", *sizes, "--json", str(file)])
    rows = json.loads(file.read_text())
    kinds = ["tied", "untied", "untied, all blocks", "untied, equal time", "untied, all blocks, equal time"]
    assert [row["kind"] for row in rows] == 2 * kinds
    assert len({row["rows"] for row in rows[:5]}) == len({row["rows"] for row in rows[5:]}) == 1
    assert all(row["fvu"] > 0 for row in rows)
    assert [row["steps"] for row in rows[:3]] == [8, 8, 8]


def test_two_seeds_of_each_kind_are_compared(planted: Any, tmp_path: Path) -> None:
    file = tmp_path / "seeds.json"
    sizes = ["--prototypes", "4", "--features", "16", "--k", "2", "--steps", "3", "6", "--batch", "32"]
    seeds.main(["--run", planted.run.url, "--held-out", "40", *sizes, "--json", str(file)])
    rows = json.loads(file.read_text())
    assert [(row["steps"], row["kind"], row["rows"]) for row in rows] == [
        (3, "tied", 4), (3, "untied", 16), (6, "tied", 4), (6, "untied", 16),
    ]  # fmt: skip
    for row in rows:
        assert 0 <= row["share_above_90"] <= row["share_above_80"] <= row["share_above_70"] <= 1
        assert 0 < row["mean_max_cosine"] < 1, "two seeds differ"
        assert row["fvu"] > 0


def test_turned_copies_are_partners_and_strangers_are_none() -> None:
    shape = tied_shape("D4", channels=32, prototypes=6, k=2)
    one, other = Crosscoder.of(shape), Crosscoder.of(shape)
    with torch.no_grad():
        one.W_dec.normal_(generator=torch.Generator().manual_seed(0))
        other.W_dec.normal_(generator=torch.Generator().manual_seed(1))
        other.W_dec[:3] = 5 * translate(one.W_dec, 5, one.group)[[4, 0, 2]]
    found = seeds.likeness_of("tied", 1, one, other, 0.5)
    assert (found.share_above_90, found.share_above_80, found.share_above_70) == (0.5, 0.5, 0.5)
    assert 0.5 < found.mean_max_cosine < 0.75


def test_a_million_tied_features_are_planned_without_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    plans.main(["--prototypes", "16384", "--gpus", "1", "8"])
    said = capsys.readouterr().out
    assert "1,048,576" in said
    assert "8 x 1" in said
    found = plans.planned(plans.PlansBench(), 16_384, 1)
    assert found is not None
    assert found.weights_bytes == 4 * 16_384 * (2 * 64 * 480 + 1)
    assert plans.planned(plans.PlansBench(memory_gb=1), 16_384, 1) is None


def test_held_out_images_are_whole_and_the_same_for_every_number_of_rows(planted: Any) -> None:
    whole = open_data(planted.run, TrainConfig())
    few, all_rows = (tying.cut(whole, rows, 40, 0) for rows in (200, None))
    assert np.array_equal(few.held_out_rows, all_rows.held_out_rows)
    trained_on, held_out = (set(whole.store.image[rows]) for rows in (all_rows.train_rows, few.held_out_rows))
    assert not trained_on & held_out
    assert set(few.train_rows) < set(all_rows.train_rows)
    assert len(all_rows.train_rows) + len(all_rows.held_out_rows) == whole.store.num_rows
    with pytest.raises(ValueError, match=r"rows: found .* samples, expected at least"):
        tying.cut(whole, 10**6, 40, 0)


def test_what_follows_tied_poses_is_judged_on_the_same_images(planted: Any, tmp_path: Path) -> None:
    file = tmp_path / "poses.json"
    sizes = ["--prototypes", "4", "--k", "2", "--steps", "12", "--batch", "32", "--held-out", "40"]
    poses.main(["--run", planted.run.url, *sizes, "--json", str(file)])
    found = {row["kind"]: row for row in json.loads(file.read_text())}
    assert list(found) == [
        "tied", "untied, before anything moves",
        "weights fixed, one bias a prototype", "weights fixed, one bias a pose",
        "tied, all weights free", "untied, all weights free",
    ]  # fmt: skip
    assert len({row["held_out_fvu"] for row in found.values()}) == 6
    assert found["tied, all weights free"]["training_fvu"] < found["tied"]["training_fvu"]


def test_fixed_weights_with_the_biases_they_had_are_the_tied_model() -> None:
    shape = tied_shape("D4", channels=16, prototypes=6, k=2)
    tied = Crosscoder.of(shape)
    for number, parameter in enumerate(tied.parameters()):
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))
    acts = torch.randn(20, 8, 16, generator=torch.Generator().manual_seed(9))
    plain = tied.materialised()
    bias_PG = plain.b_enc.detach().unflatten(0, (6, 8))
    for first in (bias_PG, bias_PG[:, :1]):
        found = poses.Biased(model=plain, bias=first).reconstruct(acts)
        torch.testing.assert_close(found, tied.reconstruct(acts)[1], rtol=1e-4, atol=1e-4)


def test_a_preferred_pose_is_found_by_a_bias_of_its_own(planted: Any) -> None:
    """Where the first pose alone helps, the biases of the others fall behind its own."""
    shape = tied_shape("C4", channels=8, prototypes=1, k=1)
    tied = Crosscoder.of(shape)
    with torch.no_grad():
        tied.W_enc.normal_(generator=torch.Generator().manual_seed(0))
        tied.W_dec.copy_(tied.W_enc / tied.W_enc.square().sum())
        tied.b_enc.fill_(-0.5)

    class OnePose(poses.Rows):
        def __init__(self) -> None:
            size_N11 = 1 + torch.rand(64, 1, 1, generator=torch.Generator().manual_seed(1))
            self.acts_NGC = size_N11 * tied.W_dec.detach()

        def some(self, index_B: torch.Tensor) -> torch.Tensor:
            return self.acts_NGC[index_B]

        def __len__(self) -> int:
            return 64

    options = poses.PosesBench(run="", prototypes=1, k=1, steps=50, batch=16)
    found = poses.fitted("", tied.materialised(), 4, OnePose(), options).bias.detach()
    assert found[0, 0] > tied.b_enc[0] + 0.01
    assert (found[0, 1:] == found[0, 1]).all()
