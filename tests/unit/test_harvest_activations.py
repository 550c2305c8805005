"""The heart of the harvest agrees with the plain way: turn the whole image, run the whole network, read one unit.

The plain way is written here from the definitions, in float64, with scipy's interpolation and none of `transforms`.

Letters: N centres, G group elements, C channels, H W pixels, L frame side.
"""

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from gc_core import backbones, groups, harvest
from gc_core.backbones import Backbone
from gc_core.config import HarvestConfig
from gc_core.groups import Group
from gc_core.harvest import activations
from gc_core.images import list_images, load
from gc_core.transforms import Resampling


@cache
def photograph_CHW(name: str = "astronaut.png", resize_px: int = 60) -> NDArray[np.uint8]:
    refs = {ref.name: ref for ref in list_images("photographs", stimulus_px=1, max_stimuli=1)}
    return load(refs[name], resize_px)


@cache
def backbone_of(layer: str, dtype: torch.dtype = torch.float64) -> Backbone:
    return backbones.load("googlenet", layer=layer, dtype=dtype)


def plain_way(image_CHW: NDArray[np.uint8], centre: tuple[int, int], group: Group, backbone: Backbone) -> Tensor:
    """(G, C): for each element, the whole image moved about the centre pixel into a frame, and all of it
    evaluated."""
    side, unit = frame_of(image_CHW, centre, backbone)
    acts_GC = []
    for element in range(group.order):
        frame_CLL = moved(image_CHW.astype(np.float64), centre, element, group.n, side)
        acts_GC.append(backbone.whole(torch.from_numpy(frame_CLL)[None])[0, :, unit, unit])
    return torch.stack(acts_GC)


