"""One worker's part of training: a step, its metrics, and the state that a checkpoint holds.

Letters: B samples, N rows, G group elements, C channels, F features.
"""

import math
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from gc_core import groups
from gc_core.checkpoint import load_checkpoint
from gc_core.config import TrainConfig
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.losses import Losses, l1_coefficient, l1_losses, topk_losses
from gc_core.metrics import VarianceSums
from gc_core.stream import batches, lane_order
from gc_core.train.data import TrainingData
from gc_core.train.progress import Progress
from gc_core.train.recipe import decided, learning_rate
from gc_core.train.workers import Place, sum_over_workers

MAX_HELD_OUT_ROWS = 2048
INITIAL_ROWS = 1024
"""Samples that the first weights are made from."""
CLIP_NORM_PER_ROOT = 10.0
"""Gradient norms are clipped at this times sqrt(G C); only outliers reach it."""


class Trainer:
    """A crosscoder, its optimiser and counters, and the place in the data: all that a checkpoint holds."""

    def __init__(self, config: TrainConfig, data: TrainingData, place: Place) -> None:
        if config.lanes % place.num_workers:
            raise ValueError(f"lanes: found {config.lanes}, expected a multiple of the {place.num_workers} workers")
        self.config, self.data, self.place = config, data, place
        self.step, self.num_steps = 0, decided(config.steps)
        self.metrics: list[dict[str, Any]] = []
        self._order = lane_order(
            data.train_rows, num_lanes=config.lanes, buffer_rows=config.buffer_rows, seed=config.seed
        )
        self.model = _new_model(config, data).to(place.device)
        self._losses = _parallel(_Objective(self.model, config), place)
        self._optimiser = torch.optim.Adam(self.model.parameters(), lr=learning_rate(config, 0), fused=True)
        self.samples_since_fired_F = torch.zeros(decided(config.dict_size), dtype=torch.int64, device=place.device)
        self._progress = self._no_progress()

    @property
    def dead_F(self) -> Tensor:
        """(F,) features that have not fired for `dead_after_samples`, over all workers."""
        return self.samples_since_fired_F >= decided(self.config.dead_after_samples)

    @property
    def at_checkpoint(self) -> bool:
        """Whether the state should be kept now: every `checkpoint_every` steps, and at the end."""
        return self.step % self.config.checkpoint_every == 0 or self.step == self.num_steps

    def stream(self) -> Generator[Tensor, None, None]:
        """This worker's part of every batch from the current step on, (B / workers, G, C) scaled float32."""
        raw = batches(
            self.data.store,
            self._order,
            lanes=range(self.place.rank, self.config.lanes, self.place.num_workers),
            rows_per_lane=self.config.batch // self.config.lanes,
            first_step=self.step,
            blocks=self.data.blocks,
        )
        with closing(raw):
            for stored_BGC in raw:
                yield self.data.scaled(stored_BGC, self.place.device)

    def advance(self, acts_BGC: Tensor) -> None:
        """One optimiser step on this worker's part of a batch.

        Raises:
            FloatingPointError: the gradient over all workers is not finite; the weights are left as they were.
        """
        losses: Losses = self._losses(acts_BGC, self.dead_F, self.step)
        losses.total.backward()
        self._clip_gradient(losses, at=CLIP_NORM_PER_ROOT * math.sqrt(acts_BGC[0].numel()))
        for options in self._optimiser.param_groups:
            options["lr"] = learning_rate(self.config, self.step)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        fired_F = sum_over_workers(losses.fired_F, self.place)
        self.samples_since_fired_F = torch.where(fired_F > 0, 0, self.samples_since_fired_F + self.config.batch)
        self._progress.add(acts_BGC, losses, fired_F)
        self.step += 1

    def log(self) -> dict[str, float]:
        """Metrics of the steps since the last call, over all workers; kept for `metrics.parquet`."""
        row = {"step": self.step, "samples": self.step * self.config.batch, **self._progress.read()}
        row |= {"dead_share": float(self.dead_F.float().mean())}
        row |= {"learning_rate": self._optimiser.param_groups[0]["lr"]}
        if self.at_checkpoint:
            row |= {"held_out_fvu": self.evaluate().fraction_unexplained()}
        self._progress = self._no_progress()
        self.metrics.append(row)
        return row

    @torch.no_grad()
    def evaluate(self) -> VarianceSums:
        """Sums for the held-out fraction of variance unexplained, over all workers."""
        sums = VarianceSums.zeros(self.data.num_elements, self.data.channels, self.place.device)
        mine = _spread(self.data.held_out_rows, MAX_HELD_OUT_ROWS)[self.place.rank :: self.place.num_workers]
        for first in range(0, len(mine), self.config.batch):
            acts_BGC = self.data.read(mine[first : first + self.config.batch], self.place.device)
            sums.add(acts_BGC, self.model.decode(self.model.encode(acts_BGC)))
        for tensor in sums.tensors():
            sum_over_workers(tensor, self.place)
        return sums

    def state(self) -> dict[str, Any]:
        """Everything needed to continue, for `save_checkpoint`; live tensors, to be written before the next step."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "samples_since_fired": self.samples_since_fired_F,
        }

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint folder of the same config, on any number of workers."""
        state, self.metrics = load_checkpoint(folder)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.samples_since_fired_F = state["samples_since_fired"].to(self.place.device)
        self._progress = self._no_progress()

    def exported(self) -> GroupCrosscoder:
        """A copy on the CPU that takes raw activations: the store's scale folded into its weights."""
        model = GroupCrosscoder(self.model.shape)
        model.load_state_dict({name: tensor.cpu() for name, tensor in self.model.state_dict().items()})
        model.fold_scale(self.data.scale)
        return model

    def _clip_gradient(self, losses: Losses, *, at: float) -> None:
        # Gradients are the same on every worker here, so that all stop together where one of them met a bad value.
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"step {self.step}: the loss is {losses.total.item():.3g} and its gradient not finite; "
                "lower learning_rate, or resume from the last checkpoint"
            )
        if norm > at:  # a pass over all gradients, rarely needed
            clip_grads_with_norm_(self.model.parameters(), at, norm)

    def _no_progress(self) -> Progress:
        return Progress(self.data.num_elements, self.data.channels, self.place)


