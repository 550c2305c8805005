"""Training from the first step, or a checkpoint's, to the last: one crosscoder, or several side by side."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from gc_core.config import TrainConfig
from gc_core.train.data import TrainingData
from gc_core.train.evaluate import evaluate
from gc_core.train.trainer import Trainer
from gc_core.train.workers import Place

LOG_EVERY = 10
"""Steps between metrics."""


class Report(Protocol):
    """Hears of progress, on every worker: each crosscoder's metrics, and `keep` where their states should be kept."""

    def __call__(self, metrics: list[dict[str, float]], trainers: list[Trainer], *, keep: bool) -> None: ...


def train(
    configs: Sequence[TrainConfig],
    data: TrainingData,
    place: Place,
    *,
    resume: Sequence[Path] | None,
    report: Report,
) -> list[Trainer]:
    """Run resolved configs to their end, from checkpoint folders of the same step if they are given.

    Every batch is read, decoded and scaled once, and each crosscoder comes out as if it were trained alone. A run that
    was cut off and resumed, on any number of workers, sees the samples that it would have seen undisturbed.

    Raises:
        ValueError: the configs differ in what decides their batches, the lanes cannot be shared out to the workers, or
            there are fewer samples than lanes.
        FloatingPointError: training diverged.
    """
    _check_one_stream(configs)
    first_acts_NGC = data.first_samples()
    trainers = [Trainer(config, data, place, first_acts_NGC) for config in configs]
    for trainer, folder in zip(trainers, resume or [], strict=resume is not None):
        trainer.restore(folder)
    if len({trainer.step for trainer in trainers}) > 1:
        raise ValueError(f"train: found checkpoints of steps {[t.step for t in trainers]}, expected one step")
    lead = trainers[0]
    with closing(lead.stream()) as stream:
        while lead.step < lead.num_steps:
            acts_BGC = next(stream)
            for trainer in trainers:
                trainer.advance(acts_BGC)
            if lead.at_checkpoint or lead.step % LOG_EVERY == 0:
                report(_log(trainers), trainers, keep=lead.at_checkpoint)
    return trainers


def _log(trainers: list[Trainer]) -> list[dict[str, float]]:
    lead = trainers[0]
    if not lead.at_checkpoint:
        return [trainer.log() for trainer in trainers]
    sums = evaluate([trainer.result for trainer in trainers], lead.data, lead.place, batch=lead.config.batch)
    return [trainer.log(found.fraction_unexplained()) for trainer, found in zip(trainers, sums, strict=True)]


def _check_one_stream(configs: Sequence[TrainConfig]) -> None:
    """What decides batches, checkpoints and length is the same."""
    shared = ("group", "steps", "batch", "lanes", "buffer_rows", "checkpoint_every", "seed")
    for config in configs[1:]:
        like = replace(config, **{name: getattr(configs[0], name) for name in shared})
        if different := config.differences(like):
            raise ValueError(f"train: crosscoders on one stream differ ({'; '.join(different)}); train them apart")
