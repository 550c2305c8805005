"""The action on patches: laws, and agreement with independent resamplers on a real photograph.

Letters: N patches, G group elements, C image channels, H W pixels.
"""

import numpy as np
import pytest
import skimage.data
import torch
from scipy import ndimage
from torch import Tensor

from gc_core import groups
from gc_core.groups import Group
from gc_core.transforms import Interpolation, act, window_px

PATCH_PX = 31
BOTH: list[Interpolation] = ["bilinear", "bicubic"]


def photograph_CHW() -> Tensor:
    return torch.from_numpy(skimage.data.astronaut()[:300, :300]).permute(2, 0, 1).double()


def window_of(image_CHW: Tensor, centre: tuple[int, int], side_px: int) -> Tensor:
    (y, x), half = centre, side_px // 2
    return image_CHW[None, :, y - half : y + half + 1, x - half : x + half + 1]


def act_at(centre: tuple[int, int], group: Group, interpolation: Interpolation) -> Tensor:
    """(G, C, H, W) transformed patches of the photograph."""
    side = window_px(PATCH_PX, group, interpolation)
    return act(window_of(photograph_CHW(), centre, side), group, PATCH_PX, interpolation)[0]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_exact_elements_compose_exactly(n: int) -> None:
    group = groups.dihedral(n)
    window = window_of(photograph_CHW(), (120, 220), PATCH_PX)
    once = act(window, group, PATCH_PX)
    for h in range(group.order):
        twice = act(once[:, h], group, PATCH_PX)
        assert torch.equal(twice, once[:, torch.from_numpy(group.cayley[:, h])])


@pytest.mark.parametrize("n", [3, 8, 32])
def test_acting_twice_is_acting_by_the_product_on_a_smooth_image(n: int) -> None:
    """Interpolation twice differs from once by little where the image is smooth; the wrong element is far away."""
    group = groups.dihedral(n)
    side = window_px(PATCH_PX, group, "bicubic")
    outer = window_px(side, group, "bicubic")
    axis = torch.linspace(-2, 2, outer, dtype=torch.float64)
    smooth = (torch.sin(1.5 * axis)[:, None] * 3 + torch.cos(axis)[None] * axis[None] * 2)[None, None]
    direct = act(smooth, group, PATCH_PX, "bicubic")[0]
    turned = act(smooth, group, side, "bicubic")[0]
    for h in range(0, group.order, max(1, n // 8)):
        twice = act(turned[h][None], group, PATCH_PX, "bicubic")[0]
        error = (twice - direct[torch.from_numpy(group.cayley[:, h])]).abs().amax()
        wrong = (twice - direct[torch.from_numpy(group.cayley[h])]).abs().amax()
        assert error < 0.05  # of about 6, peak to peak
        if h != 0 and (n % 2 or h != n // 2):  # those commute with everything
            assert wrong > 1


def test_the_identity_is_the_untouched_crop() -> None:
    patch = window_of(photograph_CHW(), (120, 220), PATCH_PX)[0]
    assert torch.equal(act_at((120, 220), groups.dihedral(32), "bicubic")[0], patch)


def test_content_on_the_right_moves_up_and_the_mirror_sends_it_left() -> None:
    group = groups.dihedral(32)
    side = window_px(PATCH_PX, group, "bilinear")
    window = torch.zeros(1, 1, side, side, dtype=torch.float64)
    window[..., side // 2, side // 2 + 10] = 1
    patches_GHW = act(window, group, PATCH_PX)[0, :, 0]
    rows, columns = torch.meshgrid(torch.arange(PATCH_PX) - 15.0, torch.arange(PATCH_PX) - 15.0, indexing="ij")
    weight_G = patches_GHW.sum((1, 2))
    up_G, right_G = -(patches_GHW * rows).sum((1, 2)) / weight_G, (patches_GHW * columns).sum((1, 2)) / weight_G
    expected = 10 * torch.from_numpy(group.matrices[:, :, 0])
    torch.testing.assert_close(torch.stack([right_G, up_G], -1), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("group", [groups.dihedral(32), groups.dihedral(6), groups.cyclic(5)], ids=lambda g: g.name)
def test_bilinear_action_agrees_with_scipy_on_a_photograph(group: Group) -> None:
    centre = (130, 230)
    ours_GCHW = act_at(centre, group, "bilinear")
    for g in range(group.order):
        np.testing.assert_allclose(ours_GCHW[g, 1], _scipy_patch(group, g, centre, order=1), atol=1e-6)


def test_bicubic_action_is_close_to_scipys_splines() -> None:
    """Another cubic kernel, so close and not equal; the mean deviation is far below a wrong turn by one step."""
    group, centre = groups.dihedral(32), (130, 230)
    ours_GCHW = act_at(centre, group, "bicubic")
    for g in range(group.order):
        ours = ours_GCHW[g, 1].numpy()
        right = np.abs(ours - _scipy_patch(group, g, centre, order=3)).mean()
        wrong = np.abs(ours - _scipy_patch(group, (g + 1) % group.order, centre, order=3)).mean()
        assert right < 1.5 < wrong


def _scipy_patch(group: Group, element: int, centre: tuple[int, int], order: int) -> np.ndarray:
    """g.x around the centre by scipy: rows are minus up, so conjugate the matrix by the swap and the flip."""
    to_row_column = np.array([[0.0, -1.0], [1.0, 0.0]])  # (right, up) -> (row, column)
    matrix = to_row_column @ np.linalg.inv(group.matrices[element]) @ np.linalg.inv(to_row_column)
    half = PATCH_PX // 2
    offset = np.array(centre) - matrix @ np.array([half, half])
    image = skimage.data.astronaut()[:300, :300, 1].astype(np.float64)
    return ndimage.affine_transform(image, matrix, offset, output_shape=(PATCH_PX, PATCH_PX), order=order)


@pytest.mark.parametrize("interpolation", BOTH)
@pytest.mark.parametrize("group", [groups.dihedral(32), groups.cyclic(5), groups.dihedral(4)], ids=lambda g: g.name)
def test_no_pixel_outside_the_window_is_ever_read(group: Group, interpolation: Interpolation) -> None:
    """A wider window gives the same patches, so border padding never shows."""
    side = window_px(PATCH_PX, group, interpolation)
    image = photograph_CHW()
    tight = act(window_of(image, (120, 220), side), group, PATCH_PX, interpolation)
    wide_window = torch.full((1, 3, side + 20, side + 20), torch.nan, dtype=torch.float64)
    wide_window[..., 10:-10, 10:-10] = window_of(image, (120, 220), side)
    assert torch.equal(act(wide_window, group, PATCH_PX, interpolation), tight)
    assert torch.isfinite(tight).all()


@pytest.mark.parametrize("interpolation", BOTH)
def test_float32_differs_from_float64_by_less_than_a_hundredth_of_a_grey_level(interpolation: Interpolation) -> None:
    group = groups.dihedral(32)
    window = window_of(photograph_CHW(), (120, 220), window_px(PATCH_PX, group, interpolation))
    single = act(window.float(), group, PATCH_PX, interpolation).double()
    assert (single - act(window, group, PATCH_PX, interpolation)).abs().max() < 1e-2


@pytest.mark.parametrize("side", [29, 32, 0])
def test_a_window_without_room_or_centre_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match=r"window: found|patch side: found"):
        act(torch.zeros(1, 3, side, side), groups.dihedral(1), PATCH_PX)


def test_an_even_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="positive odd number"):
        window_px(32, groups.dihedral(8), "bilinear")
