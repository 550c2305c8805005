"""Prototypes of the families of an untied dictionary: each the mean of its members, turned into one pose.

Letters: F features, P prototypes, M members of a family, G group elements, C channels.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gc_core.families import clusters_of, family_similarity
from gc_core.groups import Group
from gc_core.symmetry import translate

MOST_FEATURES = 8192
"""That are compared with one another at once: similarities, poses and distances of all pairs take 24 bytes each."""


@torch.no_grad()
def family_prototypes(
    decoder_FGC: Tensor, group: Group, *, least_similarity: float, invariant_share: float
) -> tuple[Tensor, Tensor]:
    """Prototypes (P, G, C) of norm one and how many features each stands for (P,), the largest families first; features
    that are alone follow in their order.

    Zero features are left out. A member counts whatever its decoder's norm, which says nothing of how often it fires.

    Raises:
        ValueError: there are too many features to compare.
    """
    if len(decoder_FGC) > MOST_FEATURES:
        raise ValueError(f"{len(decoder_FGC):,} features found, expected at most {MOST_FEATURES:,} to find families of")
    unit_FGC = normalize(decoder_FGC[decoder_FGC.flatten(1).any(1)].flatten(1), dim=1).view(-1, *decoder_FGC.shape[1:])
    similarity_FF, pose_FF = family_similarity(unit_FGC, unit_FGC, group, invariant_share=invariant_share)
    found = clusters_of(similarity_FF.cpu().numpy(), pose_FF.cpu().numpy(), least_similarity=least_similarity)
    families = sorted(((each.member_M, each.pose_M) for each in found), key=lambda one: (-len(one[0]), one[0][0]))
    in_families = {int(member) for members, _ in families for member in members}
    alone = [number for number in range(len(unit_FGC)) if number not in in_families]
    means = [_mean(unit_FGC[torch.from_numpy(members)], poses.tolist(), group) for members, poses in families]
    sizes = [len(members) for members, _ in families] + [1] * len(alone)
    return torch.cat([torch.stack(means), unit_FGC[alone]]) if means else unit_FGC, torch.tensor(sizes)


def _mean(member_MGC: Tensor, poses: list[int], group: Group) -> Tensor:
    """(G, C) of norm one: of members, each turned by its pose, which makes it like the representative."""
    turned = [translate(one_GC[None], pose, group)[0] for one_GC, pose in zip(member_MGC, poses, strict=True)]
    return normalize(torch.stack(turned).mean(0).flatten(), dim=0).view_as(member_MGC[0])
