"""The dictionaries that are scored on manifolds: ours, a public peer, a plain block-sparse one, and what is known.

Letters: B samples, A active factors, I factors, R rows of a dictionary, D dimensions, G group elements, C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups
from gc_core.config import AnalyseConfig, TrainConfig
from gc_core.crosscoder import Crosscoder
from infra.bench.block_sparse import BlockSparse, fitted, placed, pursue, train_blocks
from infra.bench.manifolds_world import DIMENSIONS, Batch, Truth, World, batches
from infra.bench.peer import Autoencoder, PeerOptions, train_peer
from infra.bench.planted_chain import families_of
from infra.bench.streamed import FIRST_SAMPLES, train
from infra.bench.synthetic_world import generator_of
from jobs.common import console

TRAINING, HELD_OUT, WEIGHTS, FIRST = 1, 2, 3, 4
"""Purposes of random numbers."""
Parts = Callable[[Batch], Tensor]
"""Samples to what each row adds to the untransformed block, (B, R, C)."""


@dataclass(frozen=True, kw_only=True)
class Training(World):
    """How dictionaries are trained."""

    prototypes: int = 256
    """Of the tied crosscoder; and blocks of the block-sparse featurizer."""
    features: int = 1024
    """Features of the untied crosscoder and of the autoencoders."""
    k: int = 4
    """Active prototypes, features or blocks a sample."""
    steps: int = 1500
    batch: int = 256
    learning_rate: float | None = None
    """Of ours; None for the default of `jobs.train`."""
    block_rate: float = 3e-3
    """Learning rate of the block-sparse featurizer and of SAELens."""
    peer: Path | None = None
    """A Python that has sae-lens; see `python -m infra.bench synthetic --help`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """What is scored: rows, what each adds to a sample, and the units that they form."""

    row_RGC: Tensor
    bias_C: Tensor
    parts: Parts
    label_R: NDArray[np.int64]
    whole: bool = False
    """Rows are blocks, and units as they are."""


def made(kind: str, k: int, options: Training, truth: Truth, seed: int) -> Dictionary:
    """Train it, or take what is known."""
    if kind in ("oracle", "pursuit"):
        return known(truth, active_too=kind == "oracle", k=options.active)
    if kind == "blocks":
        return _blocks(options, truth, seed)
    if kind == "saelens":
        return _of_peer(_peer(k, options, truth, seed))
    config = _config(kind, k, options, seed)
    seen = groups.trivial().order if kind == "sae" else truth.group.order
    first = next(batches(truth, options, FIRST_SAMPLES, 1, FIRST, seed, blocks=seen)).acts_BGC
    steps = options.steps if kind != "untrained" else 0
    stream = batches(truth, options, options.batch, steps, TRAINING, seed, blocks=seen)
    return of_ours(train(f"{kind}, k {k}, seed {seed}", config, first, (each.acts_BGC for each in stream)))


def _config(kind: str, k: int, options: Training, seed: int) -> TrainConfig:
    common: dict[str, Any] = {"k": k, "steps": options.steps, "batch": options.batch, "seed": seed, "augment": False}
    common["learning_rate"] = options.learning_rate
    if kind in ("tied", "untrained"):
        return TrainConfig(group=options.group, tying="orbit", prototypes=options.prototypes, **common)
    if kind == "untied":
        return TrainConfig(group=options.group, tying="none", dict_size=options.features, encoder_reads="all", **common)
    return TrainConfig(group="trivial", tying="none", dict_size=options.features, **common)


@torch.no_grad()
def of_ours(model: Crosscoder) -> Dictionary:
    decoder_RGC = model.W_dec.detach()
    row_R = torch.arange(len(decoder_RGC))

    def parts(batch: Batch) -> Tensor:
        z_BR, pose_BR, _ = model.reconstruct_with_poses(batch.acts_BGC[:, : model.group.order])
        block = decoder_RGC[:, 0] if pose_BR is None else decoder_RGC[row_R, pose_BR]
        return z_BR[:, :, None] * block

    return Dictionary(
        row_RGC=decoder_RGC, bias_C=model.b_dec.detach().view(-1, model.shape.channels)[0], parts=parts,
        label_R=families_of(decoder_RGC, model.group, _bound(model.shape.tying == "orbit"))[0],
    )  # fmt: skip


def _of_peer(model: Autoencoder) -> Dictionary:
    row_R1C = model.W_dec[:, None]
    return Dictionary(
        row_RGC=row_R1C, bias_C=model.b_dec,
        parts=lambda batch: model.encode(batch.acts_BGC[:, 0])[:, :, None] * model.W_dec,
        label_R=families_of(row_R1C, groups.trivial(), _bound(False))[0],
    )  # fmt: skip


def _bound(tied: bool) -> float:
    return AnalyseConfig().resolved(tied=tied).family_similarity


def _peer(k: int, options: Training, truth: Truth, seed: int) -> Autoencoder:
    assert options.peer is not None, "asked only where there is one"
    peer = PeerOptions(
        channels=options.channels, latents=options.features, k=k, batch=options.batch, steps=options.steps,
        learning_rate=options.block_rate, seed=seed,
    )  # fmt: skip
    stream = batches(truth, options, options.batch, options.steps, TRAINING, seed, blocks=1)
    return train_peer(options.peer, peer, (each.acts_BGC[:, 0] for each in stream))


def _blocks(options: Training, truth: Truth, seed: int) -> Dictionary:
    first = next(batches(truth, options, FIRST_SAMPLES, 1, FIRST, seed, blocks=1)).acts_BGC[:, 0]
    model = BlockSparse(options.prototypes, DIMENSIONS, options.k, first, generator_of(WEIGHTS, seed))
    stream = batches(truth, options, options.batch, options.steps, TRAINING, seed, blocks=1)
    with console.progress(f"blocks, seed {seed}", options.steps, "steps") as meter:
        told = (meter.set(step) or each.acts_BGC[:, 0] for step, each in enumerate(stream, 1))
        train_blocks(model, told, options.steps, options.block_rate)
    model.requires_grad_(False)
    return Dictionary(
        row_RGC=model.W_dec, bias_C=model.b_dec, label_R=np.arange(options.prototypes), whole=True,
        parts=lambda batch: model.parts(model.encode(batch.acts_BGC[:, 0])),
    )  # fmt: skip


def known(truth: Truth, *, active_too: bool, k: int) -> Dictionary:
    """The factors' own spaces: which k of them a sample holds is told, or pursued."""
    frame_IDC = truth.used_frame_IDC

    def parts(batch: Batch) -> Tensor:
        acts_BC = batch.acts_BGC[:, 0]
        if not active_too:
            return pursue(acts_BC, frame_IDC, k)
        return placed(batch.factor_BA, fitted(acts_BC, frame_IDC[batch.factor_BA]), len(frame_IDC))

    channels = frame_IDC.shape[2]
    return Dictionary(
        row_RGC=frame_IDC, bias_C=torch.zeros(channels), parts=parts, label_R=np.arange(len(frame_IDC)), whole=True
    )
