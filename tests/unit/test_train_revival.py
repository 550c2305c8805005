"""Dead features begin anew: in time, along samples that are explained worst, and are counted as dead until they fire.

Letters: N features and a sample for each, G group elements, C channels, F features.
"""

from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trainers import cut_at, new_trainer, num_recovered, same_weights, trained

from gc_core.train import Trainer
from gc_core.train.revival import LAST_SHARE, REVIVE_EVERY, Revival

DYING = {"dict_size": 12, "k": 2, "steps": 200, "dead_after_samples": 640}
"""Ten features are planted."""


def with_dead(run: Any, num_dead: int = 6, **changes: Any) -> Trainer:
    """A training whose last features can never fire."""
    trainer = new_trainer(run, **DYING | changes)
    with torch.no_grad():
        trainer.model.b_enc[-num_dead:] -= 1000
    return trainer


def run_to_the_end(trainer: Trainer) -> Tensor:
    """(F,) how often each feature fired in the last tenth."""
    fired_F = torch.zeros(trainer.model.shape.dict_size, dtype=torch.int64)
    with closing(trainer.stream()) as stream:
        for acts_BGC in islice(stream, trainer.num_steps):
            trainer.advance(acts_BGC)
            if trainer.step > 0.9 * trainer.num_steps:
                fired_F += (trainer.samples_since_fired_F == 0).long()
    return fired_F


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
@pytest.mark.parametrize("more", [{}, {"optimiser": "lazy"}, {"accumulate": 2, "average_decay": 0.9}], ids=str)
def test_features_that_cannot_fire_do_so_again(planted: Any, activation: str, more: dict[str, Any]) -> None:
    options = {"activation": activation, **more}
    revived, left = with_dead(planted.run, **options), with_dead(planted.run, resample=False, aux_k=0, **options)
    assert (run_to_the_end(left)[-6:] == 0).all(), "the control"
    assert (run_to_the_end(revived)[-6:] > 0).sum() >= 3
    assert num_recovered(revived, planted.decoder_FGC) > num_recovered(left, planted.decoder_FGC)


def test_a_feature_that_began_anew_counts_as_dead_until_it_fires(planted: Any) -> None:
    trainer = with_dead(planted.run)
    with closing(trainer.stream()) as stream:
        for acts_BGC in islice(stream, REVIVE_EVERY):
            trainer.advance(acts_BGC)
    begun_F = trainer.state()["samples_since_begun"] < trainer.samples_since_fired_F
    assert begun_F[-6:].all()
    assert trainer.dead_F[begun_F].all()


@pytest.mark.parametrize(
    ("changes", "step", "due"),
    [
        ({}, REVIVE_EVERY, True),
        ({}, REVIVE_EVERY + 1, False),
        ({}, round(200 * (1 - LAST_SHARE)), True),
        ({}, round(200 * (1 - LAST_SHARE)) + REVIVE_EVERY, False),
        ({"resample": False}, REVIVE_EVERY, False),
        ({"activation": "l1"}, REVIVE_EVERY, False),
    ],
)
def test_features_begin_anew_until_there_is_no_time_left(
    planted: Any, changes: dict[str, Any], step: int, due: bool
) -> None:
    trainer = new_trainer(planted.run, **DYING | changes)
    assert Revival(trainer.model, trainer.config, trainer.place).is_time(step) == due


def test_samples_are_drawn_by_their_error(planted: Any) -> None:
    trainer = new_trainer(planted.run, **DYING)
    residual_BGC = torch.zeros(64, 4, 8)
    residual_BGC[[3, 20, 50]] = 1.0
    drawn = trainer._revival._drawn_samples(residual_BGC, np.random.default_rng(0))
    assert sorted(drawn.tolist()) == [3, 20, 50]
    residual_BGC[:] = 1.0
    many = trainer._revival._drawn_samples(residual_BGC, np.random.default_rng(0))
    assert len(np.unique(many)) == 16, "a quarter of the batch"


def test_a_run_with_dead_features_resumes_bit_for_bit(planted: Any, tmp_path: Any) -> None:
    options = {"checkpoint_every": 25, "dead_after_samples": 128, "dict_size": 60, "k": 1, "steps": 60}
    whole = trained(planted.run, keep=tmp_path / "whole", **options)
    resumed = trained(planted.run, keep=cut_at(25, tmp_path / "whole", tmp_path / "cut"), **options)
    assert same_weights(whole, resumed)
    assert not whole.state()["samples_since_begun"].equal(whole.samples_since_fired_F), "some began anew"
    never = trained(planted.run, resample=False, aux_k=0, **options)
    assert not same_weights(whole, never)
