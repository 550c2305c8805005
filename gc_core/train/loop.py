"""Training from the first step, or a checkpoint's, to the last."""

from contextlib import closing
from pathlib import Path
from typing import Protocol

from gc_core.config import TrainConfig
from gc_core.train.data import TrainingData
from gc_core.train.trainer import Trainer
from gc_core.train.workers import Place

LOG_EVERY = 10
"""Steps between metrics."""


class Report(Protocol):
    """Hears of progress, on every worker; `checkpoint` is given where its state should be kept."""

    def __call__(self, metrics: dict[str, float], checkpoint: Trainer | None) -> None: ...


def train(config: TrainConfig, data: TrainingData, place: Place, *, resume: Path | None, report: Report) -> Trainer:
    """Run a resolved config to its end, from a checkpoint folder if one is given.

    A run that was cut off and resumed, on any number of workers, sees the samples that it would have seen undisturbed.

    Raises:
        ValueError: the lanes cannot be shared out to the workers, or there are fewer samples than lanes.
        FloatingPointError: training diverged.
    """
    trainer = Trainer(config, data, place)
    if resume is not None:
        trainer.restore(resume)
    with closing(trainer.stream()) as stream:
        while trainer.step < trainer.num_steps:
            trainer.advance(next(stream))
            keep = trainer.at_checkpoint
            if keep or trainer.step % LOG_EVERY == 0:
                report(trainer.log(), trainer if keep else None)
    return trainer
