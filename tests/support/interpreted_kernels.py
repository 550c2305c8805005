"""Run by test_sparse.py with TRITON_INTERPRET=1: the CUDA kernels' numbers, on a CPU; names each comparison made.

Letters: as in gc_core.sparse.kernels.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from gc_core.sparse import kernels, triton_kernels

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
D32_480 = 64 * 480
"""A decoder's row under D_32 in 480 channels: sixty blocks of columns; and a single block of it, in one."""
CASES = [(dtype, width) for dtype in TYPES for width in (5, 700)] + [(torch.float32, 512), (torch.float64, 1)]
CASES += [(dtype, width) for dtype in (torch.float32, torch.float16) for width in (D32_480, 480)]


def compare_segment_sums(dtype: torch.dtype, width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    weight_N, table_MD = torch.randn(9, generator=generator), torch.randn(6, width, generator=generator)
    given = (
        weight_N.to(dtype),
        torch.randint(6, (9,), generator=generator),
        torch.tensor([0, 0, 3, 4, 9, 9]),
        table_MD.to(dtype),
    )
    torch.testing.assert_close(triton_kernels.segment_sums(*given, dtype), kernels.segment_sums(*given))
    print("segment_sums")


def compare_row_dots(dtype: torch.dtype, width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    left_BD, W_FD = torch.randn(3, width, generator=generator), torch.randn(6, width, generator=generator)
    given = (left_BD.to(dtype), W_FD.to(dtype), torch.randint(6, (3, 4), generator=generator))
    rounding = {"rtol": 1e-3 if dtype == torch.float16 else 1e-5, "atol": 2**-24 * width} if width == D32_480 else {}
    torch.testing.assert_close(triton_kernels.row_dots(*given, dtype), kernels.row_dots(*given), **rounding)
    print("row_dots")


if __name__ == "__main__":
    for case in CASES:
        compare_segment_sums(*case)
    for case in CASES:
        compare_row_dots(*case)
