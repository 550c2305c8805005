"""Where samples are taken: as many as planned, distinct, apart, inside, seeded, and as the policy says.

Letters: N centres, C channels, H W pixels.
"""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gc_core import harvest
from gc_core.backbones import Backbone
from gc_core.config import HarvestConfig
from gc_core.harvest.centres import capacity, choose, grid_centres, strong_centres, uniform_centres
from gc_core.images import list_images, load

WINDOW_PX = 15
POLICIES = ["uniform", "grid", "centre", "activation"]


@cache
def backbone() -> Backbone:
    return harvest.load_backbone(HarvestConfig(layer="maxpool1", dtype="float32"), "cpu")


def config(centres: str, min_distance_px: int = 1) -> HarvestConfig:
    return HarvestConfig(centres=centres, min_distance_px=min_distance_px)


def noise_CHW(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)


def nearest_px(centres_N2: NDArray[np.int32]) -> float:
    """Distance of the two that are nearest to each other."""
    offsets = centres_N2[:, None].astype(np.int64) - centres_N2
    squared = (offsets**2).sum(-1)[~np.eye(len(centres_N2), dtype=bool)]
    return float(np.sqrt(squared.min(initial=10**9)))


# All policies.


@pytest.mark.parametrize("policy", POLICIES)
@given(
    height=st.integers(WINDOW_PX, 60),
    width=st.integers(WINDOW_PX, 60),
    distance=st.integers(1, 40),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(max_examples=40)
def test_as_many_as_planned_are_found_distinct_apart_inside_and_again(
    policy: str, height: int, width: int, distance: int, seed: int, data: st.DataObject
) -> None:
    """Up to the whole capacity, whatever the seed: planning counts on it before a pixel is read."""
    options = config(policy, distance)
    room = capacity(options, height, width, WINDOW_PX, backbone())
    count = data.draw(st.integers(0, min(room, 60)) | st.just(room))
    image = noise_CHW(height, width)
    found, again = (choose(options, image, WINDOW_PX, count, np.random.default_rng(seed), backbone()) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    assert found.shape == (count, 2)
    assert found.dtype == np.int32
    assert (found >= WINDOW_PX // 2).all()
    assert (found < np.array([height, width]) - WINDOW_PX // 2).all()
    assert nearest_px(found) >= distance


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("height", "width"), [(14, 40), (40, 14), (1, 1)])
def test_an_image_smaller_than_the_field_has_no_room(policy: str, height: int, width: int) -> None:
    if policy != "activation" or min(height, width) > 1:  # the manifest keeps such images from the network
        assert capacity(config(policy, 3), height, width, WINDOW_PX, backbone()) == 0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("distance", [1, 7, 1000])
def test_an_image_as_large_as_the_field_has_its_middle(policy: str, distance: int) -> None:
    """Such as a drawn stimulus. The layer's own units may look elsewhere."""
    room = capacity(config(policy, distance), WINDOW_PX, WINDOW_PX, WINDOW_PX, backbone())
    assert room == (WINDOW_PX // 2 in backbone().unit_centres(WINDOW_PX) if policy == "activation" else 1)
    found = choose(config(policy, distance), noise_CHW(15, 15), WINDOW_PX, room, np.random.default_rng(0), backbone())
    assert (found == WINDOW_PX // 2).all()


@pytest.mark.parametrize(("height", "width", "expected"), [(10, 40, 0), (11, 11, 1), (12, 11, 2), (31, 21, 231)])
def test_without_a_distance_every_pixel_whose_field_is_inside_counts(height: int, width: int, expected: int) -> None:
    assert capacity(config("uniform"), height, width, 11, backbone()) == expected
    assert capacity(config("grid"), height, width, 11, backbone()) == expected


def test_capacity_falls_with_the_distance_as_areas_do() -> None:
    """A centre rules out a disc, so random centres surely reach the area over the disc's; a grid, over the square's."""
    for distance in (10, 20, 40):
        area = 400 * 320 / distance**2
        assert capacity(config("uniform", distance), 414, 334, WINDOW_PX, backbone()) == pytest.approx(
            area / np.pi, rel=0.1
        )
        assert capacity(config("grid", distance), 414, 334, WINDOW_PX, backbone()) == area


# Uniform.


def test_uniform_centres_take_every_pixel_alike() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([uniform_centres(13, 14, 11, 3, rng) for _ in range(2000)])
    counts = np.bincount((drawn[:, 0] - 5) * 4 + drawn[:, 1] - 5, minlength=12)
    assert len(counts) == 12
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


def test_other_seeds_take_other_centres() -> None:
    first, second = (uniform_centres(200, 200, 11, 50, np.random.default_rng(seed)) for seed in (1, 2))
    assert len({tuple(c) for c in first.tolist()} & {tuple(c) for c in second.tolist()}) < 5


# Grid.


@pytest.mark.parametrize(("count", "rows", "columns"), [(12, 3, 4), (48, 6, 8), (1, 1, 1), (3, 1, 3)])
def test_a_full_grid_is_even_and_its_cells_nearly_square(count: int, rows: int, columns: int) -> None:
    height, width = (120 + 10, 160 + 10) if count != 3 else (40 + 10, 120 + 10)
    found = grid_centres(height, width, 11, count, np.random.default_rng(0))
    y, x = np.unique(found[:, 0]), np.unique(found[:, 1])
    assert (len(y), len(x), len(found)) == (rows, columns, count)
    for lines, length in ((y - 5, height - 10), (x - 5, width - 10)):
        assert set(np.diff(lines)) <= {length // len(lines)}
        assert lines[0] == length // (2 * len(lines))  # as far from one border as from the other
        assert length - 1 - lines[-1] in (lines[0], lines[0] - 1)


def test_a_count_that_fills_no_grid_is_a_seeded_choice_of_one() -> None:
    first, second = (grid_centres(130, 170, 11, 10, np.random.default_rng(seed)) for seed in (0, 1))
    full = {tuple(c) for c in grid_centres(130, 170, 11, 12, np.random.default_rng(0)).tolist()}
    for found in (first, second):
        assert len(found) == 10
        assert {tuple(c) for c in found.tolist()} <= full
    assert not np.array_equal(first, second)


# Activation.


def half_flat_CHW() -> NDArray[np.uint8]:
    """An image whose left half is one grey, and whose right half is a photograph."""
    (ref,) = (ref for ref in list_images("photographs", stimulus_px=1, max_stimuli=1) if ref.name == "coffee.png")
    pixels_CHW = load(ref, 64).copy()
    pixels_CHW[:, :, : pixels_CHW.shape[2] // 2] = 118
    return pixels_CHW


def norms_at(pixels_CHW: NDArray[np.uint8]) -> dict[tuple[int, int], float]:
    """The layer's norm at every unit whose field is inside, by its centre."""
    norms_hw = backbone().whole(torch.from_numpy(pixels_CHW)[None])[0].norm(dim=0)
    _, height, width = pixels_CHW.shape
    rows, columns = (backbone().unit_centres(length).tolist() for length in (height, width))
    margin = WINDOW_PX // 2
    return {
        (y, x): float(norms_hw[i, j])
        for i, y in enumerate(rows)
        for j, x in enumerate(columns)
        if margin <= y < height - margin and margin <= x < width - margin
    }


def test_strong_centres_are_units_of_the_layer() -> None:
    pixels_CHW = half_flat_CHW()
    inside = norms_at(pixels_CHW).keys()
    _, height, width = pixels_CHW.shape
    assert capacity(config("activation"), height, width, WINDOW_PX, backbone()) == len(inside)
    for count in (1, 20, len(inside)):
        found = strong_centres(pixels_CHW, WINDOW_PX, count, np.random.default_rng(3), backbone())
        assert len({tuple(c) for c in found.tolist()} & inside) == count == len(found)


def test_strong_centres_are_drawn_in_proportion_to_the_norm() -> None:
    """The mean norm of single draws is sum of squares over sum; of an even choice, the control, it is the mean."""
    pixels_CHW = half_flat_CHW()
    norms = norms_at(pixels_CHW)
    inner = np.array(list(norms.values()))
    rng = np.random.default_rng(0)
    drawn = [norms[tuple(strong_centres(pixels_CHW, WINDOW_PX, 1, rng, backbone())[0].tolist())] for _ in range(400)]
    expected, spread = (inner**2).sum() / inner.sum(), inner.std() / np.sqrt(400)
    assert np.mean(drawn) == pytest.approx(expected, abs=5 * spread)
    even = rng.choice(inner, 400)
    assert abs(np.mean(even) - expected) > 5 * spread


def test_apart_the_strong_are_still_taken_first() -> None:
    pixels_CHW = half_flat_CHW()
    norms = norms_at(pixels_CHW)
    few = [
        norms[tuple(c)]
        for seed in range(60)
        for c in strong_centres(pixels_CHW, WINDOW_PX, 2, np.random.default_rng(seed), backbone(), 20).tolist()
    ]
    assert np.mean(few) > 1.2 * np.mean(list(norms.values()))


@pytest.mark.parametrize("policy", POLICIES[:3])
@pytest.mark.parametrize("window_px", [14, 15])
def test_windows_of_even_and_odd_sides_fill_the_image(policy: str, window_px: int) -> None:
    """An image as large as the window has one place; one pixel larger, four of them (its middle is one)."""
    assert capacity(config(policy), window_px, window_px, window_px, backbone()) == 1
    larger = window_px + 1
    room = capacity(config(policy), larger, larger, window_px, backbone())
    assert room == (1 if policy == "centre" else 4)
    image_CHW, rng = noise_CHW(larger, larger), np.random.default_rng(0)
    centres_N2 = choose(config(policy), image_CHW, window_px, room, rng, backbone())
    assert harvest.activations.cut_windows(image_CHW, centres_N2, window_px).shape == (room, 3, window_px, window_px)
