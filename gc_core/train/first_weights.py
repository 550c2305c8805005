"""The crosscoder that a training begins with: fresh weights, or another crosscoder's."""

import torch

from gc_core.config import ResolvedTrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.initialise import SAMPLES_TO_MATCH, FirstSamples, initialise
from gc_core.parallel.collectives import shards_of
from gc_core.parallel.worker import Worker
from gc_core.train.building import arithmetic_of, shape_of
from gc_core.train.data import TrainingData
from gc_core.train.first import first_samples
from gc_core.train.other_weights import along_families, begin_with, read_other


def first_crosscoder(
    config: ResolvedTrainConfig, data: TrainingData, worker: Worker, samples: FirstSamples | None = None
) -> Crosscoder:
    """A config's crosscoder before its first step, of the features that are here, on the worker's device. Every worker
    makes it from the same samples and seed; `samples` spares reading them again.

    Raises:
        ValueError: the features cannot be shared out to the shards, or the other crosscoder does not fit.
    """
    samples, other = first_samples(config, data) if samples is None else samples, read_other(config, data)
    samples = along_families(samples, other, config)
    model = Crosscoder.of(shape_of(config, samples.acts_BGC.shape[2]), shards_of(worker))
    generator = torch.Generator().manual_seed(config.seed)
    initialise(model, samples, generator, init=config.init, bias_init=config.bias_init)
    begin_with(model, other, samples.acts_BGC[:SAMPLES_TO_MATCH])
    # First weights are computed exactly, whatever the arithmetic of the steps.
    return model.to(worker.device).computing(arithmetic_of(config, model.group.order))
