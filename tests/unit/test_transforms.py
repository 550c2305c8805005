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
from gc_core.transforms import Interpolation, Resampling, act, disc, window_px

PATCH_PX = 31
BOTH: list[Interpolation] = ["bilinear", "bicubic"]
BILINEAR, BICUBIC = (Resampling(interpolation=interpolation) for interpolation in BOTH)
EACH = [Resampling(interpolation=kernel, half_step=half) for kernel in BOTH for half in (False, True)]


def photograph_CHW() -> Tensor:
    return torch.from_numpy(skimage.data.astronaut()[:300, :300]).permute(2, 0, 1).double()


def window_of(image_CHW: Tensor, centre: tuple[int, int], side_px: int) -> Tensor:
    (y, x), half = centre, side_px // 2
    return image_CHW[None, :, y - half : y + half + 1, x - half : x + half + 1]


def act_at(centre: tuple[int, int], group: Group, resampling: Resampling = BILINEAR) -> Tensor:
    """(G, C, H, W) transformed patches of the photograph."""
    side = window_px(PATCH_PX, group, resampling)
    return act(window_of(photograph_CHW(), centre, side), group, PATCH_PX, resampling)[0]


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
    side = window_px(PATCH_PX, group, BICUBIC)
    outer = window_px(side, group, BICUBIC)
    axis = torch.linspace(-2, 2, outer, dtype=torch.float64)
    smooth = (torch.sin(1.5 * axis)[:, None] * 3 + torch.cos(axis)[None] * axis[None] * 2)[None, None]
    direct = act(smooth, group, PATCH_PX, BICUBIC)[0]
    turned = act(smooth, group, side, BICUBIC)[0]
    for h in range(0, group.order, max(1, n // 8)):
        twice = act(turned[h][None], group, PATCH_PX, BICUBIC)[0]
        error = (twice - direct[torch.from_numpy(group.cayley[:, h])]).abs().amax()
        wrong = (twice - direct[torch.from_numpy(group.cayley[h])]).abs().amax()
        assert error < 0.05  # of about 6, peak to peak
        if h != 0 and (n % 2 or h != n // 2):  # those commute with everything
            assert wrong > 1


def test_the_identity_is_the_untouched_crop() -> None:
    patch = window_of(photograph_CHW(), (120, 220), PATCH_PX)[0]
    assert torch.equal(act_at((120, 220), groups.dihedral(32), BICUBIC)[0], patch)


def test_content_on_the_right_moves_up_and_the_mirror_sends_it_left() -> None:
    group = groups.dihedral(32)
    side = window_px(PATCH_PX, group, BILINEAR)
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
    ours_GCHW = act_at(centre, group, BILINEAR)
    for g in range(group.order):
        np.testing.assert_allclose(ours_GCHW[g, 1], _scipy_patch(group, g, centre, order=1), atol=1e-6)


def test_bicubic_action_is_close_to_scipys_splines() -> None:
    """Another cubic kernel, so close and not equal; the mean deviation is far below a wrong turn by one step."""
    group, centre = groups.dihedral(32), (130, 230)
    ours_GCHW = act_at(centre, group, BICUBIC)
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


@pytest.mark.parametrize("resampling", EACH, ids=str)
@pytest.mark.parametrize("group", [groups.dihedral(32), groups.cyclic(5), groups.dihedral(4)], ids=lambda g: g.name)
def test_no_pixel_outside_the_window_is_ever_read(group: Group, resampling: Resampling) -> None:
    """A wider window gives the same patches, so border padding never shows."""
    side = window_px(PATCH_PX, group, resampling)
    image = photograph_CHW()
    tight = act(window_of(image, (120, 220), side), group, PATCH_PX, resampling)
    wide_window = torch.full((1, 3, side + 20, side + 20), torch.nan, dtype=torch.float64)
    wide_window[..., 10:-10, 10:-10] = window_of(image, (120, 220), side)
    assert torch.equal(act(wide_window, group, PATCH_PX, resampling), tight)
    assert torch.isfinite(tight).all()


@pytest.mark.parametrize("resampling", EACH, ids=str)
def test_float32_differs_from_float64_by_less_than_a_hundredth_of_a_grey_level(resampling: Resampling) -> None:
    group = groups.dihedral(32)
    window = window_of(photograph_CHW(), (120, 220), window_px(PATCH_PX, group, resampling))
    single = act(window.float(), group, PATCH_PX, resampling).double()
    assert (single - act(window, group, PATCH_PX, resampling)).abs().max() < 1e-2


def turned_and_flipped(bases_NRCSS: Tensor, group: Group) -> Tensor:
    """All elements from the base rotations by moving whole images: what `act` does in one look-up."""
    quarters = groups.quarter_turns(group.n)
    rotations = torch.cat([bases_NRCSS.rot90(4 // quarters * q, (-2, -1)) for q in range(quarters)], dim=1)
    mirrored = rotations[:, [-k % group.n for k in range(group.n)]].flip(-1)  # r^k m = m r^-k
    return torch.cat([rotations, mirrored], dim=1) if group.has_mirrors else rotations


@pytest.mark.parametrize("resampling", EACH, ids=str)
@pytest.mark.parametrize("name", ["D32", "C8", "D6", "D3", "C4", "D2", "trivial"])
def test_exact_elements_are_whole_base_rotations_turned_and_flipped(name: str, resampling: Resampling) -> None:
    group = groups.parse(name)
    patches_NGCSS = act_at((120, 220), group, resampling)[None]
    bases = group.n // groups.quarter_turns(group.n)
    assert torch.equal(patches_NGCSS, turned_and_flipped(patches_NGCSS[:, :bases], group))
    assert patches_NGCSS.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_patches_are_rounded_last() -> None:
    """To a smaller type only after the interpolation, which half precision would spoil."""
    group = groups.dihedral(8)
    window = window_of(photograph_CHW(), (120, 220), window_px(PATCH_PX, group, BILINEAR)).float()
    half = act(window, group, PATCH_PX, dtype=torch.bfloat16)
    assert torch.equal(half, act(window, group, PATCH_PX).bfloat16())
    assert not torch.equal(half, act(window.bfloat16(), group, PATCH_PX))


# Half a step.


@pytest.mark.parametrize("resampling", [r for r in EACH if r.half_step], ids=str)
@pytest.mark.parametrize("name", ["D32", "D8", "D6", "D3", "C5"])
def test_half_a_step_takes_the_elements_between(name: str, resampling: Resampling) -> None:
    """Those of the group with twice the rotations: r^(k + 1/2), and r^k m r^(1/2) = r^(k - 1/2) m."""
    group = groups.parse(name)
    finer = groups.Group(group.kind, 2 * group.n)
    k = torch.from_numpy(group.turns)
    between = torch.where(torch.from_numpy(group.mirrored), 2 * group.n + (2 * k - 1) % (2 * group.n), 2 * k + 1)
    whole_steps = Resampling(interpolation=resampling.interpolation)
    found, expected = act_at((120, 220), group, resampling), act_at((120, 220), finer, whole_steps)[between]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-9)
    assert (found - act_at((120, 220), group, whole_steps)).abs().mean() > 1  # the control


def test_half_a_step_blurs_all_elements_alike() -> None:
    """Interpolation takes contrast away from noise: from seven eighths of D_32's elements, or from all of them."""
    group = groups.dihedral(32)
    half_step = Resampling(half_step=True)
    side = window_px(PATCH_PX, group, half_step)
    noise = torch.randn(40, 1, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact_G = torch.from_numpy(4 * group.turns % group.n == 0)
    contrast_G, control_G = (act(noise, group, PATCH_PX, way).std(dim=(0, 2, 3, 4)) for way in (BILINEAR, half_step))
    assert contrast_G[exact_G].min() > 0.97
    assert contrast_G[~exact_G].max() < 0.72
    assert control_G.max() / control_G.min() < 1.03
    assert (contrast_G[~exact_G].mean() / control_G.mean() - 1).abs() < 0.01


# The disc.


@pytest.mark.parametrize(("side", "inside"), [(1, 1), (3, 9 - 0), (5, 21), (7, 37)])
def test_the_disc_is_inscribed(side: int, inside: int) -> None:
    mask = disc(side)
    assert mask.sum() == inside
    assert mask[0].any()
    assert torch.equal(mask, mask.T)
    assert torch.equal(mask, mask.flip(0))


@pytest.mark.parametrize("interpolation", BOTH)
def test_outside_the_disc_is_nothing_and_inside_all_is_as_it_was(interpolation: Interpolation) -> None:
    group, centre = groups.dihedral(8), (120, 220)
    without = act_at(centre, group, Resampling(interpolation=interpolation))
    masked = act_at(centre, group, Resampling(interpolation=interpolation, disc_mask=True))
    inside = disc(PATCH_PX)
    assert torch.equal(masked[..., inside], without[..., inside])
    assert not masked[..., ~inside].any()
    assert without[..., ~inside].any()


def test_pixels_outside_every_disc_change_nothing_when_masked() -> None:
    """Corners that only some elements see are what the mask is for."""
    group = groups.dihedral(8)
    side = window_px(PATCH_PX, group, BILINEAR)
    window = window_of(photograph_CHW(), (120, 220), side)
    axis = torch.arange(side) - side // 2
    far = axis[:, None].square() + axis.square() > (PATCH_PX / 2 + 2) ** 2
    other = torch.where(far, 0.0, window)
    masked, corners = Resampling(disc_mask=True), BILINEAR
    assert torch.equal(act(other, group, PATCH_PX, masked), act(window, group, PATCH_PX, masked))
    assert not torch.equal(act(other, group, PATCH_PX, corners), act(window, group, PATCH_PX, corners))


# Refusals.


@pytest.mark.parametrize("side", [29, 32, 0])
def test_a_window_without_room_or_centre_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match=r"window: found|patch side: found"):
        act(torch.zeros(1, 3, side, side), groups.dihedral(1), PATCH_PX)


# Patches of an even side turn about the corner in their middle.


def even_window(side_px: int) -> Tensor:
    return photograph_CHW()[None, :, 100 : 100 + side_px, 120 : 120 + side_px]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_exact_elements_compose_exactly_on_even_patches(n: int) -> None:
    group = groups.dihedral(n)
    once = act(even_window(30), group, 30)
    assert torch.equal(once[0, 0], even_window(30)[0])
    for h in range(group.order):
        assert torch.equal(act(once[:, h], group, 30), once[:, torch.from_numpy(group.cayley[:, h])])


@pytest.mark.parametrize("resampling", EACH[::2], ids=str)
def test_even_patches_are_those_of_scipy_about_the_corner(resampling: Resampling) -> None:
    """Bilinear ones to rounding; another cubic kernel is close. No pixel outside the window is read."""
    group, patch_px = groups.dihedral(8), 30
    side = window_px(patch_px, group, resampling)
    assert side % 2 == 0
    window = even_window(side)
    ours_GCHW = act(window, group, patch_px, resampling)[0]
    wider = torch.full((1, 3, side + 20, side + 20), torch.nan, dtype=torch.float64)
    wider[..., 10:-10, 10:-10] = window
    assert torch.equal(act(wider, group, patch_px, resampling)[0], ours_GCHW)
    down, right = np.mgrid[:patch_px, :patch_px] - (patch_px - 1) / 2
    most = 1e-6 if resampling.interpolation == "bilinear" else 12.0
    for g in range(group.order):
        matrix = group.matrices[group.inverse[g]]
        from_right, from_up = (row[0] * right - row[1] * down for row in matrix)
        places = [(side - 1) / 2 - from_up, (side - 1) / 2 + from_right]
        order = 1 if resampling.interpolation == "bilinear" else 3
        expected = ndimage.map_coordinates(window[0, 1].numpy(), places, order=order)
        assert np.abs(ours_GCHW[g, 1].numpy() - expected).mean() <= most / 4
        assert np.abs(ours_GCHW[g, 1].numpy() - expected).max() <= 4 * most


@pytest.mark.parametrize("patch_px", [30, 31])
def test_where_the_disc_alone_is_read_the_window_is_hardly_larger(patch_px: int) -> None:
    group, small = groups.dihedral(8), Resampling(disc_mask=True, disc_window=True)
    side, full = window_px(patch_px, group, small), window_px(patch_px, group, BILINEAR)
    assert patch_px <= side <= patch_px + 4 < full
    window = photograph_CHW()[None, :, 100 : 100 + full, 120 : 120 + full]
    margin = (full - side) // 2
    inner = window[..., margin : margin + side, margin : margin + side]
    everything = act(window, group, patch_px, Resampling(disc_mask=True))
    torch.testing.assert_close(act(inner, group, patch_px, small), everything, rtol=0, atol=1e-9)


def test_a_patch_of_no_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        window_px(0, groups.dihedral(8), BILINEAR)
