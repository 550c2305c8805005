"""Orientations that a family leaves out: angles between which none of its members lies.

A family whose members tile the circle has none. Where a network has no unit for some orientation, or a dictionary no
feature, it shows as a gap far wider than those between the other members (missing curve detectors: arXiv 2406.03662).

Letters: F features, M members of a family.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gc_core.families.families import Families, shown_poses
from gc_core.groups import FiniteGroup, Group, Subgroup

LEAST_SHARE = 1 / 6
"""Of all orientations that look different: 60 degrees for a feature without symmetry, 30 for a 2-fold one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Orientations strictly between two members next to each other, as turns of the representative's stimulus."""

    from_deg: float
    """The member before the gap, in degrees anticlockwise, in [0, 360)."""
    to_deg: float
    """The member behind it; larger than `from_deg`, so above 360 where the gap goes past the representative. A whole
    turn (of an m-fold feature its m-th part) further than `from_deg` where there is only one member, or none."""
    mirrored: bool
    """Whether it is among the copies that are mirrored first."""


def gaps(
    pose_M: NDArray[np.int64], stabiliser: Subgroup, group: Group, *, least_share: float = LEAST_SHARE
) -> list[Gap]:
    """Gaps of more than this share of all orientations, with one of the group's inside; by angle, mirrored ones last.

    `pose_M` holds by how much each member is turned against the representative (`shown_poses`), whose stabiliser is
    given: an m-fold feature has 360 / m degrees of orientations, and one with a mirror no mirrored copies.
    """
    halves = (False, True) if group.has_mirrors and stabiliser.axis_deg is None else (False,)
    return [
        Gap(from_deg=360 * start / group.n, to_deg=360 * end / group.n, mirrored=mirrored)
        for mirrored in halves
        for start, end in _between(_turns(pose_M, stabiliser, group, mirrored=mirrored), stabiliser, group, least_share)
    ]


def family_gaps(families: Families, stabilisers: Sequence[Subgroup], group: FiniteGroup) -> list[list[Gap] | None]:
    """The gaps of each feature's family; None when alone, or where the group has no angles."""
    pose_F, gaps_F = shown_poses(families, stabilisers, group), list[list[Gap] | None]([None] * len(families.family_F))
    if not isinstance(group, Group):
        return gaps_F
    for representative in np.unique(families.representative_F[families.family_F >= 0]).tolist():
        member_M = np.flatnonzero(families.representative_F == representative)
        of_family = gaps(pose_F[member_M], stabilisers[representative], group)
        for member in member_M.tolist():
            gaps_F[member] = of_family
    return gaps_F


def _turns(pose_M: NDArray[np.int64], stabiliser: Subgroup, group: Group, *, mirrored: bool) -> list[int]:
    """Steps by which members are turned, of elements that look the same the smallest; ascending, each once."""
    same_MS = group.cayley[pose_M][:, list(stabiliser.elements)]
    same = same_MS[group.mirrored[same_MS] == mirrored]
    return np.unique(group.turns[same] % (group.n // stabiliser.num_rotations)).tolist()


def _between(turns: list[int], stabiliser: Subgroup, group: Group, least_share: float) -> Iterator[tuple[int, int]]:
    """Each place with the next one round the circle, where they lie so far apart; all of it where there is no place."""
    period = group.n // stabiliser.num_rotations
    if not turns:
        yield 0, period
        return
    for start, end in zip(turns, [*turns[1:], turns[0] + period], strict=True):
        if end - start > max(1, least_share * period):
            yield start, end
