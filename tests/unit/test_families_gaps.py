"""Orientations that a family leaves out: the arithmetic equals walking round, coset by coset.

Letters: F features, M members of a family, G group elements, C channels.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gc_core import groups
from gc_core.families import Gap, family_gaps, family_similarity, gaps, group_families
from gc_core.groups import Group, Subgroup
from gc_core.symmetry import translate

C36, D12 = groups.cyclic(36), groups.dihedral(12)
GROUPS = [groups.trivial(), groups.cyclic(12), groups.dihedral(1), D12, groups.dihedral(9)]


def walked(poses: list[int], stabiliser: Subgroup, group: Group, least_share: float) -> set[tuple[float, float, bool]]:
    """From every member turn step by step until the stimulus looks like that of a member again."""

    def look(element: int) -> frozenset[int]:
        return frozenset(group.cayley[element, list(stabiliser.elements)].tolist())

    def steps(start: int) -> Iterator[frozenset[int]]:
        for step in range(1, group.n + 1):
            yield look(int(group.cayley[step % group.n, start]))

    looks, found = {look(pose) for pose in poses}, set()
    orientations = len({look(element) for element in range(group.n)})
    for pose in poses:
        width = next(number for number, each in enumerate(steps(pose), start=1) if each in looks)
        smallest = min(element for element in look(pose))
        if width > 1 and width > least_share * orientations:
            start = smallest % group.n
            found.add((360 * start / group.n, 360 * (start + width) / group.n, smallest >= group.n))
    return found


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
@given(data=st.data())
def test_gaps_are_what_one_finds_by_turning_step_by_step(group: Group, data: st.DataObject) -> None:
    stabiliser = data.draw(st.sampled_from(group.subgroups()))
    elements = st.lists(st.integers(0, group.order - 1), max_size=6)
    poses, share = [0, *data.draw(elements)], data.draw(st.sampled_from([0.0, 1 / 6, 0.5]))
    found = gaps(np.array(poses), stabiliser, group, least_share=share)
    told = sorted((gap.from_deg, gap.to_deg, gap.mirrored) for gap in found)
    expected = walked(poses, stabiliser, group, share)
    smallest_G = group.cayley[:, list(stabiliser.elements)].min(1)
    if (smallest_G >= group.n).any() and not (smallest_G[poses] >= group.n).any():  # no mirrored copy at all
        expected.add((0.0, 360 * (group.n // stabiliser.num_rotations) / group.n, True))
    assert told == sorted(expected)


def test_a_family_in_every_pose_leaves_nothing_out() -> None:
    for group in GROUPS:
        for stabiliser in group.subgroups():
            assert gaps(np.arange(group.order), stabiliser, group, least_share=0) == []


def test_a_gap_past_the_representative_ends_above_a_whole_turn() -> None:
    identity = C36.subgroups()[0]
    (found,) = gaps(np.array([0, 4, 8, 12, 16, 20, 24, 28, 29, 3]), identity, C36)
    assert found == Gap(from_deg=290, to_deg=360, mirrored=False)
    assert gaps(np.array([2, 7, 12, 17, 22, 27]), identity, C36) == [Gap(from_deg=270, to_deg=380, mirrored=False)]


@pytest.mark.parametrize("left_out", [range(3, 7), range(0)], ids=["four left out", "all there"])
def test_what_is_left_out_of_turned_copies_is_named(left_out: range) -> None:
    generator = torch.Generator().manual_seed(0)
    original = torch.randn(1, 24, 30, dtype=torch.float64, generator=generator)
    alone = torch.randn(1, 24, 30, dtype=torch.float64, generator=generator)
    there = [h for h in range(12) if h not in left_out]
    decoder = torch.cat([translate(original, h, D12) for h in there] + [alone])
    similarity, pose = family_similarity(decoder, decoder, D12, invariant_share=0.9)
    found = group_families(similarity.numpy(), pose.numpy(), least_similarity=0.8)
    first = there[int(found.representative_F[0])]
    told = family_gaps(found, [D12.subgroups()[0]] * len(decoder), D12)
    assert told[-1] is None, "alone it has no family that could leave anything out"
    rotated = [gap for gap in told[0] or () if not gap.mirrored]
    begins = [30.0 * ((left_out.start - 1 - first) % 12)] if left_out else []
    assert [gap.from_deg for gap in rotated] == begins
    assert [gap.to_deg - gap.from_deg for gap in rotated] == [30.0 * (len(left_out) + 1)] * len(begins)
    assert [gap for gap in told[0] or () if gap.mirrored] == [Gap(from_deg=0, to_deg=360, mirrored=True)]
    assert all(each == told[0] for each in told[:-1])
