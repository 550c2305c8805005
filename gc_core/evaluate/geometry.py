"""How features lie to one another and in their blocks, from weights and codes alone.

Letters: B samples, F features, G group elements, C channels.
"""

import torch
from torch import Tensor

from gc_core.families import best_poses
from gc_core.groups import FiniteGroup

ROWS_AT_ONCE, COLUMNS_AT_ONCE = 256, 4096
"""Features compared at once: pairs of so many are in memory, however many features there are."""


@torch.no_grad()
def largest_cosines(
    decoder_FGC: Tensor, *, most: int | None = None, up_to_pose_of: FiniteGroup | None = None
) -> Tensor:
    """(F,) of each feature the largest cosine of its whole decoder with another's, of more than `most` features of so
    many evenly spread ones; with a group the largest over all poses of the other. 1 where the dictionary holds it
    twice, 0 with one that is zero, NaN for a feature alone.

    Its mean over features is known as mean max cosine similarity (Sharkey, Braun and Millidge 2022).
    """
    count, columns_at_once = len(decoder_FGC), COLUMNS_AT_ONCE if up_to_pose_of is None else ROWS_AT_ONCE
    rows = torch.linspace(0, count - 1, min(count, most or count), dtype=torch.float64).long().to(decoder_FGC.device)
    best = []
    for rows_B in rows.split(ROWS_AT_ONCE):
        best_B = torch.full(rows_B.shape, -torch.inf, device=decoder_FGC.device)
        for begin in range(0, count, columns_at_once):
            others_JGC = decoder_FGC[begin : begin + columns_at_once]
            cosine_BJ = _cosines(decoder_FGC[rows_B], others_JGC, up_to_pose_of).float()
            own_BJ = (rows_B - begin).unsqueeze(1) == torch.arange(len(others_JGC), device=rows_B.device)
            best_B = torch.maximum(best_B, cosine_BJ.masked_fill(own_BJ, -torch.inf).amax(1))
        best.append(best_B.masked_fill(best_B.isinf(), torch.nan))
    return torch.cat(best)


def hoyer_sparsity(values: Tensor, dim: int = -1) -> Tensor:
    """(sqrt(n) - |v|_1 / |v|_2) / (sqrt(n) - 1) of the n numbers along an axis, which is dropped: 1 where one alone is
    not zero, 0 where all are equally large; does not change with scale. NaN where all are zero, or n is 1.

    Source: Hoyer 2004, Non-negative matrix factorization with sparseness constraints.
    """
    count = values.shape[dim] ** 0.5
    sizes = torch.linalg.vector_norm(values, 1, dim) / torch.linalg.vector_norm(values, 2, dim)
    return (count - sizes) / (count - 1) if count > 1 else torch.full_like(sizes, torch.nan)


def _cosines(rows_BGC: Tensor, others_JGC: Tensor, up_to_pose_of: FiniteGroup | None) -> Tensor:
    if up_to_pose_of is not None:
        return best_poses(rows_BGC, others_JGC, up_to_pose_of)[0]
    mine, theirs = rows_BGC.flatten(1), others_JGC.flatten(1)
    return (mine @ theirs.T) / (mine.norm(dim=1)[:, None] * theirs.norm(dim=1)).clamp_min(1e-30)
