"""Training from the first step, or a checkpoint's, to the last: one crosscoder, or several side by side."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

from gc_core.config import ResolvedTrainConfig
from gc_core.parallel.worker import Worker
from gc_core.train.data import TrainingData
from gc_core.train.first import first_samples, statistics
from gc_core.train.recovery import Checkpointing, Recovery
from gc_core.train.threshold import settle_thresholds
from gc_core.train.trainer import Trainer
from gc_core.train.validation import HeldOutSamples

LOG_EVERY = 10
"""Steps between metrics."""
ONE_STREAM = ("group", "steps", "batch", "lanes", "buffer_rows", "augment", "checkpoint_every", "seed", "steps_before")
"""Options that are the same in all crosscoders of one stream."""


class Report(Protocol):
    """Hears of progress, on every worker: each crosscoder's newest metrics."""

    def __call__(self, metrics: list[dict[str, float]]) -> None: ...


def train(
    configs: Sequence[ResolvedTrainConfig],
    data: TrainingData,
    worker: Worker,
    *,
    report: Report,
    checkpointing: Checkpointing | None = None,
    until: int | None = None,
) -> list[Trainer]:
    """Run trainings to their end, from the newest checkpoints in the crosscoders' folders; with `until` to that step,
    from whose checkpoint a later call goes on as if nothing had been between.

    Every batch is read, decoded and scaled once, and each crosscoder comes out as if it were trained alone. A run that
    was cut off and resumed, on any number of workers, sees the samples that it would have seen undisturbed. Without
    `checkpointing` nothing is kept.

    Raises:
        ValueError: the configs differ in what decides their batches, the lanes cannot be shared out to the workers,
            there are fewer samples than lanes, a checkpoint is damaged, or none is written at `until`.
        FloatingPointError: training diverged.
        OSError: checkpoints cannot be read or written.
    """
    _check_one_stream(configs)
    last = _last_step(configs[0], until)
    shared_NGC = statistics(configs[0], data)
    trainers = [Trainer(config, data, worker, first_samples(config, data, shared_NGC)) for config in configs]
    if checkpointing is None:
        _advance(trainers, last, report, None)
        return trainers
    with Recovery(checkpointing, worker) as recovery:
        recovery.resume(trainers)
        _advance(trainers, last, report, recovery)
    return trainers


def stream_of(config: ResolvedTrainConfig) -> tuple[Any, ...]:
    """What decides batches, checkpoints and length: crosscoders of one stream have it in common, and no others."""
    return tuple(getattr(config, name) for name in ONE_STREAM)


def _last_step(config: ResolvedTrainConfig, until: int | None) -> int:
    if until is None or until >= config.steps:
        return config.steps
    if until < 1 or until % config.checkpoint_every:
        expected = f"a multiple of checkpoint_every ({config.checkpoint_every})"
        raise ValueError(f"until: found {until}, expected {expected}, where a checkpoint is written to go on from")
    return until


def _advance(trainers: list[Trainer], last: int, report: Report, recovery: Recovery | None) -> None:
    """Steps, metrics and checkpoints up to the last step."""
    lead = trainers[0]
    held_out = HeldOutSamples(lead.data, lead.worker, batch=lead.config.batch)
    with closing(lead.stream()) as stream:
        while lead.step < last:
            acts_BGC = next(stream)
            for trainer in trainers:
                trainer.advance(acts_BGC)
            if lead.step == lead.num_steps:
                settle_thresholds(trainers, stream)
            at_log = lead.step % LOG_EVERY == 0
            if lead.at_checkpoint or at_log:
                report(_log(trainers, held_out))
            if recovery:
                urgent = at_log and recovery.is_urgent()
                if lead.at_checkpoint or urgent:
                    recovery.save(trainers)
                recovery.check()


def _log(trainers: list[Trainer], held_out: HeldOutSamples) -> list[dict[str, float]]:
    if not trainers[0].at_checkpoint:
        return [trainer.log() for trainer in trainers]
    scores = held_out.score([trainer.result for trainer in trainers])
    return [trainer.log(score) for trainer, score in zip(trainers, scores, strict=True)]


def _check_one_stream(configs: Sequence[ResolvedTrainConfig]) -> None:
    for config in configs[1:]:
        like = replace(config, **{name: getattr(configs[0], name) for name in ONE_STREAM})
        if different := config.differences(like):
            raise ValueError(f"train: crosscoders on one stream differ ({'; '.join(different)}); train them apart")