def frame_of(image_CHW: NDArray[np.uint8], centre: tuple[int, int], backbone: Backbone) -> tuple[int, int]:
    """An odd side that holds the image however it is turned, and the number of the unit at its centre pixel."""
    height, width = image_CHW.shape[1:]
    farthest = max(np.hypot(y - centre[0], x - centre[1]) for y in (0, height) for x in (0, width))
    for side in range(2 * int(farthest) + 1, 4 * int(farthest) + 100, 2):
        centres = backbone.unit_centres(side).tolist()
        if side // 2 in centres:
            return side, centres.index(side // 2)
    raise AssertionError("no frame has a unit at its centre")


def moved(
    image_CHW: NDArray[np.float64], centre: tuple[int, int], element: int, n: int, side: int
) -> NDArray[np.float64]:
    """r^k, or mirror left-right and then r^k, anticlockwise as displayed; outside the image is black."""
    angle = 2 * np.pi * (element % n) / n
    down, right = np.mgrid[:side, :side] - side // 2
    up = -down
    from_right, from_up = right * np.cos(angle) + up * np.sin(angle), up * np.cos(angle) - right * np.sin(angle)
    if element >= n:
        from_right = -from_right
    places = [centre[0] - from_up, centre[1] + from_right]
    return np.stack([ndimage.map_coordinates(channel, places, order=1) for channel in image_CHW])


CENTRES = [(30, 24), (23, 37)]
CASES = [
    ("D8", "conv1"),
    ("D8", "maxpool1"),
    ("D8", "conv3"),
    ("D4", "conv3"),
    ("C5", "conv3"),
    ("trivial", "maxpool1"),
]


@pytest.mark.parametrize(("group_name", "layer"), CASES)
def test_every_block_is_what_the_plain_way_gives(group_name: str, layer: str) -> None:
    group, backbone = groups.parse(group_name), backbone_of(layer)
    found_NGC = harvest.group_activations(photograph_CHW(), np.array(CENTRES), group, backbone)
    expected_NGC = torch.stack([plain_way(photograph_CHW(), centre, group, backbone) for centre in CENTRES])
    assert found_NGC.dtype == torch.float64
    assert expected_NGC.std() > 0.01
    torch.testing.assert_close(found_NGC, expected_NGC, rtol=1e-9, atol=1e-9)


def test_every_block_of_inception3b_is_what_the_plain_way_gives() -> None:
    group, backbone, centre = groups.dihedral(8), backbone_of("inception3b"), (47, 55)
    image_CHW = photograph_CHW("coffee.png", 96)
    expected_GC = plain_way(image_CHW, centre, group, backbone)
    found_GC = harvest.group_activations(image_CHW, np.array([centre]), group, backbone)[0]
    torch.testing.assert_close(found_GC, expected_GC, rtol=1e-9, atol=1e-9)

    single = harvest.group_activations(image_CHW, np.array([centre]), group, backbone_of("inception3b", torch.float32))[
        0
    ]
    assert single.dtype == torch.float32
    assert (single - expected_GC).norm() < 1e-4 * expected_GC.norm()
    half = harvest.group_activations(image_CHW, np.array([centre]), group, backbone_of("inception3b", torch.bfloat16))[
        0
    ]
    assert half.dtype == torch.float32
    assert (half - expected_GC).norm() < 0.05 * expected_GC.norm()

    for wrong in (expected_GC.roll(1, 0), expected_GC.flip(0)):  # the control: elements differ by far more than that
        assert (found_GC - wrong).norm() > 0.2 * expected_GC.norm()


def test_exact_elements_are_exact() -> None:
    """Quarter turns and mirrors of the image permute the blocks: A'[g] = A[g h], to the last bit but for
    summation."""
    group, backbone = groups.dihedral(4), backbone_of("conv3")
    image_CHW = photograph_CHW()[:, :59, :59]
    middle = np.array([[29, 29]])
    acts_GC = harvest.group_activations(image_CHW, middle, group, backbone)[0]
    for h in range(group.order):
        turned = image_CHW[..., ::-1] if h >= 4 else image_CHW
        turned = np.rot90(turned, h % 4, (-2, -1)).copy()
        found_GC = harvest.group_activations(turned, middle, group, backbone)[0]
        torch.testing.assert_close(found_GC, acts_GC[torch.from_numpy(group.cayley[:, h])], rtol=1e-12, atol=1e-12)


def test_bicubic_is_near_bilinear_and_not_the_same() -> None:
    group, backbone = groups.dihedral(8), backbone_of("conv3")
    linear, cubic = (
        harvest.group_activations(photograph_CHW(), np.array(CENTRES), group, backbone, resampling=kernel)
        for kernel in (Resampling(), Resampling(interpolation="bicubic"))
    )
    exact = [0, 2, 4, 6, 8, 10, 12, 14]
    torch.testing.assert_close(cubic[:, exact], linear[:, exact])
    assert 0.001 < (cubic - linear).norm() / linear.norm() < 0.3


@pytest.mark.parametrize("corner", [(-1, 0), (0, -1), (1, 0), (0, 1)])
def test_a_field_that_leaves_the_image_is_refused_and_one_that_just_fits_is_not(corner: tuple[int, int]) -> None:
    group, backbone = groups.dihedral(8), backbone_of("maxpool1")
    image_CHW = photograph_CHW()
    _, height, width = image_CHW.shape
    half = harvest.field_window_px(group, backbone) // 2
    inside = np.array([[half if corner[0] <= 0 else height - 1 - half, half if corner[1] <= 0 else width - 1 - half]])
    assert harvest.group_activations(image_CHW, inside, group, backbone).isfinite().all()
    with pytest.raises(
        ValueError, match=rf"^centres: a field of \d+ px leaves the {width} x {height} px image; keep {half} px"
    ):
        harvest.group_activations(image_CHW, inside + np.array(corner), group, backbone)


def test_only_pixels_of_the_window_count() -> None:
    group, backbone, (y, x) = groups.dihedral(8), backbone_of("maxpool1"), (30, 25)
    half = harvest.field_window_px(group, backbone) // 2
    lonely = np.zeros_like(photograph_CHW())
    window = (slice(None), slice(y - half, y + half + 1), slice(x - half, x + half + 1))
    lonely[window] = photograph_CHW()[window]
    found, expected = (
        harvest.group_activations(im, np.array([(y, x)]), group, backbone) for im in (lonely, photograph_CHW())
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_no_centres_give_no_activations() -> None:
    found = harvest.group_activations(
        photograph_CHW(), np.empty((0, 2), np.int32), groups.dihedral(8), backbone_of("conv1")
    )
    assert found.shape == (0, 16, 64)
    assert found.dtype == torch.float64


def test_the_number_of_crops_in_a_pass_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    group, backbone = groups.dihedral(8), backbone_of("maxpool1")
    together = harvest.group_activations(photograph_CHW(), np.array(CENTRES), group, backbone)
    monkeypatch.setattr(activations, "CROPS_PER_PASS", {"cpu": 1})
    apart = harvest.group_activations(photograph_CHW(), np.array(CENTRES), group, backbone)
    torch.testing.assert_close(apart, together, rtol=1e-12, atol=1e-12)


def test_the_configs_network_is_loaded_in_the_configs_arithmetic() -> None:
    config = HarvestConfig(layer="conv1", dtype="float16", weights="random:3")
    backbone = harvest.load_backbone(config, "cpu")
    assert (backbone.name, backbone.layer, backbone.dtype) == ("googlenet", "conv1", torch.float16)
    assert harvest.load_backbone(HarvestConfig(layer="conv1"), "cpu").dtype == torch.float32


def test_squares_of_an_even_side_have_the_centre_right_and_below_of_their_middle() -> None:
    image_CHW = np.arange(3 * 20 * 20).reshape(3, 20, 20).astype(np.uint8)
    (cut,) = activations.cut_windows(image_CHW, np.array([(4, 16)], np.int32), 8)
    assert torch.equal(cut, torch.from_numpy(image_CHW[:, 0:8, 12:20]))
    for y, x in ((3, 10), (17, 10), (10, 3), (10, 17)):
        with pytest.raises(ValueError, match="leaves the 20 x 20 px image"):
            activations.cut_windows(image_CHW, np.array([(y, x)], np.int32), 8)
