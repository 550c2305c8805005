"""Stage 2: stream the store into a group crosscoder. Plain torch; distributed when torch.distributed is initialised.

Letters: B samples, N rows, G group elements, C channels, F features.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gc_core import groups, manifest
from gc_core.checkpoint import load_checkpoint
from gc_core.config import TrainConfig
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.losses import Losses, l1_coefficient, l1_losses, topk_losses
from gc_core.metrics import VarianceSums
from gc_core.run_folder import RunFolder
from gc_core.store import Store, open_store
from gc_core.stream import LaneOrder, batches, lane_order, read_rows

LOG_EVERY = 10
MAX_HELD_OUT_ROWS = 2048
INITIAL_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which worker this is."""

    rank: int = 0
    num_workers: int = 1
    device: str = "cpu"


class Report(Protocol):
    """Hears of progress; `checkpoint` is given where the state should be kept."""

    def __call__(self, metrics: dict[str, float], checkpoint: "Trainer | None") -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """A store cut to what a crosscoder trains on."""

    store: Store
    blocks: NDArray[np.int64]
    """Store elements in the order of the crosscoder's group."""
    train_rows: NDArray[np.int64]
    held_out_rows: NDArray[np.int64]
    scale: float
    """Multiplies activations so that a block's mean squared norm is C."""


def open_data(run: RunFolder, config: TrainConfig) -> TrainingData:
    """The store's rows, split by image as the manifest says."""
    store = open_store(run)
    held_out = manifest.held_out(manifest.load_table(run.manifest))[store.image]
    group = store.group if config.group is None else groups.parse(config.group)
    return TrainingData(
        store=store,
        blocks=groups.embed(group, store.group),
        train_rows=np.flatnonzero(~held_out),
        held_out_rows=np.flatnonzero(held_out),
        scale=math.sqrt(store.channels / store.attrs["mean_squared_block_norm"]),
    )


