"""The group's action on centred square patches of an image.

g.x moves the content: (g.x)(p) = x(g^-1 p) for p in (right, up) about the centre pixel. Image rows grow downward; that
sign flip lives in `_sampling_grid` and nowhere else. Quarter turns and mirrors are exact; every other angle resamples
once, from the original pixels: all elements are quarter turns and mirrors of n / gcd(n, 4) base rotations (8 for D_32).

Letters: N patches, G group elements, R base rotations, C image channels, W window side, S patch side (both odd,
pixels).
"""

import math
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gc_core.groups import Group, quarter_turns

Interpolation = Literal["bilinear", "bicubic"]

_TAPS_PX = {"bilinear": 1, "bicubic": 2}
"""How far beyond a sampled point the kernel reads."""


def window_px(patch_px: int, group: Group, interpolation: Interpolation) -> int:
    """Side of the square of original pixels that every transformed patch of side `patch_px` is made from.

    For groups of quarter turns and mirrors it is `patch_px` itself; otherwise the rotated corners and the kernel must
    fit.

    Raises:
        ValueError: `patch_px` is not a positive odd number (an even patch has no centre pixel).
    """
    if patch_px < 1 or patch_px % 2 == 0:
        raise ValueError(
            f"patch side: found {patch_px} px, expected a positive odd number, so that a centre pixel exists"
        )
    if group.n == quarter_turns(group.n):
        return patch_px
    reach = max(_reach(patch_px, group, base) for base in range(1, group.n // quarter_turns(group.n)))
    return 2 * (math.floor(reach) + _TAPS_PX[interpolation]) + 1


def act(windows_NCWW: Tensor, group: Group, patch_px: int, interpolation: Interpolation = "bilinear") -> Tensor:
    """All transformed versions of each window's centre patch; shape (N, G, C, S, S), floating type of the input.

    `windows_NCWW` holds original pixels, at least `window_px(...)` on a side, odd, the patch's centre pixel in its
    middle.

    Raises:
        ValueError: the window is too small, even, or not square.
    """
    bases_NRCSS = _base_rotations(windows_NCWW, group, patch_px, interpolation)
    return _complete(bases_NRCSS, group)


def _base_rotations(windows_NCWW: Tensor, group: Group, patch_px: int, interpolation: Interpolation) -> Tensor:
    """Patches turned by k < n / gcd(n, 4) steps; shape (N, R, C, S, S). The first is the untouched crop."""
    windows_NCWW = _centre_crop(windows_NCWW, window_px(patch_px, group, interpolation))
    num_windows, channels, side, _ = windows_NCWW.shape
    rotated = [_centre_crop(windows_NCWW, patch_px)]
    for base in range(1, group.n // quarter_turns(group.n)):
        grid_SS2 = _sampling_grid(group, base, patch_px, side).to(windows_NCWW)
        # One grid for all windows: fold them into channels, so that its weights are computed once.
        folded = windows_NCWW.reshape(1, num_windows * channels, side, side)
        patch = F.grid_sample(folded, grid_SS2[None], mode=interpolation, padding_mode="border", align_corners=True)
        rotated.append(patch.reshape(num_windows, channels, patch_px, patch_px))
    return torch.stack(rotated, dim=1)


def _complete(bases_NRCSS: Tensor, group: Group) -> Tensor:
    """Quarter turns of the base rotations, then their mirrors: r^k m = m r^-k."""
    quarters = quarter_turns(group.n)
    turned = [bases_NRCSS.rot90(4 // quarters * q, (-2, -1)) for q in range(quarters)]
    rotations_NGCSS = torch.cat(turned, dim=1)  # k = q n / quarters + base, in order
    if not group.has_mirrors:
        return rotations_NGCSS
    inverse = (-torch.arange(group.n, device=bases_NRCSS.device)) % group.n
    return torch.cat([rotations_NGCSS, rotations_NGCSS[:, inverse].flip(-1)], dim=1)


def _centre_crop(images: Tensor, side_px: int) -> Tensor:
    height, width = images.shape[-2:]
    if height != width or height % 2 == 0 or height < side_px:
        raise ValueError(
            f"window: found {height} x {width} px, expected odd and square, at least {side_px} px on a side"
        )
    margin = (height - side_px) // 2
    return images[..., margin : margin + side_px, margin : margin + side_px]


def _reach(patch_px: int, group: Group, element: int) -> float:
    """Largest coordinate, in pixels from the centre, that the element's sampling grid asks for."""
    (cos, sin), _ = abs(group.matrices[element])
    return (patch_px // 2) * (cos + sin)


@lru_cache(maxsize=1024)
def _sampling_grid(group: Group, element: int, patch_px: int, window_side_px: int) -> Tensor:
    """Where each pixel of g.x comes from, in grid_sample's coordinates; (S, S, 2) float64, -1 and 1 the outermost
    pixels."""
    offset = torch.arange(patch_px, dtype=torch.float64) - patch_px // 2
    right, up = offset[None, :].expand(patch_px, -1), -offset[:, None].expand(-1, patch_px)
    inverse = group.matrices[group.inverse[element]]
    source_right, source_up = (row[0] * right + row[1] * up for row in inverse)
    return torch.stack([source_right, -source_up], dim=-1) / (window_side_px // 2)
