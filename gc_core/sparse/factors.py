"""The gradient of a dictionary that a sparse code touched, kept in factors until the optimiser wants its rows.

    dL/dW[f] = sum over entries n with feature[n] = f of weight[n] table[source[n]]

For a decoder the table is the gradient of the reconstructions, (B, G C), and the weights are the codes; the rows
themselves, up to B K of them, are hundreds of times larger. Adding two gradients is joining their entries, so sums over
losses, accumulation steps and workers are exact and cheap.

Letters: N entries, M rows of the table, D values of a row, F features, U features touched, B samples, K active ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from gc_core.sparse.kernels import segment_sums

ATTRIBUTE = "row_gradient"
ROWS_AT_ONCE_BYTES = {"cpu": 2**22, "cuda": 2**28}
"""Size of a block where a gradient is visited block by block: on a CPU a block stays in the caches."""


@dataclass(frozen=True, eq=False)
class Turns:
    """How group elements move the blocks of a row: (rho(h) W)[g] = W[g h]."""

    product_GG: Tensor
    """int64, [g, h] is g h."""
    undone_GG: Tensor
    """int64, [g, h] is g h^-1: the block of a row turned by h that the row's block g has become."""

    @classmethod
    def of(cls, cayley_GG: Tensor, inverse_G: Tensor) -> "Turns":
        """Make it from the group's table of products, and its inverses."""
        return cls(cayley_GG, cayley_GG[:, inverse_G])


