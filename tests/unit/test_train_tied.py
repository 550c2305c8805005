"""Training with tied poses: what is decided where nothing is said, what is found, and going on where it stopped.

Letters: N rows, G group elements, C channels, P prototypes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gc_core import groups
from gc_core.config import TrainConfig
from gc_core.families import best_poses
from gc_core.io.run_folder import RunFolder
from gc_core.train import open_data, resolve
from support.small_trainings import SMALL, cut_at, new_trainer, opened, same_weights, trained, trained_together

MakeRun = Callable[..., RunFolder]
TIED = {"dict_size": None, "encoder_reads": "identity", "tying": "orbit", "prototypes": 8}
NUM_PLANTED, CHANNELS = 6, 16


def planted_prototypes() -> np.ndarray:
    """(P, G, C) over D_4, unit norm."""
    made = np.random.default_rng(0).normal(size=(NUM_PLANTED, 8, CHANNELS))
    return made / np.linalg.norm(made.reshape(NUM_PLANTED, -1), axis=1)[:, None, None]


@pytest.fixture
def orbits(make_run: MakeRun) -> RunFolder:
    """Samples of two of the prototypes, each in a pose of its own."""
    rng, prototypes, group = np.random.default_rng(1), planted_prototypes(), groups.dihedral(4)
    acts_NGC = np.zeros((3000, 8, CHANNELS), np.float32)
    for acts_GC in acts_NGC:
        for p in rng.choice(NUM_PLANTED, 2, replace=False):
            acts_GC += rng.uniform(1, 2) * prototypes[p][group.cayley[:, rng.integers(8)]]
    return make_run(acts_NGC, group, held_out_images=range(20))


def test_every_planted_prototype_is_found_in_some_pose(orbits: RunFolder) -> None:
    trainer = trained(orbits, **TIED, steps=400, learning_rate=3e-3, init="transpose")
    planted = torch.from_numpy(planted_prototypes()).float()
    cosines, _ = best_poses(planted, trainer.model.W_dec.detach(), trainer.model.group)
    assert cosines.amax(1).min() > 0.95
    assert trainer.metrics[-1]["held_out_fvu"] < 0.1


def test_one_pose_explains_too_little_where_two_are_shown(make_run: MakeRun) -> None:
    rng, prototypes, group = np.random.default_rng(1), planted_prototypes(), groups.dihedral(4)
    acts_NGC = np.zeros((2000, 8, CHANNELS), np.float32)
    for acts_GC in acts_NGC:
        for h in rng.choice(8, 2, replace=False):
            acts_GC += prototypes[rng.integers(2)][group.cayley[:, h]]
    run = make_run(acts_NGC, group, held_out_images=range(20))
    one, two = (
        trained(run, **TIED, k=1, poses=poses, steps=300, learning_rate=3e-3, init="transpose").metrics[-1]
        for poses in (1, 2)
    )
    assert two["held_out_fvu"] < 0.8 * one["held_out_fvu"]


@pytest.mark.parametrize("state", ["float32", "bfloat16"])
@pytest.mark.parametrize("invariant", [0, 3])
def test_tied_training_resumes_bit_for_bit(planted: Any, tmp_path: Path, invariant: int, state: str) -> None:
    options = {**TIED, "checkpoint_every": 15, "activation": "batchtopk", "optimiser": "lazy", "average_decay": 0.9}
    options |= {"invariant_prototypes": invariant, "optimiser_state": state}
    whole = trained(planted.run, keep=tmp_path / "whole", **options)
    resumed = trained(planted.run, keep=cut_at(15, tmp_path / "whole", tmp_path / "cut"), **options)
    assert same_weights(resumed, whole)
    assert resumed.metrics == whole.metrics


def test_tied_ones_of_several_sizes_share_a_stream(planted: Any) -> None:
    changes = [{**TIED, "prototypes": prototypes} for prototypes in (4, 8)]
    for trainer, each in zip(trained_together(planted.run, changes), changes, strict=True):
        assert same_weights(trainer, trained(planted.run, **each))


def test_poses_are_tied_unless_options_of_untied_ones_are_given(planted: Any) -> None:
    data = open_data(planted.run, SMALL)
    free = replace(SMALL, dict_size=None, encoder_reads="identity", augment=True)
    tied = resolve(free, data)
    assert (tied.tying, tied.prototypes, tied.dict_size) == ("orbit", 64, 64 * data.num_elements)
    assert not tied.augment, "turned samples would teach the same"
    assert resolve(tied, data) == tied
    for untied in ({"dict_size": 20}, {"encoder_reads": "all"}, {"blocks_per_step": 2}, {"tying": "none"}):
        assert resolve(replace(free, **untied), data).tying == "none"
    assert resolve(replace(free, prototypes=5), data).dict_size == 5 * data.num_elements
    assert resolve(replace(free, tying="orbit", dict_size=4 * data.num_elements), data).prototypes == 4


def test_invariant_prototypes_are_one_feature_each(planted: Any) -> None:
    data = open_data(planted.run, SMALL)
    free, order = replace(SMALL, dict_size=None, encoder_reads="identity", invariant_prototypes=3), data.num_elements
    found = resolve(replace(free, prototypes=8), data)
    assert (found.tying, found.prototypes, found.dict_size) == ("orbit", 8, 3 + 5 * order)
    assert resolve(found, data) == found
    assert resolve(free, data).tying == "orbit", "only tied ones have them"
    assert resolve(replace(free, tying="orbit", dict_size=3 + 2 * order), data).prototypes == 5


@pytest.mark.parametrize("optimiser", ["adam", "lazy"])
def test_blocks_of_invariant_prototypes_stay_one_while_they_learn(planted: Any, optimiser: str) -> None:
    # Moments are rounded at random here, each block's otherwise.
    options = {**TIED, "invariant_prototypes": 3, "optimiser": optimiser, "optimiser_state": "bfloat16", "steps": 20}
    before, after = new_trainer(planted.run, **options).model, trained(planted.run, **options).model
    for name in ("W_enc", "W_dec"):
        first, last = (model.state_dict()[name][:3] for model in (before, after))
        assert torch.equal(last, last[:, :1].expand_as(last))
        assert not torch.equal(first[:, 0], last[:, 0]), "they learn"
        others = after.state_dict()[name][3:]
        assert not torch.allclose(others, others[:, :1].expand_as(others)), "the others are free"


def test_the_trivial_group_has_nothing_to_tie(planted: Any) -> None:
    config, _ = opened(planted.run, group="trivial", dict_size=None, encoder_reads="identity")
    assert config.tying == "none"


def test_options_that_contradict_each_other_are_refused(planted: Any) -> None:
    data = open_data(planted.run, SMALL)
    free = replace(SMALL, dict_size=None, encoder_reads="identity")
    order = data.num_elements
    for changes, message in (
        ({"tying": "orbit", "dict_size": 4 * order + 1}, f"dict_size: found {4 * order + 1}, expected a multiple of"),
        ({"prototypes": 5, "dict_size": 4 * order}, f"prototypes: found 5, expected dict_size / {order} = 4"),
        (
            {"tying": "orbit", "dict_size": 4 * order, "invariant_prototypes": 3},
            f"dict_size: found {4 * order}, expected a multiple of the group's {order} elements and 3 invariant",
        ),
        ({"prototypes": 5, "blocks_per_step": 1}, "blocks_per_step: found 1, but tied poses are judged on all"),
        ({"prototypes": 5, "matryoshka": "7"}, "matryoshka: found 7 halvings"),
    ):
        with pytest.raises(ValueError, match=message):
            resolve(replace(free, **changes), data)
    for options, message in (
        ({"tying": "none", "prototypes": 5}, "prototypes: 5 found with tying none"),
        ({"tying": "none", "poses": 2}, "poses: 2 found with tying none"),
        ({"tying": "none", "invariant_prototypes": 2}, "invariant_prototypes: 2 found with tying none"),
        (
            {"prototypes": 5, "k": 2, "invariant_prototypes": 6},
            r"invariant_prototypes: found 6, expected at most ",
        ),
        ({"tying": "orbit", "encoder_reads": "0,1"}, "encoder_reads: found '0,1', but tied poses are found in all"),
        ({"prototypes": 3, "k": 4}, r"k: found 4, expected at most prototypes \(3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            TrainConfig(**options)


def test_the_first_reconstructions_are_no_worse_than_none(planted: Any) -> None:
    trainer = new_trainer(planted.run, **TIED)
    score = trainer.evaluate()
    assert score.fvu is not None
    assert score.fvu < 1
