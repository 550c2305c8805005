"""One worker's part of training one crosscoder: a step, its metrics, and the state that a checkpoint holds.

Letters: B samples, N rows, G group elements, C channels, F features.
"""

import contextlib
import math
from collections.abc import Generator
from contextlib import AbstractContextManager, closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gc_core.config import ResolvedTrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.initialise import FirstSamples
from gc_core.losses import Losses, combined
from gc_core.parallel.collectives import sum_over_replicas
from gc_core.parallel.sharded_state import BY_FEATURE, gather_rows, rows_of_optimiser, rows_of_tensors
from gc_core.parallel.worker import Worker
from gc_core.sparse import average_over_workers
from gc_core.stream import batches, lane_order
from gc_core.stream.ahead import one_ahead
from gc_core.train.augmentation import Fetched, blocks_to_read, sample_elements
from gc_core.train.building import new_optimiser
from gc_core.train.data import TrainingData
from gc_core.train.first_weights import first_crosscoder
from gc_core.train.objective import Objective, is_by_row, over_workers
from gc_core.train.planner import obstacle
from gc_core.train.recipe import learning_rate
from gc_core.train.row_adam import clip_gradients
from gc_core.train.running_means import copy_of_weights, follow_threshold, follow_weights
from gc_core.train.running_metrics import Progress
from gc_core.train.validation import HeldOutSamples, Score
from gc_core.train.whereabouts import describe, rows_of_step

DIVERGED_FVU = 1000.0
"""The mean scores 1, and first weights somewhat less."""