@dataclass(frozen=True)
class RowGradient:
    """Entries ordered by feature and, within one, in the order in which they were made."""

    weight_N: Tensor
    feature_N: Tensor
    source_N: Tensor
    table_MD: Tensor
    shape: torch.Size
    """Shape of the parameter, (F, ...)."""
    pose_N: Tensor | None = None
    """Where entries are of turned copies of a row: by what element."""
    turns: Turns | None = None

    @classmethod
    def of_entries(cls, value_BK: Tensor, index_BK: Tensor, table_BD: Tensor, shape: torch.Size) -> "RowGradient":
        """value[b, k] table[b], added to row index[b, k]. Entries of value zero are left out."""
        kept_N = value_BK.detach().reshape(-1).nonzero()[:, 0]
        feature_N = index_BK.reshape(-1)[kept_N]
        source_N = kept_N // max(1, index_BK.shape[1])
        return cls._ordered(value_BK.detach().reshape(-1)[kept_N], feature_N, source_N, table_BD.detach(), shape)

    @classmethod
    def of_turned(
        cls, value_BK: Tensor, index_BK: Tensor, pose_BK: Tensor, table_BD: Tensor, shape: torch.Size, turns: Turns
    ) -> "RowGradient":
        """value[b, k] rho(pose[b, k])^-1 table[b], added to row index[b, k]; D is G C."""
        kept_N = value_BK.detach().reshape(-1).nonzero()[:, 0]
        return cls._ordered(
            value_BK.detach().reshape(-1)[kept_N],
            index_BK.reshape(-1)[kept_N],
            kept_N // max(1, index_BK.shape[1]),
            table_BD.detach(),
            shape,
            pose_BK.reshape(-1)[kept_N],
            turns,
        )

    @classmethod
    def of_rows(cls, index_M: Tensor, rows_MD: Tensor, shape: torch.Size) -> "RowGradient":
        """rows[m], added to row index[m]."""
        source_M = torch.arange(len(index_M), device=index_M.device)
        return cls._ordered(rows_MD.new_ones(len(index_M)), index_M, source_M, rows_MD.detach(), shape)

    @classmethod
    def _ordered(
        cls,
        weight_N: Tensor,
        feature_N: Tensor,
        source_N: Tensor,
        table_MD: Tensor,
        shape: torch.Size,
        pose_N: Tensor | None = None,
        turns: Turns | None = None,
    ) -> "RowGradient":
        feature_N, order_N = feature_N.sort(stable=True)
        pose_N = None if pose_N is None else pose_N[order_N]
        return cls(weight_N[order_N], feature_N, source_N[order_N], table_MD, shape, pose_N, turns)

    @classmethod
    def joined(cls, parts: Sequence["RowGradient"]) -> "RowGradient":
        """The sum of gradients of one parameter, entries in the order of the parts."""
        first_rows = accumulate((len(part.table_MD) for part in parts), initial=0)
        return cls._ordered(
            torch.cat([part.weight_N for part in parts]),
            torch.cat([part.feature_N for part in parts]),
            torch.cat([part.source_N + first for part, first in zip(parts, first_rows, strict=False)]),
            torch.cat([part.table_MD for part in parts]),
            parts[0].shape,
            None if parts[0].turns is None else torch.cat([part.pose_N for part in parts if part.pose_N is not None]),
            parts[0].turns,
        )

    def scaled(self, factor: float | Tensor) -> "RowGradient":
        """The gradient times a number."""
        return replace(self, weight_N=self.weight_N * factor)

    def part(self, first: int, last: int) -> "RowGradient":
        """The gradient of the features first to last, as of a parameter that has no others."""
        bounds = torch.tensor([first, last], device=self.feature_N.device)
        start, end = torch.searchsorted(self.feature_N, bounds).tolist()
        shape = torch.Size([last - first, *self.shape[1:]])
        return replace(
            self,
            weight_N=self.weight_N[start:end],
            feature_N=self.feature_N[start:end] - first,
            source_N=self.source_N[start:end],
            shape=shape,
            pose_N=None if self.pose_N is None else self.pose_N[start:end],
        )

    @cached_property
    def touched_U(self) -> Tensor:
        """Features with an entry, ascending."""
        return self._touched[0]

    def rows(self, first: int, last: int) -> Tensor:
        """The gradient of the features touched_U[first:last], (last - first, D)."""
        return self._sums(self._offsets_of_touched, first, last)

    def all_rows(self, first: int, last: int) -> Tensor:
        """The gradient of the features first to last, touched or not, (last - first, D)."""
        return self._sums(self._offsets_of_all, first, last)

    def dense(self) -> Tensor:
        """An ordinary tensor of the parameter's shape."""
        return self.all_rows(0, self.shape[0]).view(self.shape)

    def norm(self) -> Tensor:
        """Euclidean norm over all numbers, summed in blocks of rows that are not kept."""
        total = self.table_MD.new_zeros((), dtype=torch.float64)
        for first, last in blocks(len(self.touched_U), self.table_MD):
            total += self.rows(first, last).double().square().sum()
        return total.sqrt()

    def norm_bound(self) -> Tensor:
        """What the norm cannot exceed, from the factors' sizes alone, without a sum of rows."""
        size_M = torch.linalg.vector_norm(self.table_MD.double(), dim=1)
        size_N = self.weight_N.double().abs() * size_M[self.source_N]
        return size_N.new_zeros(self.shape[0]).index_add(0, self.feature_N, size_N).norm()

    @cached_property
    def _touched(self) -> tuple[Tensor, Tensor]:
        return torch.unique_consecutive(self.feature_N, return_counts=True)

    @cached_property
    def _offsets_of_touched(self) -> Tensor:
        counts_U = self._touched[1]
        return torch.cat([counts_U.new_zeros(1), counts_U.cumsum(0)])

    @cached_property
    def _offsets_of_all(self) -> Tensor:
        return torch.searchsorted(self.feature_N, torch.arange(self.shape[0] + 1, device=self.feature_N.device))

    def _sums(self, offsets: Tensor, first: int, last: int) -> Tensor:
        every_row = first == 0 and last == len(offsets) - 1
        offsets = offsets[first : last + 1]
        # What is here says where a block of rows begins, for which the device has to be waited for.
        start, end = (0, len(self.feature_N)) if every_row else torch.stack([offsets[0], offsets[-1]]).tolist()
        if self.turns is not None and self.pose_N is not None:
            return self._sums_of_turned(offsets - start, self.pose_N[start:end], slice(start, end), self.turns)
        return segment_sums(self.weight_N[start:end], self.source_N[start:end], offsets - start, self.table_MD)

    def _sums_of_turned(self, offsets: Tensor, pose_N: Tensor, entries: slice, turns: Turns) -> Tensor:
        """Block by block: a segment of each row's every block, with the entries of the row."""
        order, counts = len(turns.undone_GG), offsets.diff()
        first_N, count_N = (each.repeat_interleave(counts, output_size=len(pose_N)) for each in (offsets[:-1], counts))
        rank_N = torch.arange(len(pose_N), device=pose_N.device) - first_N
        block_G = torch.arange(order, device=pose_N.device)
        place_NG = (first_N * order + rank_N)[:, None] + block_G * count_N[:, None]
        source_NG = self.source_N[entries, None] * order + turns.undone_GG[:, pose_N].T
        weight, source = self.weight_N.new_empty(place_NG.numel()), source_NG.new_empty(place_NG.numel())
        weight[place_NG] = self.weight_N[entries, None].expand(place_NG.shape)
        source[place_NG] = source_NG
        by_block = (offsets[:-1, None] * order + block_G * counts[:, None]).flatten()
        by_block = torch.cat([by_block, by_block.new_full((1,), len(weight))])
        sums = segment_sums(weight, source, by_block, self.table_MD.view(len(self.table_MD) * order, -1))
        return sums.view(len(counts), -1)


def blocks(num_rows: int, table_MD: Tensor) -> Iterable[tuple[int, int]]:
    """First and last row of blocks that are visited one after another; a row is as long as the table's."""
    row_bytes = max(1, table_MD.shape[1] * table_MD.element_size())
    step = max(1, ROWS_AT_ONCE_BYTES.get(table_MD.device.type, 2**21) // row_bytes)
    return ((first, min(first + step, num_rows)) for first in range(0, num_rows, step))


def deposit(parameter: Tensor, gradient: RowGradient) -> None:
    """Add to what lies with the parameter, as autograd adds to `.grad`."""
    known = row_gradient(parameter)
    keep_row_gradient(parameter, gradient if known is None else RowGradient.joined([known, gradient]))


def keep_row_gradient(parameter: Tensor, gradient: RowGradient) -> None:
    """Replace the row gradient that lies with a parameter."""
    setattr(parameter, ATTRIBUTE, gradient)


def row_gradient(parameter: Tensor) -> RowGradient | None:
    """What the backward passes since the last `drop_row_gradient` left with a parameter."""
    return getattr(parameter, ATTRIBUTE, None)


def drop_row_gradient(parameter: Tensor) -> None:
    """Forget it, as `zero_grad(set_to_none=True)` forgets `.grad`."""
    setattr(parameter, ATTRIBUTE, None)
