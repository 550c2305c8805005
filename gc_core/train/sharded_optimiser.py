"""Adam whose state is shared out to the replicas: ZeRO, stage 1 (Rajbhandari et al. 2020), by rows.

Replicas hold the same weights and the same gradients. Each keeps the moments of its share of the features alone, moves
these, and sends them to the others: the memory of the moments is divided by the replicas, and the weights come out as
if every replica had moved them all.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gc_core.crosscoder import Crosscoder
from gc_core.parallel.sharded_state import BY_FEATURE
from gc_core.parallel.worker import Worker
from gc_core.sparse import drop_row_gradient, keep_row_gradient, row_gradient
from gc_core.train.row_adam import RowAdam


class ShardedAdam(RowAdam):
    """`RowAdam` over this replica's rows of a crosscoder's parameters; those without rows are moved by all alike."""

    def __init__(
        self, model: Crosscoder, worker: Worker, param_groups: Iterable[dict[str, Any]], **options: Any
    ) -> None:
        self._rows, self._group = worker.rows_to_step(len(model.features)), worker.replica_group
        self._shared: dict[Tensor, nn.Parameter] = {
            whole: nn.Parameter(whole.detach()[self._rows])
            for name, whole in model.named_parameters()
            if name in BY_FEATURE
        }
        own_groups = [
            {**group, "params": [self._shared.get(whole, whole) for whole in group["params"]]} for group in param_groups
        ]
        super().__init__(own_groups, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Move this replica's rows by the gradients that lie with the whole parameters, and fetch the others'."""
        for whole, own in self._shared.items():
            own.grad = None if whole.grad is None else whole.grad[self._rows]
            if (gradient := row_gradient(whole)) is not None:
                keep_row_gradient(own, gradient.part(self._rows.start, self._rows.stop))
        loss = super().step(closure)
        for whole, own in self._shared.items():
            dist.all_gather_into_tensor(whole.detach(), own.detach(), group=self._group)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, of the whole parameters too."""
        super().zero_grad(set_to_none)
        for whole in self._shared:
            whole.grad = None
            drop_row_gradient(whole)
