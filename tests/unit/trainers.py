"""Small trainings on the planted features, for the tests of training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gc_core.checkpoint import save_checkpoint
from gc_core.config import TrainConfig
from gc_core.run_folder import RunFolder
from gc_core.train import Place, Trainer, TrainingData, open_data, resolve, train

SMALL = TrainConfig(
    dict_size=20, k=2, batch=64, lanes=4, steps=40, buffer_rows=512, learning_rate=1e-2, encoder_reads="all"
)


def opened(run: RunFolder, **changes: Any) -> tuple[TrainConfig, TrainingData]:
    config = replace(SMALL, **changes)
    data = open_data(run, config)
    return resolve(config, data), data


def new_trainer(run: RunFolder, **changes: Any) -> Trainer:
    return Trainer(*opened(run, **changes), Place())


def trained(run: RunFolder, *, resume: Path | None = None, keep: Path | None = None, **changes: Any) -> Trainer:
    """Train to the end; checkpoints go below `keep`, in folders named by their step."""

    return trained_together(run, [changes], resume=resume, keep=keep)[0]


def trained_together(
    run: RunFolder, changes: list[dict[str, Any]], *, resume: Path | None = None, keep: Path | None = None
) -> list[Trainer]:
    """Train several side by side; with more than one, their checkpoints lie in numbered folders."""
    folder = keep
    places = [Path() if len(changes) == 1 else Path(str(number)) for number in range(len(changes))]

    def report(metrics: list[dict[str, float]], trainers: list[Trainer], *, keep: bool) -> None:
        for trainer, place in zip(trainers, places, strict=True):
            if keep and folder is not None:
                save_checkpoint(folder / str(trainer.step) / place, trainer.state(), trainer.metrics)

    both = [opened(run, **each) for each in changes]
    folders = [resume / place for place in places] if resume else None
    return train([config for config, _ in both], both[0][1], Place(), resume=folders, report=report)


def same_weights(left: Trainer, right: Trainer) -> bool:
    pairs = zip(left.model.parameters(), right.model.parameters(), strict=True)
    return all(torch.equal(mine, other) for mine, other in pairs)


def num_recovered(trainer: Trainer, decoder_FGC: np.ndarray) -> int:
    """Planted features that some learned feature resembles."""
    planted = torch.from_numpy(decoder_FGC).float().flatten(1)
    learned = trainer.model.W_dec.detach().flatten(1)
    return int((torch.cosine_similarity(planted[:, None], learned[None], dim=2).amax(1) > 0.9).sum())
