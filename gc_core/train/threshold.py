"""The threshold that a batchtopk dictionary is used with, found anew when its training is over.

Letters: B samples, F features, N scores.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.parallel.collectives import peers_of
from gc_core.parallel.worker import Worker
from gc_core.train.trainer import Trainer

MOST_SAMPLES = 8192
MOST_TIMES_K = 4
"""A worker's part of a batch has fewer active features than this times k a sample."""


@torch.no_grad()
def settle_thresholds(trainers: Sequence[Trainer], stream: Iterator[Tensor]) -> None:
    """Make k the mean number of active features over the next samples of the stream, at most once the store.

    The running mean that training keeps is of weights that are no more. Every worker must call it.
    """
    learning = [(trainer, trainer.result) for trainer in trainers if trainer.model.threshold is not None]
    if not learning:
        return
    config, data = trainers[0].config, trainers[0].data
    num_batches = math.ceil(min(MOST_SAMPLES, len(data.train_rows)) / config.batch)
    all_scores: list[list[Tensor]] = [[] for _ in learning]
    for acts_BGC in islice(stream, num_batches):
        for (_, model), scores in zip(learning, all_scores, strict=True):
            scores.append(largest_scores(model, acts_BGC))
    for (trainer, _), scores in zip(learning, all_scores, strict=True):
        threshold = threshold_of(torch.cat(scores), trainer.model, num_batches * config.batch, trainer.worker)
        for model in filter(None, (trainer.model, trainer.average)):
            if threshold.isfinite() and model.threshold is not None:
                model.threshold.copy_(threshold)


def largest_scores(model: Crosscoder, acts_BGC: Tensor) -> Tensor:
    """The largest of this worker's pre-activations times decoder norms, (N,): all that can be active."""
    score_BF = model.best_pre_activations(acts_BGC)[0] * model.decoder_norm()
    return score_BF.flatten().topk(min(score_BF.numel(), MOST_TIMES_K * model.shape.k * len(score_BF))).values


def threshold_of(score_N: Tensor, model: Crosscoder, num_samples: int, worker: Worker) -> Tensor:
    """() the smallest of the k largest positive scores a sample, over all workers; infinite where none is positive."""
    everyone_N = peers_of(worker).gather(model.shards.gather(score_N).flatten())
    kept = everyone_N.topk(min(model.shape.k * num_samples, len(everyone_N)), sorted=False).values
    return torch.where(kept > 0, kept, torch.inf).min()
