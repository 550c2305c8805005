"""Patches of pictures, as the layer's units see them, turned where a prototype's pose asks for it."""

import numpy as np
import torch
from numpy.typing import NDArray

from gc_core.groups import Group
from gc_core.transforms import Resampling, act, window_px

GREY = 128


def cut_patch(
    pixels_CHW: NDArray[np.uint8] | None, centre_yx: NDArray[np.int32], side_px: int, group: Group, element: int
) -> NDArray[np.uint8]:
    """(S, S, 3) what the unit at a centre pixel sees after a group element acted on the picture; grey without one.

    Corners that a turn brings in from beyond the picture repeat its edge.
    """
    if pixels_CHW is None:
        return np.full((side_px, side_px, 3), GREY, np.uint8)
    window_side = window_px(side_px, group, Resampling()) if element else side_px
    margin = window_side // 2
    padded = np.pad(pixels_CHW, ((0, 0), (margin, margin), (margin, margin)), mode="edge") if element else pixels_CHW
    top, left = (int(c) + (margin if element else 0) - window_side // 2 for c in centre_yx)
    window_CWW = padded[:, top : top + window_side, left : left + window_side]
    if element:
        turned = act(torch.from_numpy(window_CWW.copy()).float()[None], group, side_px)[0, element]
        window_CWW = turned.round().clamp(0, 255).byte().numpy()
    return np.ascontiguousarray(window_CWW.transpose(1, 2, 0))
