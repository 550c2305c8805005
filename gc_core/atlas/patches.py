"""Patches of images, as the layer's units see them, turned where a prototype's pose asks for it."""

import numpy as np
import torch
from numpy.typing import NDArray

from gc_core.groups import FiniteGroup, Group
from gc_core.transforms import Resampling, act, window_px

GREY = 128


def cut_patch(
    pixels_CHW: NDArray[np.uint8] | None, centre_yx: NDArray[np.int32], side_px: int, group: FiniteGroup, element: int
) -> NDArray[np.uint8]:
    """(S, S, 3) what the unit at a centre pixel sees after a group element acted on the image; grey without one. Of
    a group that is not of the plane nobody knows here how it acts: it is as the image is.

    Corners that a turn brings in from beyond the image repeat its edge.
    """
    if pixels_CHW is None:
        return np.full((side_px, side_px, 3), GREY, np.uint8)
    if element and isinstance(group, Group):
        window_CWW = torch.from_numpy(_window(pixels_CHW, centre_yx, window_px(side_px, group, Resampling()))).float()
        turned_CSS = act(window_CWW[None], group, side_px)[0, element].round().clamp(0, 255).byte().numpy()
    else:
        turned_CSS = _window(pixels_CHW, centre_yx, side_px)
    return np.ascontiguousarray(turned_CSS.transpose(1, 2, 0))


def _window(pixels_CHW: NDArray[np.uint8], centre_yx: NDArray[np.int32], side_px: int) -> NDArray[np.uint8]:
    """(C, W, W) about a centre pixel; what lies beyond the image repeats its edge."""
    margin = side_px // 2
    padded = np.pad(pixels_CHW, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    top, left = (int(c) for c in centre_yx)  # the margin moves the centre there to the corner here
    return padded[:, top : top + side_px, left : left + side_px].copy()
