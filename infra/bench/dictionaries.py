"""Crosscoders that benchmarks train side by side on a harvested run, and what is measured of each.

Letters: B samples, F features.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gc_core.config import ResolvedTrainConfig, TrainConfig
from gc_core.evaluate import largest_cosines
from gc_core.io.run_folder import RunFolder
from gc_core.train import Trainer, TrainingData, Worker, keep_freed_memory, open_data, resolve, train
from jobs.common import console

LAST_ROWS = 5
"""Rows of metrics averaged: the FVU in training is a mean over the last fifty steps."""
TWIN_COSINE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one training came to."""

    fvu: float
    """FVU in training, mean over its last fifty steps."""
    held_out_fvu: float
    loss: float
    """All terms, a sample, over the last fifty steps."""
    l0: float
    dead_share: float
    """Share of features that did not fire in the last tenth of the run (`--dead-after-samples`)."""
    never_share: float
    """Share of features that fire on no sample of one more pass over the store with the last weights."""
    twin_share: float
    """Share of features that another one resembles, cosine above 0.9."""


def resolved_for(url: str, configs: Sequence[TrainConfig]) -> tuple[TrainingData, list[ResolvedTrainConfig]]:
    """What configs of one group train on, and they themselves as that decides them.

    Raises:
        StoreError: the harvest is missing, unfinished or damaged.
    """
    data = open_data(RunFolder.at(url), configs[0])
    return data, [resolve(config, data) for config in configs]


def train_side_by_side(data: TrainingData, resolved: Sequence[ResolvedTrainConfig]) -> list[Measured]:
    """What each config comes to, in this process, on one thread and one pass over the data.

    Raises:
        ValueError: the configs do not fit one stream.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    with console.progress("train", resolved[0].steps, "steps") as meter:

        def report(metrics: list[dict[str, float]]) -> None:
            meter.set(int(metrics[0]["step"]), f"FVU {metrics[0]['fvu']:.3f}")

        trainers = train(resolved, data, Worker(), report=report)
    fired = firing(trainers, data)
    return [_measured(trainer, fired_F) for trainer, fired_F in zip(trainers, fired, strict=True)]


@torch.no_grad()
def firing(trainers: Sequence[Trainer], data: TrainingData) -> list[Tensor]:
    """(F,) on how many samples each feature fires with the last weights, over as many samples as the store has."""
    fired: list[Any] = [0] * len(trainers)
    batch = trainers[0].config.batch
    with closing(trainers[0].stream()) as stream:
        for _ in range(-(-len(data.train_rows) // batch)):
            acts_BGC = next(stream)
            fired = [
                so_far + (trainer.result.reconstruct(acts_BGC)[0] > 0).sum(0)
                for so_far, trainer in zip(fired, trainers, strict=True)
            ]
    return fired


@torch.no_grad()
def twin_share(rows_FGC: Tensor) -> float:
    """Share of decoder rows that another one resembles, cosine above TWIN_COSINE."""
    return float((largest_cosines(rows_FGC) > TWIN_COSINE).float().mean())


def _measured(trainer: Trainer, fired_F: Tensor) -> Measured:
    last = trainer.metrics[-LAST_ROWS:]
    fvu, loss, l0 = (sum(row[name] for row in last) / len(last) for name in ("fvu", "loss", "l0"))
    return Measured(
        fvu=fvu,
        held_out_fvu=trainer.metrics[-1]["held_out_fvu"],
        loss=loss,
        l0=l0,
        dead_share=trainer.metrics[-1]["dead_share"],
        never_share=float((fired_F == 0).float().mean()),
        twin_share=twin_share(trainer.model.W_dec),
    )
