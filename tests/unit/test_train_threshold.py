"""A finished batchtopk dictionary has k active features a sample, however short its training was."""

from contextlib import closing
from itertools import islice
from typing import Any

import pytest
import torch

from gc_core.train import Trainer
from gc_core.train.threshold import settle_thresholds
from support.small_trainings import new_trainer, trained

SHORT = {"activation": "batchtopk", "steps": 30, "learning_rate": 1e-2}


def mean_active(trainer: Trainer, num_batches: int = 15) -> float:
    """Active features a sample in training samples, with the threshold."""
    with torch.no_grad(), closing(trainer.stream()) as stream:
        counts = [
            float((trainer.result.encode(acts) > 0).sum(1).float().mean()) for acts in islice(stream, num_batches)
        ]
    return sum(counts) / len(counts)


@pytest.mark.parametrize("changes", [{}, {"average_decay": 0.9}, {"dtype": "bfloat16"}, {"augment": True}], ids=str)
@pytest.mark.parametrize("k", [2, 5])
def test_after_a_short_run_k_features_are_active_a_sample(planted: Any, k: int, changes: dict[str, Any]) -> None:
    trainer = trained(planted.run, k=k, **SHORT | changes)
    assert mean_active(trainer) == pytest.approx(k, rel=0.02)


def test_the_running_mean_lags(planted: Any) -> None:
    """The control: without the last estimate it is another number."""
    trainer = new_trainer(planted.run, k=5, **SHORT)
    with closing(trainer.stream()) as stream:
        for acts_BGC in islice(stream, 30):
            trainer.advance(acts_BGC)
        assert abs(mean_active(trainer) / 5 - 1) > 0.02
        settle_thresholds([trainer], stream)
    assert mean_active(trainer) == pytest.approx(5, rel=0.02)
