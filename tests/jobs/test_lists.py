"""Lists of options become the product of their values; names tell the crosscoders apart."""

import pytest
from resolving import made

from jobs.board import progress_note
from jobs.lists import expand, names_of


def test_without_lists_the_command_line_is_passed_on() -> None:
    args = ["--run", "a,b", "--k", "16", "--encoder-reads", "0,8", "--train.k", "1,2"]
    assert expand(args) == [args]


def test_lists_become_every_combination() -> None:
    lines = expand(["--dict-size", "64,128", "--run", "r", "--k=4,8"])
    assert lines == [["--dict-size", size, "--run", "r", f"--k={k}"] for size in ("64", "128") for k in ("4", "8")]
    assert expand(["--dict_size", "1,2"]) == [["--dict_size", "1"], ["--dict_size", "2"]]


def test_a_prefix_belongs_to_the_option() -> None:
    assert expand(["--train.k", "4,8"], prefix="train.") == [["--train.k", "4"], ["--train.k", "8"]]
    assert expand(["--k", "4,8"], prefix="train.") == [["--k", "4,8"]]


def test_a_value_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="--k: found '4,4', expected different values"):
        expand(["--k", "4,4"])


def test_names_tell_apart_what_differs() -> None:
    configs = [made(dict_size=size, k=k, group="D_8") for size in (64, 128) for k in (4, 8)]
    assert names_of(configs, "D_8", None) == ["topk-64-k4", "topk-64-k8", "topk-128-k4", "topk-128-k8"]
    assert names_of(configs, "D_8", "mine") == ["mine-64-k4", "mine-64-k8", "mine-128-k4", "mine-128-k8"]
    assert names_of(configs[:1], "D_8", None) == ["topk-64"]
    assert names_of(configs[:1], "D_8", "mine") == ["mine"]
    assert names_of([made(dict_size=64, group="trivial")], "D_8", None) == ["topk-64-sae"]
    penalised = [made(activation="l1", dict_size=9, group="C_2", l1_coefficient=c) for c in (2.0, 0.5)]
    assert names_of(penalised, "D_8", None) == ["l1-9-C_2-l1_2", "l1-9-C_2-l1_0.5"]


def test_progress_says_whose_figures_it_shows() -> None:
    row = {"fvu": 0.25, "l0": 8.0, "dead_share": 0.01}
    assert progress_note({"a": row}) == "FVU 0.250  L0 8.0  dead 1.0%"
    assert progress_note({"a": row, "b": row}) == "a: FVU 0.250  L0 8.0  dead 1.0% | b: FVU 0.250  L0 8.0  dead 1.0%"
