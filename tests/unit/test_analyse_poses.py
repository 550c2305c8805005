"""From images turned by known angles to the pose that the page prints.

Letters: F features, G group elements, C channels, H W pixels.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gc_core import backbones, groups, symmetry
from gc_core.atlas.view import words_of_pose
from gc_core.families import family_similarity, group_families, shown_poses
from gc_core.harvest import field_window_px, group_activations
from support.invented_page import drawn_page

SIDE_PX = 151
GROUP = groups.dihedral(4)


def drawn(name: str) -> NDArray[np.uint8]:
    """A white shape on black about the middle: an `F`, with no symmetry, or a bar, with those of a rectangle."""
    image_HW, middle = np.zeros((SIDE_PX, SIDE_PX)), SIDE_PX // 2
    image_HW[middle - 12 : middle + 13, middle - 2 : middle + 3] = 255
    if name == "F":
        image_HW[middle - 12 : middle - 7, middle : middle + 12] = 255
        image_HW[middle - 2 : middle + 2, middle : middle + 8] = 255
    return np.broadcast_to(image_HW.astype(np.uint8), (3, SIDE_PX, SIDE_PX)).copy()


def poses_of(images: list[NDArray[np.uint8]]) -> list[str]:
    """What the page says of a dictionary whose features are the samples of these images; the first is the family's
    reference."""
    backbone = backbones.load("googlenet")
    assert field_window_px(GROUP, backbone) <= SIDE_PX
    centre = np.array([[SIDE_PX // 2, SIDE_PX // 2]])
    acts = [group_activations(image, centre, GROUP, backbone)[0] for image in images]
    decoder_FGC = torch.from_numpy(np.stack([np.asarray(a, np.float64) for a in acts]))
    decoder_FGC = symmetry.changing_part(decoder_FGC)
    similarity, pose = family_similarity(decoder_FGC, decoder_FGC, GROUP, invariant_share=0.9)
    values = similarity.numpy()
    values[0] += 1e-3  # of equal copies, the first represents them
    found = group_families(values, pose.numpy(), least_similarity=0.9)
    assert (found.family_F == 0).all()
    assert (found.representative_F == 0).all()
    verdicts = symmetry.verdicts(decoder_FGC, GROUP, threshold=0.9, invariant_share=0.9)
    page = replace(drawn_page(num_features=24, num_rotations=8, num_examples=1), group_n=GROUP.n, features=[])
    return [words_of_pose(int(element), page) for element in shown_poses(found, [v.subgroup for v in verdicts], GROUP)]


def turned(image_CHW: NDArray[np.uint8], quarters: int, *, mirrored: bool = False) -> NDArray[np.uint8]:
    """Mirrored left-right first, then turned anticlockwise as displayed."""
    first = image_CHW[:, :, ::-1] if mirrored else image_CHW
    return np.ascontiguousarray(np.rot90(first, quarters, axes=(1, 2)))


def test_a_shape_without_symmetry_is_shown_at_the_angle_it_was_turned_by() -> None:
    image = drawn("F")
    poses = poses_of([image, *(turned(image, k) for k in (1, 2, 3)), turned(image, 1, mirrored=True)])
    assert poses == ["0°", "90°", "180°", "270°", "mirrored, 90°"]


@pytest.mark.parametrize("quarters", [1, 3])
def test_of_angles_that_look_the_same_the_smallest_is_shown(quarters: int) -> None:
    image = drawn("bar")
    assert poses_of([image, turned(image, quarters), turned(image, 2)]) == ["0°", "90°", "0°"]