class _Objective(nn.Module):
    """What DistributedDataParallel wraps: a forward pass that ends in the losses."""

    def __init__(self, model: GroupCrosscoder, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, acts_BGC: Tensor, dead_F: Tensor, step: int) -> Losses:
        if self.config.activation == "topk":
            return topk_losses(self.model, acts_BGC, dead_F, decided(self.config.aux_k))
        coefficient = l1_coefficient(self.config, step, decided(self.config.steps))
        return l1_losses(self.model, acts_BGC, coefficient, self.config.norm_over)


def _parallel(objective: _Objective, place: Place) -> nn.Module:
    if place.num_workers == 1:
        return objective
    return DistributedDataParallel(objective, gradient_as_bucket_view=True)


def _new_model(config: TrainConfig, data: TrainingData) -> GroupCrosscoder:
    """Every worker makes the same one, from the same rows and seed."""
    group = groups.parse(decided(config.group))
    shape = CrosscoderShape(
        group=group.name,
        channels=data.channels,
        dict_size=decided(config.dict_size),
        reads=(0,) if config.encoder_reads == "identity" else tuple(range(group.order)),
        activation=config.activation,
        k=config.k,
    )
    model = GroupCrosscoder(shape)
    model.initialise(data.read(data.train_rows[:INITIAL_ROWS]), torch.Generator().manual_seed(config.seed))
    return model


def _spread(rows: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    """Rows evenly spread over all: a bounded cost however large the store."""
    return rows if len(rows) <= at_most else rows[np.linspace(0, len(rows) - 1, at_most).astype(np.int64)]