class Trainer:
    """A crosscoder, its optimiser and counters, and the place in the data: all that a checkpoint holds."""

    def __init__(
        self, config: ResolvedTrainConfig, data: TrainingData, worker: Worker, first: FirstSamples | None = None
    ) -> None:
        if reason := obstacle([config], worker.mesh):
            raise ValueError(reason)
        self.config, self.data, self.worker = config, data, worker
        self.step, self.num_steps = 0, config.steps
        self.metrics: list[dict[str, Any]] = []
        self._order = lane_order(
            data.train_rows, num_lanes=config.lanes, buffer_rows=config.buffer_rows, seed=config.seed
        )
        self.model = first_crosscoder(config, data, worker, first)
        self.average = copy_of_weights(self.model) if config.average_decay else None
        self._losses = over_workers(Objective(self.model, config, worker))
        self._optimiser = new_optimiser(self.model, config, worker)
        self.samples_since_fired_F = torch.zeros(len(self.model.features), dtype=torch.int64, device=worker.device)
        self._progress = self._no_progress()

    @property
    def result(self) -> Crosscoder:
        """The weights that are evaluated and exported: the running mean, if there is one, or the last ones."""
        if self.average:
            return self.average
        return self.model if self.model.arithmetic.product_dtype is None else copy_of_weights(self.model)

    @property
    def dead_F(self) -> Tensor:
        """(F,) which features, of those here, have not fired for `dead_after_samples`, over all replicas."""
        return self.samples_since_fired_F >= self.config.dead_after_samples

    @property
    def at_checkpoint(self) -> bool:
        """Whether the state should be kept now: every `checkpoint_every` steps, and at the end."""
        return self.step % self.config.checkpoint_every == 0 or self.step == self.num_steps

    def stream(self) -> Generator[Tensor, None, None]:
        """This worker's part of every batch from the current step on, (B / replicas, G, C) scaled float32; the next is
        fetched beside the step on this one."""
        with closing(one_ahead(self._fetched())) as coming:
            for fetched in coming:
                yield fetched.seen(self.data, self.worker.device)

    def _fetched(self) -> Generator[Fetched, None, None]:
        raw = batches(
            self.data.store,
            self._order,
            lanes=self._lanes,
            rows_per_lane=self._rows_per_lane,
            first_step=self.step,
            blocks=blocks_to_read(self.config, self.data),
        )
        with closing(raw):
            for step, stored_BSC in enumerate(raw, self.step):
                element_B = self._elements(step) if self.config.augment else None
                yield Fetched.of(stored_BSC, element_B, self.data, self.worker.device)

    def advance(self, acts_BGC: Tensor) -> None:
        """One optimiser step on this worker's part of a batch, which is left as it is.

        Raises:
            FloatingPointError: the gradient over all workers is not finite; the weights are left as they were.
        """
        losses = self._backward(acts_BGC)
        self._check_and_clip_gradient(losses, acts_BGC)
        for options in self._optimiser.param_groups:
            options["lr"] = learning_rate(self.config, self.step) * options["lr_scale"]
        self._optimiser.step()
        self.model.keep_ties()
        self._optimiser.zero_grad(set_to_none=True)
        follow_threshold(self.model, losses, self.step)
        if self.average:
            follow_weights(self.average, self.model, self.step, self.config.average_decay)
        fired_F = sum_over_replicas(losses.fired_F, self.worker)
        self.samples_since_fired_F = torch.where(fired_F > 0, 0, self.samples_since_fired_F + self.config.batch)
        self._progress.add(acts_BGC, losses, fired_F)
        self.step += 1

    def log(self, held_out: Score | None = None) -> dict[str, float]:
        """Metrics of the steps since the last call, over all workers; kept for `metrics.parquet`. What is undefined is
        left out.

        Raises:
            FloatingPointError: the reconstructions are far worse than none.
        """
        figures = {"step": self.step, "samples": self.step * self.config.batch, **self._progress.read()}
        figures |= {"dead_share": float(self.model.shards.total(self.dead_F.sum()) / self.config.num_rows)}
        figures |= {"learning_rate": learning_rate(self.config, max(0, self.step - 1))}
        if held_out is not None:
            figures |= held_out.as_metrics()
        if self._progress.is_far_off(DIVERGED_FVU):
            fvu = "undefined" if figures["fvu"] is None else f"{figures['fvu']:.3g}"
            errors = f"the FVU is {fvu}, the squared error {figures['reconstruction']:.3g} a sample"
            raise FloatingPointError(f"step {self.step}: {errors}: training diverged; {self._advice}")
        self._progress = self._no_progress()
        row = {name: value for name, value in figures.items() if value is not None}
        self.metrics.append(row)
        return row

    def evaluate(self) -> Score:
        """The held-out score, over all workers."""
        return HeldOutSamples(self.data, self.worker, batch=self.config.batch).score([self.result])[0]

    def state(self) -> dict[str, Any]:
        """What this worker holds of everything needed to continue (`gc_core.train.checkpoint`); live tensors.

        Of what has a row for each feature (`gc_core.parallel.sharded_state`) it holds those rows, `features`, whose
        optimiser state is here. Random choices follow from the seed and the step, and so does the place in the data.
        """
        here, rows = self.model.features, self._rows_to_step
        return {
            "step": self.step,
            "config": self.config.to_json(),
            "features": [here.start + rows.start, here.start + rows.stop],
            "dict_size": self.model.shape.num_rows,
            "model": rows_of_tensors(self.model.state_dict(), rows),
            "average": rows_of_tensors(self.average.state_dict(), rows) if self.average else {},
            "optimiser": self._optimiser.state_dict(),
            "samples_since_fired": self.samples_since_fired_F[rows],
            "metrics": self.metrics,
        }

    def restore(self, whole: dict[str, Any]) -> None:
        """Continue from a whole state of the same config, on any mesh of workers.

        Raises:
            ValueError: another version wrote it, whose steps are of one rate for all parameters.
        """
        if "lr_scale" not in whole["optimiser"]["param_groups"][0]:
            raise ValueError(
                f"train: the checkpoint of step {whole['step']} was written by an earlier version, whose steps differ; "
                "finish it with that version, or choose another --name"
            )
        here, rows = self.model.features, self._rows_to_step
        held, stepped = slice(here.start, here.stop), slice(here.start + rows.start, here.start + rows.stop)
        parameters = [name for name, _ in self.model.named_parameters()]
        self.step, self.metrics = whole["step"], list(whole["metrics"])
        self.model.load_state_dict(rows_of_tensors(whole["model"], held))
        if self.average:
            self.average.load_state_dict(rows_of_tensors(whole["average"], held))
        self._optimiser.load_state_dict(rows_of_optimiser(whole["optimiser"], stepped, parameters))
        self.samples_since_fired_F = whole["samples_since_fired"][held].to(self.worker.device)
        self._progress = self._no_progress()

    def exported(self) -> Crosscoder | None:
        """A copy on the CPU that takes raw activations: the store's scale folded into its weights.

        Nothing is copied on the device. Where features are split, every worker must call it, and rank 0 alone gets the
        crosscoder.

        Raises:
            FloatingPointError: a weight is not finite.
        """
        weights = self.average or self.model
        model = Crosscoder.of(weights.shape) if self.worker.rank == 0 or self.worker.mesh.shards == 1 else None
        gather_rows(weights.state_dict(), weights.shards, model.state_dict() if model else None)
        if model:
            model.fold_scale(self.data.scale)
            if name := model.not_finite():
                raise FloatingPointError(f"step {self.step}: {name} is not finite: training diverged; {self._advice}")
        return model

    def _elements(self, step: int) -> NDArray[np.int64]:
        """(B / replicas,) what acts on this worker's samples of a step."""
        element_B = sample_elements(self.config, self.data.store.group.order, step)
        return element_B.reshape(self.config.lanes, -1)[self._lanes].ravel()

    def _backward(self, acts_BGC: Tensor) -> Losses:
        """Gradients of the mean over the batch, and its losses."""
        parts, each = self._parts(acts_BGC), []
        for number, part_BGC in enumerate(parts, 1):
            with self._exchange(gradients=number == len(parts)):
                losses: Losses = self._losses(part_BGC, self.dead_F, self.step)
                (losses.total / len(parts)).backward()
            each.append(losses)
        if self.worker.mesh.replicas > 1:
            by_row = [p for p in self.model.parameters() if is_by_row(self.model, p)]
            average_over_workers(by_row, self.worker.replica_group)
        return combined(each)

    def _parts(self, acts_BGC: Tensor) -> list[Tensor]:
        """Equal parts of the batch, each with the same number of samples of every lane: the same on any number of
        workers."""
        if self.config.accumulate == 1:
            return [acts_BGC]
        by_lane = acts_BGC.view(len(self._lanes), self.config.accumulate, -1, *acts_BGC.shape[1:])
        return [by_lane[:, part].flatten(0, 1) for part in range(self.config.accumulate)]

    def _exchange(self, *, gradients: bool) -> AbstractContextManager[None]:
        if gradients or not isinstance(self._losses, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._losses.no_sync()

    def _check_and_clip_gradient(self, losses: Losses, acts_BGC: Tensor) -> None:
        # Gradients are the same on every worker here, so that all stop together where one of them met a bad value.
        at = self.config.clip_norm * math.sqrt(acts_BGC[0].numel()) or math.inf
        split = [parameter for name, parameter in self.model.named_parameters() if name in BY_FEATURE]
        shards = self.model.shards
        if not torch.isfinite(clip_gradients(self.model.parameters(), at, split=split, shards=shards)):
            found = f"step {self.step}: the loss is {losses.total.item():.3g} and its gradient not finite"
            raise FloatingPointError(f"{found} ({self._whereabouts(acts_BGC)}); {self._advice}")

    @property
    def _rows_to_step(self) -> slice:
        return self.worker.rows_to_step(len(self.model.features))

    @property
    def _lanes(self) -> range:
        return range(self.worker.replica, self.config.lanes, self.worker.mesh.replicas)

    @property
    def _rows_per_lane(self) -> int:
        return self.config.batch // self.config.lanes

    @property
    def _advice(self) -> str:
        size = f"{self.config.activation} with {self.config.dict_size:,} features"
        return (
            f"lower learning_rate (now {self.config.learning_rate:.3g}) for {size}, or resume from the last checkpoint"
        )

    def _whereabouts(self, acts_BGC: Tensor) -> str:
        rows = rows_of_step(self._order, lanes=self._lanes, rows_per_lane=self._rows_per_lane, step=self.step)
        return describe(rows, acts_BGC, self.data.store.shard_rows)

    def _no_progress(self) -> Progress:
        return Progress(self.data.num_elements, self.data.channels, self.worker)
