"""The group's action on centred square patches of an image.

g.x moves the content: (g.x)(p) = x(g^-1 p) for p in (right, up) about the centre pixel. Image rows grow downward; that
sign flip lives in `_sampling_grid` and nowhere else. Quarter turns and mirrors are exact; every other angle resamples
once, from the original pixels: all elements are quarter turns and mirrors of n / gcd(n, 4) base rotations (8 for D_32).

Patches of an odd side turn about their centre pixel, those of an even side about the corner where the four pixels in
the middle meet; quarter turns and mirrors permute pixels in both.

Letters: N patches, G group elements, R base rotations, C image channels, W window side, S patch side (pixels; both odd
or both even).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gc_core import groups
from gc_core.groups import Group, quarter_turns

Interpolation = Literal["bilinear", "bicubic"]

_TAPS_PX = {"bilinear": 1, "bicubic": 2}
"""How far beyond a sampled point the kernel reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How patches are made from pixels."""

    interpolation: Interpolation = "bilinear"
    """The kernel."""
    half_step: bool = False
    """Whether the image is first turned by half a step of the group, in the same one resampling.

    Then no element is exact: r^k asks for k + 1/2 steps and r^k m = m r^-k for the mirror image of -k + 1/2, so that
    every block went through the same blur. It is the control for what interpolation does to the few exact elements.
    Blocks are those of another image, the turned one, whose action composes as before: the group law stays exact.
    (Shifting the exact elements by half a pixel would also blur them, but more than any rotation does, and would move
    their centre.)
    """
    disc_mask: bool = False
    """Whether what lies outside the patch's inscribed disc is 0: corners that turn out of sight tell nothing."""
    disc_window: bool = False
    """Whether the network reads the inscribed disc alone, so that windows need no pixels for the corners of turned
    patches: what stands there is made up."""


def window_px(patch_px: int, group: Group, resampling: Resampling) -> int:
    """Side of the square of original pixels that every transformed patch of side `patch_px` is made from.

    Odd where the patch is odd, even where it is even. For groups of quarter turns and mirrors it is `patch_px` itself;
    otherwise the rotated corners (the disc, with `disc_window`) and the kernel must fit. A disc mask does not change
    it, so that the same centres can be taken with and without.

    Raises:
        ValueError: `patch_px` is not positive.
    """
    if patch_px < 1:
        raise ValueError(f"patch side: found {patch_px} px, expected a positive number")
    interpolated = _interpolated(group, resampling.half_step)
    if not interpolated:
        return patch_px
    corner = (
        patch_px / 2
        if resampling.disc_window
        else max(_reach(patch_px, half_steps, group.n) for half_steps in interpolated)
    )
    centre_offset = 0.5 * (1 - patch_px % 2)  # of the first pixel beside the centre
    beyond = math.floor(corner - centre_offset) + _TAPS_PX[resampling.interpolation]
    return max(patch_px, round(2 * (beyond + centre_offset)) + 1)


