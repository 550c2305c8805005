"""The two loops that all else is made of, on whatever device the tensors are.

On CUDA they are Triton kernels; where there is no CUDA or no Triton, operations of PyTorch that read each row once and
write no copy of it. Half-precision inputs are summed in float32. Measured against them on a CPU: gathering rows and
multiplying batches of matrices is 3 to 10 times slower, MKL's sparse product 1.6 to 2.5 times.

Letters: N entries (a weight and a row of a table), M rows of the table, D values of a row, S segments, B samples,
K active features, F features.
"""

import warnings
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_PRECISION = (torch.float16, torch.bfloat16)
HALF_ENTRIES_AT_ONCE = 256
"""Rows in half precision that are widened at a time."""


def segment_sums(weight_N: Tensor, source_N: Tensor, offsets: Tensor, table_MD: Tensor) -> Tensor:
    """sum over n in [offsets[s], offsets[s + 1]) of weight[n] table[source[n]], shape (S, D).

    `offsets` (S + 1,) int64 rises from 0 to N; an empty segment gives zeros. The type is the one that weights and
    table promote to.
    """
    dtype = torch.promote_types(weight_N.dtype, table_MD.dtype)
    if has_triton(table_MD):
        from gc_core.sparse import triton_kernels

        return triton_kernels.segment_sums(weight_N, source_N, offsets, table_MD.contiguous(), dtype)
    if dtype in HALF_PRECISION or table_MD.dtype in HALF_PRECISION:
        return _widened_sums(weight_N, source_N, offsets, table_MD).to(dtype)
    if not len(source_N) or len(offsets) == 1:
        return table_MD.new_zeros(len(offsets) - 1, table_MD.shape[1], dtype=dtype)
    return F.embedding_bag(
        source_N,
        table_MD.detach().to(dtype).contiguous(),
        offsets,
        mode="sum",
        per_sample_weights=weight_N.detach().to(dtype).contiguous(),
        include_last_offset=True,
    )


def row_dots(left_BD: Tensor, W_FD: Tensor, index_BK: Tensor) -> Tensor:
    """left[b] . W[index[b, k]], shape (B, K), of the type that both promote to."""
    dtype = torch.promote_types(left_BD.dtype, W_FD.dtype)
    if has_triton(W_FD):
        from gc_core.sparse import triton_kernels

        return triton_kernels.row_dots(left_BD.contiguous(), W_FD.contiguous(), index_BK.contiguous(), dtype)
    if dtype in HALF_PRECISION or W_FD.dtype in HALF_PRECISION:
        return widened_dots(left_BD, W_FD, index_BK).to(dtype)
    if left_BD.is_cuda or not index_BK.numel():
        return gathered_dots(left_BD.to(dtype), W_FD.to(dtype), index_BK)
    return sampled_dots(left_BD.to(dtype), W_FD.to(dtype), index_BK)


def has_triton(tensor: Tensor) -> bool:
    """Whether Triton computes on this tensor's device."""
    return tensor.is_cuda and _triton_installed()


@cache
def _triton_installed() -> bool:
    return find_spec("triton") is not None


def sampled_dots(left_BD: Tensor, W_FD: Tensor, index_BK: Tensor) -> Tensor:
    """PyTorch's dense product evaluated at the entries of a sparse pattern; CSR on a CPU only."""
    num_samples, num_active = index_BK.shape
    rows = torch.arange(num_samples + 1) * num_active
    zero_N = left_BD.new_zeros(index_BK.numel())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        # Columns out of order, or twice in a row, break the format's rules but not this product, entry by entry.
        pattern = torch.sparse_csr_tensor(
            rows, index_BK.reshape(-1), zero_N, (num_samples, len(W_FD)), check_invariants=False
        )
    dots = torch.sparse.sampled_addmm(pattern, left_BD.detach().contiguous(), W_FD.detach().contiguous().t(), beta=0.0)
    return dots.values().view(num_samples, num_active)


def gathered_dots(left_BD: Tensor, W_FD: Tensor, index_BK: Tensor) -> Tensor:
    """Sample by sample, so that a sample's rows stay in the cache."""
    dots_BK = left_BD.new_zeros(index_BK.shape)
    for sample, index_K in enumerate(index_BK):
        torch.mv(W_FD.index_select(0, index_K), left_BD[sample], out=dots_BK[sample])
    return dots_BK


def widened_dots(left_BD: Tensor, W_FD: Tensor, index_BK: Tensor) -> Tensor:
    """Sample by sample, summed in float32 where the numbers are of half precision."""
    dtype = _wide(left_BD, W_FD)
    dots_BK = left_BD.new_zeros(index_BK.shape, dtype=dtype)
    for sample, index_K in enumerate(index_BK):
        dots_BK[sample] = W_FD.index_select(0, index_K).to(dtype) @ left_BD[sample].to(dtype)
    return dots_BK


def _widened_sums(weight_N: Tensor, source_N: Tensor, offsets: Tensor, table_MD: Tensor) -> Tensor:
    """Some entries at a time; each becomes part of its segment's sum in the order of the entries."""
    dtype, num_segments = _wide(weight_N, table_MD), len(offsets) - 1
    sums_SD = table_MD.new_zeros(num_segments, table_MD.shape[1], dtype=dtype)
    for first in range(0, len(source_N), HALF_ENTRIES_AT_ONCE):
        last = min(first + HALF_ENTRIES_AT_ONCE, len(source_N))
        sources, here_N = source_N[first:last].unique(return_inverse=True)
        sums_SD += F.embedding_bag(
            here_N,
            table_MD.detach().index_select(0, sources).to(dtype),
            (offsets - first).clamp(0, last - first),
            mode="sum",
            per_sample_weights=weight_N.detach()[first:last].to(dtype).contiguous(),
            include_last_offset=True,
        )
    return sums_SD


def _wide(*tensors: Tensor) -> torch.dtype:
    """float32, or float64 if any has it."""
    return torch.float64 if torch.float64 in {tensor.dtype for tensor in tensors} else torch.float32
