"""Lists of options become the product of their values; names tell the crosscoders apart."""

import pytest

from gc_core.config import TrainConfig
from jobs.common.board import progress_note
from jobs.common.lists import REGISTRY, names_of
from jobs.common.options import cli
from jobs.pipeline import Pipeline
from jobs.train import TrainJob
from support.resolved_configs import made


def asked(*args: str) -> tuple[TrainConfig, ...]:
    """What `jobs.train` makes of a command line."""
    return cli(TrainJob, prog="train", args=["--run", "a,b", *args], description=None, registry=REGISTRY).configs.every


def test_without_lists_one_crosscoder_is_asked_for() -> None:
    assert asked() == (TrainConfig(),)
    (config,) = asked("--k", "16", "--encoder-reads", "0,8", "--l1_coefficient", "0.5", "--no-augment")
    assert config == TrainConfig(k=16, encoder_reads="0,8", l1_coefficient=0.5, augment=False)


def test_every_option_of_a_config_is_one_of_the_command_line() -> None:
    options = ["--group", "C4", "--steps", "7", "--norm-over", "blocks"]
    plain = cli(TrainConfig, prog="train", args=options, description=None)
    assert asked(*options) == (plain,)


def test_lists_become_every_combination_the_last_changing_fastest() -> None:
    configs = asked("--dict-size", "64,128", "--k=4,8")
    assert configs == tuple(TrainConfig(dict_size=size, k=k) for size in (64, 128) for k in (4, 8))
    assert asked("--dict_size", "64, None") == (TrainConfig(dict_size=64), TrainConfig())
    assert [each.l1_coefficient for each in asked("--l1-coefficient", "0.5,2")] == [0.5, 2.0]


def test_in_the_pipeline_lists_are_training_s() -> None:
    args = ["--out", "a", "--train.k", "4,8"]
    job = cli(Pipeline, prog="pipeline", args=args, description=None, registry=REGISTRY)
    assert job.train.every == (TrainConfig(k=4), TrainConfig(k=8))


def test_a_value_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="k: found '4,4', expected different values"):
        asked("--k", "4,4")


@pytest.mark.parametrize("args", [["--k", "4,x"], ["--k", "4,"], ["--k", "None"], ["--k", "1.5"], ["--steps", "1,2"]])
def test_what_is_no_list_of_numbers_is_a_mistake_of_the_command_line(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        asked(*args)
    assert end.value.code == 2
    assert args[0] in capsys.readouterr().err


def test_every_combination_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^k: found 6, expected at most dict_size \(4\)"):
        asked("--dict-size", "8,4", "--k", "6")


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
