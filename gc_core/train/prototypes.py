"""Prototypes of the families of an untied dictionary: each the mean of its members, turned into one pose.

Letters: F features, P prototypes, M members of a family, G group elements, C channels.
"""

import torch
from torch import Tensor

from gc_core.families import Cluster, by_size, clusters_of, family_similarity, unit
from gc_core.groups import FiniteGroup
from gc_core.symmetry import translate

MOST_FEATURES = 8192
"""That are compared with one another at once: similarities, poses and distances of all pairs take 24 bytes each."""


@torch.no_grad()
def family_prototypes(
    decoder_FGC: Tensor, group: FiniteGroup, *, least_similarity: float, invariant_share: float
) -> tuple[Tensor, Tensor]:
    """Prototypes (P, G, C) of norm one and how many features each stands for (P,), the largest families first; features
    that are alone follow in their order.

    Zero features are left out. A member counts whatever its decoder's norm, which says nothing of how often it fires.

    Raises:
        ValueError: there are too many features to compare.
    """
    if len(decoder_FGC) > MOST_FEATURES:
        raise ValueError(f"{len(decoder_FGC):,} features found, expected at most {MOST_FEATURES:,} to find families of")
    unit_FGC = unit(decoder_FGC[decoder_FGC.flatten(1).any(1)])
    similarity_FF, pose_FF = family_similarity(unit_FGC, unit_FGC, group, invariant_share=invariant_share)
    clusters = clusters_of(similarity_FF.cpu().numpy(), pose_FF.cpu().numpy(), least_similarity=least_similarity)
    families = by_size(clusters)
    alone = sorted(set(range(len(unit_FGC))).difference(*(each.member_M.tolist() for each in families)))
    means = [_mean(unit_FGC, each, group) for each in families]
    sizes = [len(each.member_M) for each in families] + [1] * len(alone)
    return torch.cat([*means, unit_FGC[alone]]), torch.tensor(sizes)


def _mean(unit_FGC: Tensor, family: Cluster, group: FiniteGroup) -> Tensor:
    """(1, G, C) of norm one: of members, each turned by its pose, which makes it like the representative."""
    members = zip(family.member_M.tolist(), family.pose_M.tolist(), strict=True)
    turned = [translate(unit_FGC[member, None], pose, group) for member, pose in members]
    return unit(torch.stack(turned).mean(0))
