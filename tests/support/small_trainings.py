"""Small trainings on the planted features, for the tests of training."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gc_core.config import TrainConfig
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.stream import LaneOrder, lane_order
from gc_core.train import Trainer, TrainingData, Worker, open_data, resolve, train
from gc_core.train.checkpoint import Keep
from gc_core.train.recovery import Checkpointing

SMALL = TrainConfig(
    dict_size=20,
    k=2,
    batch=64,
    lanes=4,
    steps=40,
    buffer_rows=512,
    learning_rate=1e-2,
    encoder_reads="all",
    augment=False,
)
"""Planted samples are no images: turned, they are made of other features."""

EVERY = Keep(last=100)


def opened(run: RunFolder, **changes: Any) -> tuple[TrainConfig, TrainingData]:
    config = replace(SMALL, **changes)
    data = open_data(run, config)
    return resolve(config, data), data


def order_of(trainer: Trainer) -> LaneOrder:
    """In which order a trainer's lanes meet the rows of its store."""
    config = trainer.config
    return lane_order(trainer.data.train_rows, num_lanes=config.lanes, buffer_rows=config.buffer_rows, seed=config.seed)


def new_trainer(run: RunFolder, **changes: Any) -> Trainer:
    return Trainer(*opened(run, **changes), Worker())


def trained(run: RunFolder, *, keep: Path | None = None, **changes: Any) -> Trainer:
    """Train to the end, from the newest checkpoint below `keep`, if there is one; all checkpoints stay there."""
    return trained_together(run, [changes], keep=keep)[0]


def trained_together(run: RunFolder, changes: list[dict[str, Any]], *, keep: Path | None = None) -> list[Trainer]:
    """Train several side by side; their folders are numbered."""
    both = [opened(run, **each) for each in changes]
    folders = [Location.parse(keep / str(number)) for number in range(len(changes))] if keep else None
    return train(
        [config for config, _ in both],
        both[0][1],
        Worker(),
        report=lambda metrics: None,
        checkpointing=Checkpointing(folders=folders, keep=EVERY) if folders else None,
    )


def cut_at(step: int, whole: Path, cut: Path) -> Path:
    """What a run that kept its checkpoints in `whole` would have left there, killed some time after the step."""
    for found in whole.glob("*/checkpoints/*"):
        if int(found.name.split("-")[1]) <= step:
            shutil.copytree(found, cut / found.relative_to(whole))
    return cut


def same_weights(left: Trainer, right: Trainer) -> bool:
    pairs = zip(left.model.parameters(), right.model.parameters(), strict=True)
    return all(torch.equal(mine, other) for mine, other in pairs)


def num_recovered(trainer: Trainer, decoder_FGC: np.ndarray) -> int:
    """Planted features that some learned feature resembles."""
    planted = torch.from_numpy(decoder_FGC).float().flatten(1)
    learned = trainer.model.W_dec.detach().flatten(1)
    return int((torch.cosine_similarity(planted[:, None], learned[None], dim=2).amax(1) > 0.9).sum())
