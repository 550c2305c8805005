"""Which pixels of an image are sampled: seeded, distinct, apart, with the whole rotated field inside the image.

How many an image has room for follows from its size and the options alone, so that shards are planned as integers
before any pixel is read.

Letters: N centres, P candidates, H W pixels.
"""

import math
from functools import cache

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from gc_core.backbones import AnyBackbone
from gc_core.config import HarvestConfig


def capacity(config: HarvestConfig, height: int, width: int, window_px: int, backbone: AnyBackbone) -> int:
    """How many centres can surely be taken from an image of this size.

    Random centres are taken one after another, and one centre rules out a bounded number of candidates: those nearer
    than the minimum distance. The candidates over that bound is what any order of taking reaches.
    """
    distance_px = config.min_distance_px
    if config.centres == "activation":
        num_units = len(_inner_units(height, window_px, backbone)) * len(_inner_units(width, window_px, backbone))
        return -(-num_units // _ruled_out(distance_px, backbone.stride_px))
    rows, columns = _inner(height, window_px), _inner(width, window_px)
    if config.centres == "centre":
        return min(1, rows * columns)
    if config.centres == "grid":
        return _most_lines(rows, distance_px) * _most_lines(columns, distance_px)
    return -(-rows * columns // _ruled_out(distance_px, 1))


def choose(
    config: HarvestConfig,
    pixels_CHW: NDArray[np.uint8],
    window_px: int,
    count: int,
    rng: Generator,
    backbone: AnyBackbone,
) -> NDArray[np.int32]:
    """(count, 2) distinct (y, x) pixels, as the config says; `count` is at most `capacity`."""
    if config.centres == "activation":
        return strong_centres(pixels_CHW, window_px, count, rng, backbone, config.min_distance_px)
    _, height, width = pixels_CHW.shape
    if config.centres == "centre":
        return np.array([[height // 2, width // 2]], np.int32)[:count]
    if config.centres == "grid":
        return grid_centres(height, width, window_px, count, rng, config.min_distance_px)
    return uniform_centres(height, width, window_px, count, rng, config.min_distance_px)


def uniform_centres(
    height: int, width: int, window_px: int, count: int, rng: Generator, min_distance_px: int = 1
) -> NDArray[np.int32]:
    """(count, 2) pixels: each taken alike from all that are not too near to those before."""
    margin, columns = window_px // 2, _inner(width, window_px)
    order = rng.permutation(_inner(height, window_px) * columns)
    return _apart(np.stack(np.divmod(order, columns), axis=1) + margin, count, min_distance_px)


def grid_centres(
    height: int, width: int, window_px: int, count: int, rng: Generator, min_distance_px: int = 1
) -> NDArray[np.int32]:
    """(count, 2) points of the lattice that covers the image most evenly with no fewer points; a seeded choice of
    them if it has more."""
    inner = _inner(height, window_px), _inner(width, window_px)
    lines = _even_lattice(*inner, max(1, count), min_distance_px)
    y, x = ((2 * np.arange(n) + 1) * length // (2 * n) for n, length in zip(lines, inner, strict=True))
    lattice_P2 = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2) + window_px // 2
    return lattice_P2[np.sort(rng.permutation(len(lattice_P2))[:count])].astype(np.int32)


def strong_centres(
    image_CHW: NDArray[np.uint8],
    window_px: int,
    count: int,
    rng: Generator,
    backbone: AnyBackbone,
    min_distance_px: int = 1,
) -> NDArray[np.int32]:
    """(count, 2) unit centres, drawn in proportion to the layer's norm there from all that are not too near to those
    before."""
    _, height, width = image_CHW.shape
    with torch.inference_mode():
        whole = backbone.whole(torch.from_numpy(image_CHW)[None])[0]
    norms_hw = whole.float().norm(dim=0).cpu().numpy().astype(np.float64)
    rows, columns = _inner_units(height, window_px, backbone), _inner_units(width, window_px, backbone)
    weights = norms_hw[np.ix_(rows, columns)].ravel() + 1e-9  # silent units stay possible, last
    keys = np.log(weights) + rng.gumbel(size=len(weights))  # the largest Gumbel keys are such a draw (Efraimidis 2006)
    order = np.argsort(-keys, kind="stable")
    y, x = backbone.unit_centres(height)[rows], backbone.unit_centres(width)[columns]
    return _apart(np.stack([y[order // len(x)], x[order % len(x)]], axis=1), count, min_distance_px)


def _apart(candidates_P2: NDArray[np.int64], count: int, min_distance_px: int) -> NDArray[np.int32]:
    """The first `count` candidates, leaving out those nearer than the distance to one taken before."""
    if min_distance_px == 1:  # other pixels are never nearer
        return candidates_P2[:count].astype(np.int32)
    taken = np.empty((count, 2), np.int32)
    for n in range(count):
        taken[n] = candidates_P2[0]
        squared_P = np.square(candidates_P2 - taken[n]).sum(1)
        candidates_P2 = candidates_P2[squared_P >= min_distance_px**2]
    return taken


@cache
def _ruled_out(min_distance_px: int, step_px: int) -> int:
    """How many points of a square lattice are nearer than the distance to one of them, itself among them."""
    reach = (min_distance_px - 1) // step_px
    offset = step_px * np.arange(-reach, reach + 1)
    return int(np.count_nonzero(offset[:, None] ** 2 + offset**2 < min_distance_px**2))


def _even_lattice(rows: int, columns: int, count: int, min_distance_px: int) -> tuple[int, int]:
    """(lines down, lines across) of the lattice of at least `count` points whose cells are nearest to square."""
    most_down, most_across = _most_lines(rows, min_distance_px), _most_lines(columns, min_distance_px)
    fitting = [(down, -(-count // down)) for down in range(1, most_down + 1) if -(-count // down) <= most_across]

    def oblong(lines: tuple[int, int]) -> float:
        return abs(math.log((rows / lines[0]) / (columns / lines[1])))

    return min(fitting, key=lambda lines: (oblong(lines), lines))


def _most_lines(length_px: int, min_distance_px: int) -> int:
    """How many lines fit that are this far apart and, from the borders, half as far."""
    return max(min(1, length_px), length_px // min_distance_px)


def _inner(length_px: int, window_px: int) -> int:
    """How many pixels along an axis can be a centre."""
    return max(0, length_px - window_px + 1)


def _inner_units(length_px: int, window_px: int, backbone: AnyBackbone) -> NDArray[np.int64]:
    first = backbone.unit_centres(length_px) - window_px // 2
    return np.flatnonzero((first >= 0) & (first + window_px <= length_px))
