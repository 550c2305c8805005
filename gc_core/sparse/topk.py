"""The k features of each sample that a top-k code keeps, exactly, without sorting F numbers.

Letters: B samples, D values read, F features, K active features, P groups of features, M members of a group.
"""

import torch
from torch import Tensor

NUMBERS_AT_ONCE = {"cpu": 2**22, "cuda": 2**29}
"""Pre-activations of one block of samples: on a CPU about its last cache."""
LEAST_FOR_GROUPS = 32
"""Times k that F must be for the detour over groups to pay."""


def largest(score_BF: Tensor, k: int) -> Tensor:
    """Indices (B, k), int64 and in no particular order, of the k largest numbers of each row.

    They are those that `torch.topk` finds (of equal numbers, any). The k largest numbers of a row lie in the k groups
    with the largest maxima, whatever the groups: F is cut into groups of about sqrt(F / k), and only the members of the
    k best are compared. Reading all numbers once is what remains.
    """
    num_samples, num_features = score_BF.shape
    members = round((num_features / max(1, k)) ** 0.5)
    if num_features < LEAST_FOR_GROUPS * k:
        return score_BF.topk(k, dim=1, sorted=False).indices
    groups = num_features // members
    # Feature m P + p belongs to group p, so that maxima are taken over whole vectors; the last few are always compared.
    in_groups = groups * members
    maxima_BP = score_BF[:, :in_groups].unflatten(1, (members, groups)).amax(1)
    best_BK = maxima_BP.topk(k, dim=1, sorted=False).indices
    offsets_M = torch.arange(members, device=score_BF.device) * groups
    rest = torch.arange(in_groups, num_features, device=score_BF.device).expand(num_samples, -1)
    candidates = torch.cat([(best_BK[:, :, None] + offsets_M).flatten(1), rest], 1)
    winners_BK = score_BF.gather(1, candidates).topk(k, dim=1, sorted=False).indices
    return candidates.gather(1, winners_BK)


def choose(read_BD: Tensor, W_FD: Tensor, b_F: Tensor, scale_F: Tensor, k: int) -> Tensor:
    """Indices (B, k), int64, of the features for which scale * (W . read + b) is largest."""
    return choose_with_scores(read_BD, W_FD, b_F, scale_F, k)[0]


@torch.no_grad()
def choose_with_scores(read_BD: Tensor, W_FD: Tensor, b_F: Tensor, scale_F: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices like `choose`, and the scores there, both (B, k).

    Block by block of samples, in one buffer: the pre-activations of a batch, (B, F), never exist at once.
    """
    read_BD, W_FD = read_BD.flatten(1), W_FD.flatten(1)
    block = max(1, NUMBERS_AT_ONCE.get(read_BD.device.type, 2**23) // len(W_FD))
    buffer = read_BD.new_empty(min(block, len(read_BD)), len(W_FD))
    index_BK = torch.empty(len(read_BD), k, dtype=torch.int64, device=read_BD.device)
    score_BK = read_BD.new_empty(len(read_BD), k)
    for first in range(0, len(read_BD), block):
        read = read_BD[first : first + block]
        score = torch.addmm(b_F, read, W_FD.t(), out=buffer[: len(read)]).mul_(scale_F)
        index_BK[first : first + block] = largest(score, k)
        score_BK[first : first + block] = score.gather(1, index_BK[first : first + block])
    return index_BK, score_BK
