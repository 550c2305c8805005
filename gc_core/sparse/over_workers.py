"""Row gradients averaged over workers, which DistributedDataParallel cannot do: it knows ordinary tensors only.

Workers exchange factors, not rows: B G C numbers each for a decoder, against up to B k G C. Every worker then joins
them in the order of the ranks, so that all hold the same gradient, bit for bit.

Letters: N entries, M rows of a table, D values of a row, W workers.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from gc_core.sparse.factors import RowGradient, drop_row_gradient, keep_row_gradient, row_gradient


def average_over_workers(parameters: Iterable[Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Replace each parameter's row gradient by its mean over the workers; parameters that have none anywhere are left.

    Every worker calls it with the same parameters. With DistributedDataParallel, tell it to ignore these parameters.
    """
    num_workers = dist.get_world_size(group)
    for parameter in parameters:
        parts = [part for part in _gathered(row_gradient(parameter), parameter, group) if part is not None]
        drop_row_gradient(parameter)
        if parts:
            keep_row_gradient(parameter, RowGradient.joined(parts).scaled(1 / num_workers))


def _gathered(mine: RowGradient | None, parameter: Tensor, group: dist.ProcessGroup | None) -> list[RowGradient | None]:
    """Every worker's gradient in the order of the ranks; None for one that has none."""
    sizes = torch.zeros(2, dtype=torch.int64, device=parameter.device)
    if mine is not None:
        sizes += sizes.new_tensor([len(mine.weight_N), len(mine.table_MD)])
    sizes_W2 = torch.stack(_all_gather(sizes, group)).tolist()
    most_entries, most_rows = (max(column) for column in zip(*sizes_W2, strict=True))
    if not most_entries:
        return []
    mine = mine or _nothing(parameter)
    columns = [
        _all_gather(_padded(column, length), group)
        for column, length in (
            (mine.weight_N, most_entries),
            (mine.feature_N, most_entries),
            (mine.source_N, most_entries),
            (mine.table_MD, most_rows),
        )
    ]
    return [
        RowGradient(weight[:entries], feature[:entries], source[:entries], table[:rows], parameter.shape)
        if entries
        else None
        for (entries, rows), weight, feature, source, table in zip(sizes_W2, *columns, strict=True)
    ]


def _nothing(parameter: Tensor) -> RowGradient:
    index = torch.zeros(0, dtype=torch.int64, device=parameter.device)
    no_rows_MD = parameter.detach().new_zeros(0, parameter[0].numel())
    return RowGradient(no_rows_MD.new_zeros(0), index, index, no_rows_MD, parameter.shape)


def _padded(column: Tensor, length: int) -> Tensor:
    """Collectives want the same shape from every worker."""
    padded = column.new_zeros(length, *column.shape[1:])
    padded[: len(column)] = column
    return padded


def _all_gather(tensor: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, tensor, group=group)
    return gathered
