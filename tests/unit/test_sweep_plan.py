"""Combinations of a sweep, their names, who shares a stream, who is stopped on the way, and what a step costs."""

from typing import Any

import pytest

from gc_core import groups
from gc_core.config import TrainConfig
from gc_core.sweep.cost import step_flop
from gc_core.sweep.halving import Standing, hopeless, rungs
from gc_core.sweep.plan import combinations, name_of, teams
from support.resolved_configs import made


def asked(**axes: Any) -> list[TrainConfig]:
    found = [each.config for each in combinations({"steps": 40, **axes})]
    return [each for each in found if each is not None]


def test_every_combination_is_one_the_last_axis_changing_fastest() -> None:
    found = asked(dict_size=(64, 128), k=(4, 8), seed=(0, 1))
    sizes = [(each.dict_size, each.k, each.seed) for each in found]
    assert sizes == [(f, k, s) for f in (64, 128) for k in (4, 8) for s in (0, 1)]
    assert {each.steps for each in found} == {40}


def test_what_an_activation_does_not_use_makes_no_other_crosscoder() -> None:
    found = asked(activation=("topk", "l1"), k=(4, 8), l1_coefficient=(0.5, 2.0))
    default = TrainConfig()
    assert [(each.activation, each.k, each.l1_coefficient) for each in found] == [
        ("topk", 4, None),
        ("topk", 8, None),
        ("l1", default.k, 0.5),
        ("l1", default.k, 2.0),
    ]


def test_one_block_has_no_poses() -> None:
    found = asked(group=(None, "trivial"), tying=("orbit", "none"), dict_size=(64,))
    assert [(each.group, each.tying) for each in found] == [(None, "orbit"), (None, "none"), ("trivial", "none")]


def test_a_contradiction_is_kept_with_its_reason_beside_the_others() -> None:
    found = combinations({"dict_size": (4, 64), "k": (8,)})
    assert [each.config is None for each in found] == [True, False]
    assert found[0].told == "dict_size=4"
    assert "expected at most dict_size (4)" in found[0].why_not


def test_a_value_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="seed: found '0,0', expected different values"):
        combinations({"seed": (0, 0)})


def test_names_say_what_a_crosscoder_is_whatever_else_is_swept() -> None:
    for changes, name in (
        ({"k": 4}, "s-topk-64-k4"),
        ({"k": 4, "seed": 2}, "s-topk-64-k4-s2"),
        ({"encoder_reads": "0,8", "k": 4}, "s-topk-64-reads0.8-k4"),
        ({"activation": "l1", "l1_coefficient": 0.25}, "s-l1-64-l1_0.25"),
        ({"group": "trivial", "k": 4}, "s-topk-64-sae-k4"),
        ({"group": "C_4", "k": 4, "learning_rate": 1e-5}, "s-topk-64-C_4-k4-lr_1e-05"),
    ):
        options: dict[str, Any] = {"group": "D_8", "dict_size": 64, **changes}
        assert name_of(made(**options), TrainConfig(**options), "D_8", "s") == name


def test_a_stream_is_shared_by_those_that_fit_together() -> None:
    configs = {
        "a": made(dict_size=64, group="D_8", seed=0),
        "b": made(dict_size=64, group="D_8", seed=1),
        "c": made(dict_size=128, group="D_8", seed=0),
        "d": made(dict_size=256, group="D_8", seed=0),
    }
    assert teams(configs, lambda team: True) == [["a", "c", "d"], ["b"]]
    assert teams(configs, lambda team: sum(each.dict_size for each in team) <= 300) == [["a", "c"], ["d"], ["b"]]
    assert teams(configs, lambda team: False) == [["a"], ["c"], ["d"], ["b"]]


def test_rungs_lie_at_checkpoints() -> None:
    config = made(steps=800, checkpoint_every=100)
    assert rungs(config, keep_one_in=2, count=2) == [200, 400]
    assert rungs(config, keep_one_in=4, count=2) == [100, 200]
    assert rungs(made(steps=400, checkpoint_every=300), keep_one_in=2, count=3) == [300]
    with pytest.raises(ValueError, match="checkpoint_every: found 400, expected fewer than the 400 steps"):
        rungs(made(steps=400, checkpoint_every=400), keep_one_in=2, count=1)


def standing(name: str, fvu: float, **changes: Any) -> Standing:
    return Standing(**{"name": name, "choice": name, "group": "D_8", "dict_size": 64, "l0": 8.0, "fvu": fvu, **changes})


def test_the_worse_half_of_rivals_is_stopped() -> None:
    four = [standing("a", 0.4), standing("b", 0.2), standing("c", 0.3), standing("d", 0.1)]
    assert sorted(hopeless(four, keep_one_in=2)) == ["a", "c"]
    assert sorted(hopeless(four, keep_one_in=4)) == ["a", "b", "c"]
    assert sorted(hopeless(four[:3], keep_one_in=2)) == ["a"]
    assert hopeless(four, keep_one_in=2)["a"] == "held-out FVU 0.400 at L0 8.0, d has 0.100 at 8.0"


@pytest.mark.parametrize("other", [{"dict_size": 128}, {"group": "trivial"}, {"l0": 16.0}, {"l0": 0.0}])
def test_other_sizes_groups_and_sparsities_are_no_rivals(other: dict[str, Any]) -> None:
    assert hopeless([standing("a", 0.4), standing("b", 0.2, **other)], keep_one_in=2) == {}


def test_nearly_the_same_sparsity_is_rivalry() -> None:
    assert sorted(hopeless([standing("a", 0.4, l0=8.3), standing("b", 0.2)], keep_one_in=2)) == ["a"]


def test_seeds_of_one_choice_stay_or_go_together() -> None:
    standings = [
        standing("a0", 0.1, choice="a"),
        standing("a1", 0.5, choice="a"),
        standing("b0", 0.2, choice="b"),
        standing("b1", 0.2, choice="b"),
    ]
    assert sorted(hopeless(standings, keep_one_in=2)) == ["a0", "a1"]


def test_a_step_costs_what_its_products_do() -> None:
    group = groups.parse("D_4")
    config = made(dict_size=100, k=5, batch=64, group="D_4")
    assert step_flop(config, group, 10) == 2 * 64 * 10 * (100 + 5 + 3 * 5 * 8)
    reader = made(dict_size=100, k=5, batch=64, group="D_4", encoder_reads="all")
    assert step_flop(reader, group, 10) == 2 * 64 * 10 * (800 + 5 * 8 + 3 * 5 * 8)
    dense = made(dict_size=100, activation="l1", batch=64, group="D_4")
    assert step_flop(dense, group, 10) == 2 * 64 * 10 * (100 + 100 + 3 * 100 * 8)
    tied = made(tying="orbit", prototypes=50, dict_size=400, k=5, batch=64, group="D_4")
    assert step_flop(tied, group, 10) == 2 * 64 * 10 * (50 * 12 + 5 * 8 + 3 * 5 * 8)  # four of one, one of two
