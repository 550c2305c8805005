"""Steps added to a finished training: it goes on from its last checkpoint, by a schedule of their own."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gc_core.config import TrainConfig
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.train import Trainer, TrainingData, Worker, resolve, train
from gc_core.train.recipe import learning_rate, penalty_coefficient
from gc_core.train.recovery import Checkpointing
from jobs.common.claims import claim, config_to_train
from support.small_trainings import EVERY, SMALL, opened, same_weights

KINDS = {
    "untied": {"activation": "batchtopk", "average_decay": 0.9},
    "tied": {"tying": "orbit", "prototypes": 5, "dict_size": None, "encoder_reads": "identity"},
}


def run_to_end(config: TrainConfig, data: TrainingData, folder: str) -> Trainer:
    return train(
        [config],
        data,
        Worker(),
        report=lambda metrics: None,
        checkpointing=Checkpointing(folders=[Location.parse(folder)], keep=EVERY),
    )[0]


def finished(run: RunFolder, folder: Path, **changes: Any) -> tuple[TrainConfig, TrainingData, Trainer]:
    """A training to its end, recorded as the job does; and the options asked for."""
    config, data = opened(run, steps=20, checkpoint_every=10, **changes)
    asked = replace(SMALL, steps=20, checkpoint_every=10, **changes)
    assert claim(Location.parse(folder), config_to_train(Location.parse(folder), asked, config, data)) is None
    trainer = run_to_end(config, data, str(folder))
    model = trainer.exported()
    assert model
    model.save(str(folder))
    write_json(
        Location.parse(folder),
        "config.json",
        {**read_json(Location.parse(folder), "config.json"), "results": trainer.metrics[-1]},
    )
    return asked, data, trainer


def wanted(folder: Path, asked: TrainConfig, data: TrainingData) -> TrainConfig:
    return config_to_train(Location.parse(folder), asked, resolve(asked, data), data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_training_goes_on_with_its_weights_and_metrics(planted: Any, tmp_path: Path, kind: str) -> None:
    asked, data, before = finished(planted.run, tmp_path / "run", **KINDS[kind])
    longer = wanted(tmp_path / "run", replace(asked, steps=50), data)
    assert (longer.steps, longer.steps_before) == (50, 20)
    assert longer.dead_after_samples == before.config.dead_after_samples, "what was decided by the first steps stays"
    assert claim(Location.parse(tmp_path / "run"), longer) is None
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    after = run_to_end(longer, data, str(tmp_path / "run"))
    assert after.metrics[: len(before.metrics)] == before.metrics
    assert [row["step"] for row in after.metrics] == [10, 20, 30, 40, 50]
    assert after.metrics[-1]["held_out_fvu"] < before.metrics[-1]["held_out_fvu"]
    # Killed after 40 steps it ends bit for bit as undisturbed, asked by the same options again.
    for found in (tmp_path / "run" / "checkpoints").glob("step-000000[34]0-*"):
        shutil.copytree(found, tmp_path / "killed" / "checkpoints" / found.name)
    again = wanted(tmp_path / "killed", replace(asked, steps=50), data)
    assert again == longer
    assert claim(Location.parse(tmp_path / "killed"), again) is None
    assert same_weights(run_to_end(again, data, str(tmp_path / "killed")), after)


def test_steps_are_added_twice(planted: Any, tmp_path: Path) -> None:
    asked, data, _ = finished(planted.run, tmp_path)
    for steps, before in ((30, 20), (40, 30)):
        longer = wanted(tmp_path, replace(asked, steps=steps), data)
        assert longer.steps_before == before
        claim(Location.parse(tmp_path), longer)
        metrics = run_to_end(longer, data, str(tmp_path)).metrics
        write_json(
            Location.parse(tmp_path),
            "config.json",
            {**read_json(Location.parse(tmp_path), "config.json"), "results": metrics[-1]},
        )
        assert claim(Location.parse(tmp_path), wanted(tmp_path, replace(asked, steps=steps), data)) is not None, (
            "it is finished"
        )
    assert [row["step"] for row in metrics] == [10, 20, 30, 40]


def test_the_rate_warms_up_and_falls_over_the_steps_added_and_penalties_stay_grown() -> None:
    whole = replace(SMALL, steps=100, l1_coefficient=3.0)
    added = replace(whole, steps=300, steps_before=200)
    assert [learning_rate(added, 200 + step) for step in range(100)] == [
        learning_rate(whole, step) for step in range(100)
    ]
    assert penalty_coefficient(whole, 0) < penalty_coefficient(added, 200) == 3.0


def test_anything_else_that_differs_is_refused(planted: Any, tmp_path: Path) -> None:
    asked, data, _ = finished(planted.run, tmp_path)
    config = (tmp_path / "config.json").read_bytes()
    for other, line in (
        (replace(asked, steps=50, k=3), r"\(k: 3, not 2; dead_after_samples: .*steps: 50, not 20"),
        (replace(asked, steps=15), r"\(dead_after_samples: .*steps: 15, not 20"),
        (replace(asked, steps=None), r"\(dead_after_samples: .*steps: 306, not 20"),
        (replace(asked, steps=50, dead_after_samples=7), r"\(dead_after_samples: 7, not .*steps: 50, not 20"),
    ):
        with pytest.raises(ValueError, match=r"was trained with other options " + line):
            wanted(tmp_path, other, data)
    assert wanted(tmp_path, asked, data) == resolve(asked, data), "control: the same options are taken"
    shutil.rmtree(next((tmp_path / "checkpoints").glob("step-00000020-*")))
    with pytest.raises(ValueError, match=r"the checkpoint of its last step \(20\) is missing"):
        wanted(tmp_path, replace(asked, steps=50), data)
    assert (tmp_path / "config.json").read_bytes() == config


def test_a_name_that_another_took_meanwhile_is_refused(planted: Any, tmp_path: Path) -> None:
    config, _ = opened(planted.run, steps=20)
    claim(Location.parse(tmp_path), replace(config, k=3))
    with pytest.raises(ValueError, match="another command has just taken the name"):
        claim(Location.parse(tmp_path), config)


def test_a_config_that_says_what_is_left_out_now_is_the_same_config(planted: Any, tmp_path: Path) -> None:
    config, _ = opened(planted.run, steps=20)
    written = {**config.to_json(), "init_from": None, "steps_before": 0}
    assert written != config.to_json(), "control"
    write_json(Location.parse(tmp_path), "config.json", {"train": written})
    assert claim(Location.parse(tmp_path), config) is None
    assert read_json(Location.parse(tmp_path), "config.json")["train"] == written


def test_a_training_under_way_takes_no_more_steps(planted: Any, tmp_path: Path) -> None:
    config, data = opened(planted.run, steps=20)
    claim(Location.parse(tmp_path), config)
    with pytest.raises(ValueError, match=r"was trained with other options \(.*steps: 50, not 20"):
        wanted(tmp_path, replace(SMALL, steps=50), data)


def test_a_checkpoint_before_the_last_step_is_nothing_to_add_steps_to(planted: Any, tmp_path: Path) -> None:
    """Control of what Recovery takes: the last step's state alone."""
    asked, data, _ = finished(planted.run, tmp_path)
    longer = wanted(tmp_path, replace(asked, steps=50), data)
    shutil.rmtree(next((tmp_path / "checkpoints").glob("step-00000020-*")))
    with pytest.raises(
        ValueError, match=r"was trained with other options \(steps: 50, not 20; steps_before: 20, not 0"
    ):
        run_to_end(longer, data, str(tmp_path))


def test_the_command_line_says_nothing_of_steps_before(planted: Any, tmp_path: Path) -> None:
    config, data = opened(planted.run, steps=50, steps_before=20)
    with pytest.raises(ValueError, match="steps_before: found 20 for a new training, expected 0; leave it out"):
        config_to_train(Location.parse(tmp_path), config, config, data)
