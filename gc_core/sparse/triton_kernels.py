"""The two loops of `kernels` on CUDA. No atomics: each output is one program's, so that sums keep their order.

Imported only where Triton is installed. With TRITON_INTERPRET=1 they run on a CPU, for tests.

Letters: as in `kernels`.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 512
"""Values of a row that one program reads at a time."""


def segment_sums(weight_N: Tensor, source_N: Tensor, offsets: Tensor, table_MD: Tensor, dtype: torch.dtype) -> Tensor:
    """Triton version of `kernels.segment_sums`; the table is contiguous."""
    num_segments, width = len(offsets) - 1, table_MD.shape[1]
    sums_SD = torch.empty(num_segments, width, dtype=dtype, device=table_MD.device)
    columns = min(COLUMNS, triton.next_power_of_2(max(1, width)))
    launched: Any = _segment_sums  # its annotations are Triton's, not a type checker's
    if sums_SD.numel():
        launched[(num_segments, triton.cdiv(width, columns))](
            weight_N.contiguous(),
            source_N.contiguous(),
            offsets.contiguous(),
            table_MD,
            sums_SD,
            width,
            COLUMNS=columns,
            SUM_TYPE=_sum_type(weight_N, table_MD),
        )
    return sums_SD


def row_dots(left_BD: Tensor, W_FD: Tensor, index_BK: Tensor, dtype: torch.dtype) -> Tensor:
    """Triton version of `kernels.row_dots`; all tensors are contiguous."""
    dots_BK = torch.empty(index_BK.shape, dtype=dtype, device=W_FD.device)
    width = W_FD.shape[1]
    launched: Any = _row_dots
    if index_BK.numel():
        launched[(index_BK.numel(),)](
            left_BD,
            W_FD,
            index_BK,
            dots_BK,
            index_BK.shape[1],
            width,
            COLUMNS=min(COLUMNS, triton.next_power_of_2(max(1, width))),
            SUM_TYPE=_sum_type(left_BD, W_FD),
        )
    return dots_BK


def _sum_type(*tensors: Tensor) -> tl.dtype:
    return tl.float64 if torch.float64 in {tensor.dtype for tensor in tensors} else tl.float32


@triton.jit
def _segment_sums(
    weight_ptr: Any,
    source_ptr: Any,
    offsets_ptr: Any,
    table_ptr: Any,
    sums_ptr: Any,
    width: Any,
    COLUMNS: tl.constexpr,
    SUM_TYPE: tl.constexpr,
) -> None:
    """One segment and one block of columns; offsets in 64 bits, since a dictionary passes 2^31 numbers."""
    segment = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    total = tl.zeros([COLUMNS], dtype=SUM_TYPE)
    for entry in range(tl.load(offsets_ptr + segment), tl.load(offsets_ptr + segment + 1)):
        source = tl.load(source_ptr + entry).to(tl.int64)
        row = tl.load(table_ptr + source * width + column, mask=inside, other=0.0).to(SUM_TYPE)
        total += tl.load(weight_ptr + entry).to(SUM_TYPE) * row
    tl.store(sums_ptr + segment * width + column, total.to(sums_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _row_dots(
    left_ptr: Any,
    table_ptr: Any,
    index_ptr: Any,
    dots_ptr: Any,
    num_active: Any,
    width: Any,
    COLUMNS: tl.constexpr,
    SUM_TYPE: tl.constexpr,
) -> None:
    """One sample and one of its features."""
    entry = tl.program_id(0).to(tl.int64)
    left_row, table_row = (entry // num_active) * width, tl.load(index_ptr + entry).to(tl.int64) * width
    total = tl.zeros([COLUMNS], dtype=SUM_TYPE)
    for first in range(0, width, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        inside = column < width
        left = tl.load(left_ptr + left_row + column, mask=inside, other=0.0).to(SUM_TYPE)
        total += left * tl.load(table_ptr + table_row + column, mask=inside, other=0.0).to(SUM_TYPE)
    tl.store(dots_ptr + entry, tl.sum(total, 0).to(dots_ptr.dtype.element_ty))