def resolve(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """The config with every None decided by the data.

    Raises:
        ValueError: the lanes cannot be dealt to the batch.
    """
    steps = config.steps or min(20_000, max(200, round(20 * len(data.train_rows) / config.batch)))
    dead_after = config.dead_after_samples or min(10_000_000, max(config.batch, steps * config.batch // 10))
    rate = config.learning_rate or 4e-4 / math.sqrt(config.dict_size / 2**14)
    group = config.group or data.store.group.name
    aux_k = config.aux_k if config.aux_k is not None else min(512, max(1, config.dict_size // 2))
    return replace(config, steps=steps, dead_after_samples=dead_after, learning_rate=rate, group=group, aux_k=aux_k)


def train(config: TrainConfig, data: TrainingData, place: Place, *, resume: Path | None, report: Report) -> "Trainer":
    """Run a resolved config to its end, from a checkpoint folder if one is given."""
    trainer = Trainer(config, data, place)
    if resume is not None:
        trainer.restore(resume)
    steps = config.steps or 0
    stream = trainer.stream()
    while trainer.step < steps:
        trainer.advance(next(stream))
        if trainer.step % LOG_EVERY == 0 or trainer.step == steps:
            metrics = trainer.log()
            keep = trainer.step % config.checkpoint_every == 0 or trainer.step == steps
            report(metrics, trainer if keep else None)
    return trainer


class Trainer:
    """A crosscoder, its optimiser and counters, and the place in the data: all that a checkpoint holds."""

    def __init__(self, config: TrainConfig, data: TrainingData, place: Place) -> None:
        _check_lanes(config, place)
        self.config, self.data, self.place = config, data, place
        self.order: LaneOrder = lane_order(data.train_rows, num_lanes=config.lanes, buffer_rows=config.buffer_rows, seed=config.seed)
        self.step = 0
        self.metrics: list[dict[str, Any]] = []
        self.model = _new_model(config, data).to(place.device)
        self._loss = _LossModule(self.model, config)
        self._parallel = DistributedDataParallel(self._loss, broadcast_buffers=False) if place.num_workers > 1 else self._loss
        self._optimiser = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate or 0.0, betas=(0.9, 0.999), fused=True)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: _rate_factor(config, step))
        self.samples_since_fired_F = torch.zeros(config.dict_size, dtype=torch.int64, device=place.device)
        self._window = _Window(len(data.blocks), data.store.channels, place.device)

    @property
    def dead_F(self) -> Tensor:
        """(F,) features that have not fired for `dead_after_samples`."""
        return self.samples_since_fired_F >= (self.config.dead_after_samples or 0)

    def stream(self) -> Iterator[Tensor]:
        """This worker's part of every batch from the current step on; (B / workers, G, C) scaled float32 on the device."""
        mine = range(self.place.rank, self.config.lanes, self.place.num_workers)
        size = self.config.batch // self.config.lanes
        raw = batches(self.data.store, self.order, lanes=mine, rows_per_lane=size, first_step=self.step, blocks=self.data.blocks)
        return (self._scaled(acts) for acts in raw)

    def advance(self, acts_BGC: Tensor) -> None:
        """One optimiser step on this worker's part of a batch.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        losses: Losses = self._parallel(acts_BGC, self.dead_F, self.step)
        if not torch.isfinite(losses.total):
            raise FloatingPointError(f"step {self.step}: the loss is {losses.total.item()}; lower learning_rate, or resume from the last checkpoint")
        self._optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP_NORM_PER_ROOT * math.sqrt(acts_BGC[0].numel()))
        self._optimiser.step()
        self._schedule.step()
        fired_F = _sum_over_workers(losses.fired_F, self.place)
        self.samples_since_fired_F = torch.where(fired_F > 0, 0, self.samples_since_fired_F + self.config.batch)
        self._window.add(acts_BGC, losses, fired_F)
        self.step += 1

    def log(self) -> dict[str, float]:
        """Metrics of the steps since the last call, over all workers; kept for `metrics.parquet`."""
        row = {"step": self.step, "samples": self.step * self.config.batch, **self._window.read(self.place)}
        row |= {"dead_share": float(self.dead_F.float().mean()), "learning_rate": self._schedule.get_last_lr()[0]}
        if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
            row |= {"held_out_fvu": self.evaluate().fraction_unexplained()}
        self._window = _Window(len(self.data.blocks), self.data.store.channels, self.place.device)
        self.metrics.append(row)
        return row

    @torch.no_grad()
    def evaluate(self) -> VarianceSums:
        """Sums for the held-out fraction of variance unexplained, over all workers."""
        sums = VarianceSums.zeros(len(self.data.blocks), self.data.store.channels, self.place.device)
        rows = _held_out_sample(self.data.held_out_rows)[self.place.rank :: self.place.num_workers]
        for part in np.array_split(rows, max(1, len(rows) // self.config.batch)):
            if len(part):
                acts_BGC = self._scaled(read_rows(self.data.store, part, self.data.blocks))
                sums.add(acts_BGC, self.model.decode(self.model.encode(acts_BGC)))
        for tensor in sums.tensors():
            _sum_over_workers(tensor, self.place)
        return sums

    def state(self) -> dict[str, Any]:
        """Everything needed to continue, for `save_checkpoint`."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": {"last_epoch": self._schedule.last_epoch, "_step_count": self._schedule._step_count},
            "samples_since_fired": self.samples_since_fired_F,
        }

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint folder, on any number of workers."""
        state, self.metrics = load_checkpoint(folder)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self.samples_since_fired_F = state["samples_since_fired"].to(self.place.device)

    def exported(self) -> GroupCrosscoder:
        """A copy on the CPU that takes raw activations: the store's scale folded into its weights."""
        model = GroupCrosscoder(self.model.shape)
        model.load_state_dict({name: tensor.cpu() for name, tensor in self.model.state_dict().items()})
        model.fold_scale(self.data.scale)
        return model

    def _scaled(self, acts: NDArray[np.float16]) -> Tensor:
        return torch.from_numpy(acts).to(self.place.device).float() * self.data.scale


_CLIP_NORM_PER_ROOT = 10.0
"""Gradient norms are clipped at this times sqrt(G C); only outliers reach it."""


class _LossModule(nn.Module):
    """What DistributedDataParallel wraps: a forward pass that ends in the losses."""

    def __init__(self, model: GroupCrosscoder, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, acts_BGC: Tensor, dead_F: Tensor, step: int) -> Losses:
        if self.config.activation == "topk":
            return topk_losses(self.model, acts_BGC, dead_F, self.config.aux_k or 0)
        coefficient = l1_coefficient(self.config, step, self.config.steps or 1)
        return l1_losses(self.model, acts_BGC, coefficient, self.config.norm_over)


class _Window:
    """Sums over the steps since the last log."""

    def __init__(self, num_elements: int, channels: int, device: str) -> None:
        self._variance = VarianceSums.zeros(num_elements, channels, device)
        self._losses = torch.zeros(4, dtype=torch.float64, device=device)
        self._fired = torch.zeros((), dtype=torch.float64, device=device)
        self._steps = 0

    def add(self, acts_BGC: Tensor, losses: Losses, fired_F: Tensor) -> None:
        self._variance.add(acts_BGC, losses.recon_BGC)
        terms = [losses.total.detach(), losses.reconstruction, losses.sparsity, losses.auxiliary]
        self._losses += torch.stack(terms).double()
        self._fired += fired_F.sum()  # already summed over workers
        self._steps += 1

    def read(self, place: Place) -> dict[str, float]:
        for tensor in [*self._variance.tensors(), self._losses]:
            _sum_over_workers(tensor, place)
        total, reconstruction, sparsity, auxiliary = (self._losses / self._steps / place.num_workers).tolist()
        return {
            "loss": total,
            "reconstruction": reconstruction,
            "sparsity": sparsity,
            "auxiliary": auxiliary,
            "fvu": self._variance.fraction_unexplained(),
            "l0": float(self._fired / self._variance.count),
        }


def _new_model(config: TrainConfig, data: TrainingData) -> GroupCrosscoder:
    """Every worker makes the same one, from the same rows and seed."""
    group = groups.parse(config.group or "")
    reads = (0,) if config.encoder_reads == "identity" else tuple(range(group.order))
    shape = CrosscoderShape(
        group=group.name,
        channels=data.store.channels,
        dict_size=config.dict_size,
        reads=reads,
        activation=config.activation,
        k=config.k,
    )
    model = GroupCrosscoder(shape)
    rows = data.train_rows[: _whole_chunks(data.train_rows, INITIAL_ROWS)]
    acts_NGC = torch.from_numpy(read_rows(data.store, rows, data.blocks)).float() * data.scale
    model.initialise(acts_NGC, torch.Generator().manual_seed(config.seed))
    return model


def _whole_chunks(rows: NDArray[np.int64], at_most: int) -> int:
    return min(len(rows), at_most)


def _check_lanes(config: TrainConfig, place: Place) -> None:
    if config.lanes % place.num_workers:
        raise ValueError(f"lanes: found {config.lanes}, expected a multiple of the {place.num_workers} workers")


def _rate_factor(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then flat, then linearly to zero over the last fifth."""
    steps = config.steps or 1
    warm = min(1.0, (step + 1) / max(1.0, config.lr_warmup_share * steps))
    return warm * min(1.0, max(0.0, (steps - step) / (0.2 * steps)))


def _held_out_sample(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most 2,048 rows, evenly spread: a bounded cost however large the store."""
    return rows if len(rows) <= MAX_HELD_OUT_ROWS else rows[np.linspace(0, len(rows) - 1, MAX_HELD_OUT_ROWS).astype(np.int64)]


def _sum_over_workers(tensor: Tensor, place: Place) -> Tensor:
    if place.num_workers > 1:
        dist.all_reduce(tensor)
    return tensor


__all__ = ["Place", "Report", "Trainer", "TrainingData", "open_data", "resolve", "train"]