def act(
    windows_NCWW: Tensor,
    group: Group,
    patch_px: int,
    resampling: Resampling | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """All transformed versions of each window's centre patch; shape (N, G, C, S, S), channels last in memory.

    `windows_NCWW` holds original pixels, at least `window_px(...)` on a side, odd or even as the patch is, with the
    patch in its middle. Interpolation runs in their type; the patches are then rounded to `dtype`, if one is given.

    Raises:
        ValueError: the window is too small, not square, or even where the patch is odd.
    """
    bases_NRCSS = _base_rotations(windows_NCWW, group, patch_px, resampling or Resampling())
    return _complete(bases_NRCSS.to(dtype or windows_NCWW.dtype), group)


def disc(patch_px: int) -> Tensor:
    """(S, S) bool, true inside the inscribed disc: pixels whose centre is at most S / 2 away."""
    twice = 2 * torch.arange(patch_px) - (patch_px - 1)  # offsets from the centre, in half pixels
    return twice[:, None] ** 2 + twice[None, :] ** 2 <= patch_px**2


def _base_rotations(windows_NCWW: Tensor, group: Group, patch_px: int, resampling: Resampling) -> Tensor:
    """Patches turned by k < n / gcd(n, 4) steps; shape (N, R, C, S, S). Without a half step, the first is the untouched
    crop."""
    windows_NCWW = _centre_crop(windows_NCWW, window_px(patch_px, group, resampling))
    parts = [] if resampling.half_step else [_centre_crop(windows_NCWW, patch_px)[:, None]]
    if half_steps := _interpolated(group, resampling.half_step):
        parts.append(_resampled(windows_NCWW, group.n, half_steps, patch_px, resampling.interpolation))
    bases_NRCSS = torch.cat(parts, dim=1)
    return bases_NRCSS * disc(patch_px).to(bases_NRCSS) if resampling.disc_mask else bases_NRCSS


def _resampled(
    windows_NCWW: Tensor, n: int, half_steps: tuple[int, ...], patch_px: int, interpolation: Interpolation
) -> Tensor:
    """Patches turned by each number of half steps; shape (N, R, C, S, S)."""
    count, channels, side, _ = windows_NCWW.shape
    grid_TS2 = _sampling_grid(n, half_steps, patch_px, side).to(windows_NCWW)  # T: all turns' rows, one below another
    if windows_NCWW.device.type == "cpu":
        # One grid for all windows: fold them into channels, so that its weights are computed once.
        windows_NCWW, grid_NTS2 = windows_NCWW.reshape(1, count * channels, side, side), grid_TS2[None]
    else:  # an accelerator computes one position of one image in each of its threads
        grid_NTS2 = grid_TS2.expand(count, -1, -1, -1)
    sampled = F.grid_sample(windows_NCWW, grid_NTS2, mode=interpolation, padding_mode="border", align_corners=True)
    return sampled.reshape(count, channels, len(half_steps), patch_px, patch_px).transpose(1, 2)


def _complete(bases_NRCSS: Tensor, group: Group) -> Tensor:
    """Quarter turns of the base rotations, then their mirrors; shape (N, G, C, S, S).

    They only move pixels, so all are one look-up, which also puts channels last, as convolutions want them.
    """
    count, bases, channels, side, _ = bases_NRCSS.shape
    pixels_NPC = bases_NRCSS.permute(0, 1, 3, 4, 2).reshape(count, bases * side * side, channels)
    moved_NPC = pixels_NPC.index_select(1, _places(group, side, bases_NRCSS.device))
    return moved_NPC.view(count, group.order, side, side, channels).permute(0, 1, 4, 2, 3)


@lru_cache(maxsize=16)
def _places(group: Group, side_px: int, device: torch.device) -> Tensor:
    """Which pixel of the base rotations each pixel of each element is; (G * S * S,)."""
    quarters = quarter_turns(group.n)
    bases = group.n // quarters
    number_RSS = torch.arange(bases * side_px * side_px).view(bases, side_px, side_px)
    turned = [number_RSS.rot90(4 // quarters * q, (-2, -1)) for q in range(quarters)]
    rotations_KSS = torch.cat(turned)  # k = q n / quarters + base, in order
    if not group.has_mirrors:
        return rotations_KSS.flatten().to(device)
    inverse = (-torch.arange(group.n)) % group.n
    return torch.cat([rotations_KSS, rotations_KSS[inverse].flip(-1)]).flatten().to(device)  # r^k m = m r^-k


def _interpolated(group: Group, half_step: bool) -> tuple[int, ...]:
    """The base rotations that are no quarter turns, in half steps."""
    bases = range(group.n // quarter_turns(group.n))
    return tuple(2 * base + 1 for base in bases) if half_step else tuple(2 * base for base in bases if base)


def _centre_crop(images: Tensor, side_px: int) -> Tensor:
    height, width = images.shape[-2:]
    if height != width or (height - side_px) % 2 or height < side_px:
        raise ValueError(
            f"window: found {height} x {width} px, expected a square of {side_px} px or 2, 4, 6 ... more on a side"
        )
    margin = (height - side_px) // 2
    return images[..., margin : margin + side_px, margin : margin + side_px]


def _reach(patch_px: int, half_steps: int, n: int) -> float:
    """Largest coordinate, in pixels from the centre, that a turn's sampling grid asks for."""
    (cos, sin), _ = abs(groups.cyclic(2 * n).matrices[half_steps])
    return (patch_px - 1) / 2 * (cos + sin)


@lru_cache(maxsize=64)
def _sampling_grid(n: int, half_steps: tuple[int, ...], patch_px: int, window_side_px: int) -> Tensor:
    """Where each pixel of each turned patch comes from, in grid_sample's coordinates.

    (R * S, S, 2) float64, -1 and 1 the outermost pixels.
    """
    offset = torch.arange(patch_px, dtype=torch.float64) - (patch_px - 1) / 2
    right, up = offset[None, :].expand(patch_px, -1), -offset[:, None].expand(-1, patch_px)
    turns = groups.cyclic(2 * n)
    grids = []
    for inverse in turns.matrices[turns.inverse[list(half_steps)]]:
        source_right, source_up = (row[0] * right + row[1] * up for row in inverse)
        grids.append(torch.stack([source_right, -source_up], dim=-1))
    return torch.cat(grids) / ((window_side_px - 1) / 2)
