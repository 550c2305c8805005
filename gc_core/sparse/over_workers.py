"""Row gradients averaged over workers, which DistributedDataParallel cannot do: it knows ordinary tensors only.

Workers exchange factors, not rows: B G C numbers each for a decoder, against up to B k G C. Those of all parameters
travel together, as bytes: one collective for their sizes and one for them all. Every worker then joins them in the
order of the ranks, so that all hold the same gradient, bit for bit.

Letters: N entries, M rows of a table, D values of a row, P parameters, W workers.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor

from gc_core.sparse.factors import RowGradient, Turns, drop_row_gradient, keep_row_gradient, row_gradient

ALIGNED_BYTES = 8
"""Each tensor begins at a multiple of this, as a view of bytes as int64 wants it."""


def average_over_workers(parameters: Iterable[Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Replace each parameter's row gradient by its mean over the workers; parameters that have none anywhere are left.

    Every worker calls it with the same parameters. With DistributedDataParallel, tell it to ignore these parameters.
    """
    parameters = list(parameters)
    if not parameters:
        return
    num_workers = dist.get_world_size(group)
    gathered = _gathered([row_gradient(parameter) for parameter in parameters], parameters, group)
    for parameter, parts in zip(parameters, gathered, strict=True):
        drop_row_gradient(parameter)
        if parts:
            keep_row_gradient(parameter, RowGradient.joined(parts).scaled(1 / num_workers))


def _gathered(
    mine: Sequence[RowGradient | None], parameters: Sequence[Tensor], group: dist.ProcessGroup | None
) -> list[list[RowGradient]]:
    """Gradients of each parameter from those workers that have one, in the order of the ranks."""
    device = parameters[0].device
    sizes_P3 = torch.tensor([_sizes(gradient) for gradient in mine], dtype=torch.int64, device=device)
    sizes_WP3 = torch.stack(_all_gather(sizes_P3, group)).tolist()  # the one time that a step waits for them
    for sizes_W3 in zip(*sizes_WP3, strict=True):
        turned = {turned for _, _, turned in sizes_W3}
        assert len(turned) == 1, "every worker's step has turned copies of a row, or none has"
    forms_WP = [[_forms(*each) for each in zip(sizes_P3, parameters, strict=True)] for sizes_P3 in sizes_WP3]
    most_bytes = max(sum(form.bytes_taken for forms in forms_P for form in forms) for forms_P in forms_WP)
    if not most_bytes:
        return [[] for _ in parameters]
    packed = torch.zeros(most_bytes, dtype=torch.uint8, device=device)  # collectives want the same shape of all
    for place, tensor in zip(_places(packed, forms_WP[dist.get_rank(group)]), _tensors(mine), strict=True):
        place.copy_(tensor)
    unpacked_W = [iter(_places(*each)) for each in zip(_all_gather(packed, group), forms_WP, strict=True)]
    gathered: list[list[RowGradient]] = []
    for number, parameter in enumerate(parameters):
        parts = [
            [next(unpacked) for _ in forms_P[number]] for unpacked, forms_P in zip(unpacked_W, forms_WP, strict=True)
        ]
        turns = None if (own := mine[number]) is None else own.turns
        gathered.append([_gradient(tensors, parameter, turns) for tensors in parts if tensors])
    return gathered


@dataclass(frozen=True, slots=True)
class _Form:
    """Shape and type of a tensor that is sent."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def bytes_taken(self) -> int:
        """Bytes with the padding before the next tensor."""
        return -(-self.num_bytes // ALIGNED_BYTES) * ALIGNED_BYTES


def _sizes(gradient: RowGradient | None) -> tuple[int, int, int]:
    """Entries, rows of the table, and whether entries have poses."""
    if gradient is None:
        return 0, 0, 0
    return len(gradient.weight_N), len(gradient.table_MD), gradient.turns is not None


def _forms(sizes: Sequence[int], parameter: Tensor) -> list[_Form]:
    """Forms of a gradient's tensors, in the order of `_tensors`; none is sent where it has no entries."""
    entries, rows, turned = sizes
    if not entries:
        return []
    integers, of_entries = _Form((entries,), torch.int64), _Form((entries,), parameter.dtype)
    table = _Form((rows, parameter[0].numel()), parameter.dtype)
    return [of_entries, integers, integers, table, *([integers] if turned else [])]


def _tensors(gradients: Sequence[RowGradient | None]) -> Iterator[Tensor]:
    """What travels of them."""
    for gradient in gradients:
        if gradient is not None and len(gradient.weight_N):
            yield from (gradient.weight_N, gradient.feature_N, gradient.source_N, gradient.table_MD)
            if gradient.pose_N is not None:
                yield gradient.pose_N


def _gradient(tensors: Sequence[Tensor], parameter: Tensor, turns: Turns | None) -> RowGradient:
    weight_N, feature_N, source_N, table_MD, *poses = tensors
    pose_N = poses[0] if poses else None
    return RowGradient(weight_N, feature_N, source_N, table_MD, parameter.shape, pose_N, turns)


def _places(packed: Tensor, forms_P: Iterable[Sequence[_Form]]) -> Iterator[Tensor]:
    """Views of bytes as tensors of these forms, one behind the other."""
    first = 0
    for form in chain.from_iterable(forms_P):
        yield packed[first : first + form.num_bytes].view(form.dtype).view(form.shape)
        first += form.bytes_taken


def _all_gather(tensor: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, tensor, group=group)
    return gathered
