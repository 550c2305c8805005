"""Our crosscoders on samples that are made as they are needed: the same steps as `jobs.train`'s, without a store.

Letters: B samples, G group elements, C channels.
"""

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from gc_core.config import TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.initialise import FirstSamples
from gc_core.train import Trainer, Worker, resolve
from infra.bench.training import Size, empty_data
from jobs.common import console

FIRST_SAMPLES = 1024
"""Samples that first weights are made from, of as many batches as that takes."""


def train(title: str, config: TrainConfig, first_BGC: Tensor, batches: Iterable[Tensor]) -> Crosscoder:
    """A crosscoder, in the samples' units, whose first weights are made from some samples, after one step a batch
    (B, G, C). The config says how many there are, and names the group.

    Raises:
        ValueError: the config does not fit the samples.
    """
    channels = first_BGC.shape[2]
    scale = float((channels / first_BGC.square().sum(2).mean()).sqrt())
    data = replace(empty_data(Size(group=str(config.group), channels=channels, features=1)), scale=scale)
    worker = Worker(device=str(first_BGC.device))
    trainer = Trainer(resolve(config, data), data, worker, FirstSamples.of(first_BGC * scale))
    with console.progress(title, trainer.config.steps, "steps") as meter:
        for acts_BGC in batches:
            trainer.advance(acts_BGC * scale)
            meter.set(trainer.step)
    model = trainer.exported()
    assert model is not None, "one worker has the whole crosscoder"
    return model
