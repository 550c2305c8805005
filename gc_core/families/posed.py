"""How the members of one family are turned against one another, and how well that holds together.

A family's *prototype* is the mean of its members, each turned until it is like the member that is most similar to the
others, the representative. Poses are relative to the prototype; the representative's is the identity.

Letters: M members, G group elements, C channels, E pairs of members that are neighbours.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.families.families import Cluster
from gc_core.families.likeness import best_products, changing_transform, pose_table, similarity_of, split
from gc_core.families.neighbours import Neighbours, Source
from gc_core.families.similarity import unit
from gc_core.groups import FiniteGroup
from gc_core.symmetry import changing_part, self_similarity, translate

_AT_ONCE = 512
"""Members whose decoders are in memory together."""


@torch.no_grad()
def family_of(member_M: NDArray[np.int64], pairs: Neighbours, among: Source) -> Cluster:
    """The family of these members (places among the dictionary's features, ascending), of which `pairs` are neighbours;
    members and representative by the dictionary's numbers."""
    group, representative = among.group, _most_similar(member_M, pairs)
    start_GC = unit(among.read(among.features[[representative]]))
    pose_M, _ = _against(start_GC, member_M, among)
    prototype_GC = _mean(member_M, pose_M, among)
    pose_M, similarity_M = _against(prototype_GC, member_M, among)
    own = pose_M[np.searchsorted(member_M, representative)]
    back = int(group.inverse[own])
    prototype_GC, pose_M = translate(prototype_GC, back, group), group.cayley[back, pose_M]
    return Cluster(
        member_M=among.features[member_M],
        pose_M=pose_M.astype(np.int64),
        similarity_M=similarity_M,
        representative=int(among.features[representative]),
        consistency=_consistency(prototype_GC, member_M, pose_M, pairs, among),
    )


def _most_similar(member_M: NDArray[np.int64], pairs: Neighbours) -> int:
    """The member with the largest sum of similarities; of equal ones the first."""
    ends = np.searchsorted(member_M, np.concatenate([pairs.first_E, pairs.second_E]))
    total_M = np.bincount(ends, np.tile(pairs.similarity_E.astype(np.float64), 2), minlength=len(member_M))
    return int(member_M[total_M.round(3).argmax()])


def _against(
    prototype_GC: Tensor, member_M: NDArray[np.int64], among: Source
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pose that makes each member like the prototype (1, G, C), and how alike they then are."""
    group, share = among.group, among.invariant_share
    left, changing = split(prototype_GC, invariant_share=share)
    mine, table_GK = changing_transform(changing, group), pose_table(group).to(prototype_GC)
    poses, similarities = [], []
    for some in _blocks(member_M):
        right, changing = split(among.read(among.features[some]), invariant_share=share)
        best, pose = best_products(mine, changing_transform(changing, group), table_GK)
        poses.append(pose[0].cpu().numpy())
        similarities.append(similarity_of(best, left, right)[0].float().cpu().numpy())
    return np.concatenate(poses), np.concatenate(similarities)


def _mean(member_M: NDArray[np.int64], pose_M: NDArray[np.int64], among: Source) -> Tensor:
    """(1, G, C) of norm one: of members of norm one, each turned by its pose."""
    total: Tensor | None = None
    for some, poses in zip(_blocks(member_M), _blocks(pose_M), strict=True):
        unit_FGC = unit(among.read(among.features[some]))
        columns = torch.from_numpy(among.group.cayley[:, poses].T.copy()).to(unit_FGC.device)  # (F, G): g h
        turned_FGC = unit_FGC.gather(1, columns[:, :, None].expand_as(unit_FGC))
        total = turned_FGC.sum(0, keepdim=True) + (0 if total is None else total)
    assert total is not None, "a family has members"
    return unit(total)


def _consistency(
    prototype_GC: Tensor, member_M: NDArray[np.int64], pose_M: NDArray[np.int64], pairs: Neighbours, among: Source
) -> float:
    """Mean over neighbours i and j of how similar the prototype's changing part is to itself after the way from it to
    i, from i to j and back: 1 where every such circle closes, up to a symmetry of the prototype."""
    group = among.group
    if not len(pairs.first_E) or group.order == 1:
        return 1.0
    one, other = (pose_M[np.searchsorted(member_M, each)] for each in (pairs.first_E, pairs.second_E))
    around_E = group.cayley[group.cayley[one, pairs.pose_E], group.inverse[other]]
    levels, _ = split(prototype_GC, invariant_share=among.invariant_share)
    if bool(levels.steady_F[0]):
        return 1.0
    return float(_similar(prototype_GC, group)[around_E].mean())


def _similar(prototype_GC: Tensor, group: FiniteGroup) -> NDArray[np.float64]:
    return self_similarity(changing_part(prototype_GC), group)[0].double().cpu().numpy()


def _blocks(each_M: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [each_M[first : first + _AT_ONCE] for first in range(0, len(each_M), _AT_ONCE)]
