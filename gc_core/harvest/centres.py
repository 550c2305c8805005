"""Which pixels of a picture are sampled: seeded, distinct, with the whole rotated field inside the picture.

Letters: N centres, H W pixels.
"""

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from gc_core.backbones import Backbone


def pixel_capacity(height: int, width: int, window_px: int) -> int:
    """How many pixels of a picture can be a centre."""
    margin = window_px // 2
    return max(0, height - 2 * margin) * max(0, width - 2 * margin)


def unit_capacity(height: int, width: int, window_px: int, backbone: Backbone) -> int:
    """How many of the layer's own units can be a centre."""
    return len(_inner_units(height, window_px, backbone)) * len(_inner_units(width, window_px, backbone))


def uniform_centres(height: int, width: int, window_px: int, count: int, rng: Generator) -> NDArray[np.int32]:
    """(count, 2) distinct (y, x) pixels, each set alike."""
    margin = window_px // 2
    chosen = rng.choice(pixel_capacity(height, width, window_px), size=count, replace=False)
    rows, columns = np.divmod(chosen, width - 2 * margin)
    return np.stack([rows + margin, columns + margin], axis=1).astype(np.int32)


def strong_centres(
    image_CHW: NDArray[np.uint8], window_px: int, count: int, rng: Generator, backbone: Backbone
) -> NDArray[np.int32]:
    """(count, 2) distinct (y, x) unit centres, drawn without replacement in proportion to the layer's norm there."""
    _, height, width = image_CHW.shape
    with torch.inference_mode():
        whole = backbone.whole(torch.from_numpy(image_CHW)[None])[0]
    norms_hw = whole.float().norm(dim=0).cpu().numpy().astype(np.float64)
    rows, columns = _inner_units(height, window_px, backbone), _inner_units(width, window_px, backbone)
    weights = norms_hw[np.ix_(rows, columns)].ravel() + 1e-9  # silent units stay possible, last
    keys = np.log(weights) + rng.gumbel(size=len(weights))  # the largest Gumbel keys are such a draw (Efraimidis 2006)
    chosen = np.argsort(-keys, kind="stable")[:count]
    y, x = backbone.unit_centres(height)[rows], backbone.unit_centres(width)[columns]
    return np.stack([y[chosen // len(x)], x[chosen % len(x)]], axis=1).astype(np.int32)


def _inner_units(length_px: int, window_px: int, backbone: Backbone) -> NDArray[np.int64]:
    centres, margin = backbone.unit_centres(length_px), window_px // 2
    return np.flatnonzero((centres >= margin) & (centres < length_px - margin))
