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
    sizes = torch.zeros(3, dtype=torch.int64, device=parameter.device)
    if mine is not None:
        sizes += sizes.new_tensor([len(mine.weight_N), len(mine.table_MD), mine.turns is not None])
    sizes_W3 = torch.stack(_all_gather(sizes, group)).tolist()
    most_entries, most_rows, turned = (max(column) for column in zip(*sizes_W3, strict=True))
    assert all(each[2] == turned for each in sizes_W3), "every worker's step has turned copies of a row, or none has"
    if not most_entries:
        return []
    mine = mine or _nothing(parameter)
    of_entries = [mine.weight_N, mine.feature_N, mine.source_N, *([] if mine.pose_N is None else [mine.pose_N])]
    tables = _all_gather(_padded(mine.table_MD, most_rows), group)
    columns = [_all_gather(_padded(column, most_entries), group) for column in of_entries]
    found: list[RowGradient | None] = []
    for (entries, rows, _), table, *others in zip(sizes_W3, tables, *columns, strict=True):
        weight, feature, source, *pose = (column[:entries] for column in others)
        turned = (pose[0], mine.turns) if pose else (None, None)
        found.append(RowGradient(weight, feature, source, table[:rows], parameter.shape, *turned) if entries else None)
    return found


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
