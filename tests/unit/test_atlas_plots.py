"""The polar geometry of the atlas: known curves give known points. Letters: K points round the circle."""

import re

import numpy as np
import pytest

from gc_core.atlas import plots


def points_of(path: str) -> np.ndarray:
    """(K, 2) in SVG units, y down."""
    return np.array([int(number) for number in re.findall(r"-?\d+", path)]).reshape(-1, 2)


def test_rings_are_evenly_spaced_and_the_floor_is_the_centre():
    radii = [plots.ring_radius(cosine) for cosine in (-0.5, 0.0, 0.5, 1.0)]
    np.testing.assert_allclose(radii, plots.RADIUS * np.array([0, 1, 2, 3]) / 3, rtol=1e-12)
    assert plots.ring_radius(-0.9) == 0.0


def test_four_cosines_stand_right_up_left_down():
    third = round(plots.RADIUS / 3)
    expected = [[500, 0], [0, -2 * third + 1], [-third, 0], [0, 0]]
    points_K2 = points_of(plots.polar_path(np.array([1.0, 0.5, 0.0, -0.5])))
    assert np.abs(points_K2 - expected).max() <= 1


def test_a_constant_curve_is_a_circle_and_a_peak_points_where_it_is():
    num = 32
    circle_K2 = points_of(plots.polar_path(np.ones(num)))
    np.testing.assert_allclose(np.hypot(*circle_K2.T), plots.RADIUS, atol=1)
    peak = np.zeros(num)
    peak[4] = 1.0  # 45 degrees anticlockwise: right and up
    longest = np.hypot(*points_of(plots.polar_path(peak)).T).argmax()
    x, y = points_of(plots.polar_path(peak))[longest]
    assert x == -y
    assert x > 0


def test_every_cosine_can_be_read_back_from_its_path():
    cosines_K = np.random.default_rng(0).uniform(-0.5, 1.0, 64)
    points_K2 = points_of(plots.polar_path(cosines_K))
    back_K = 1.5 * np.hypot(*points_K2.T) / plots.RADIUS - 0.5
    np.testing.assert_allclose(back_K, cosines_K, atol=0.003)


def test_ticks_are_as_long_as_the_norms_and_zero_has_none():
    path = plots.fringe_path(np.array([2.0, 1.0, 0.0, 2.0]), largest=2.0, row=0)
    assert path == "M525 0l60 0M0-525l0-30M0 525l0 60"


def test_the_axis_is_a_diameter_at_its_angle():
    (x0, y0), (x1, y1) = points_of(plots.axis_path(60.0))
    assert (x0, y0) == (-x1, -y1)
    assert np.rad2deg(np.arctan2(-y1, x1)) == pytest.approx(60.0, abs=0.2)


def test_bars_are_as_high_as_the_shares():
    assert plots.bars_path((0.5, 0.0, 1.0), pitch=100, height=300) == "M50 0v-150M250 0v-300"


@pytest.mark.parametrize(
    ("symmetry", "fold", "mirrored"),
    [("invariant", 72, True), ("mirror", 1, True), ("2-fold with mirrors", 2, True), ("chiral 4-fold", 4, False)],
)
def test_a_glyph_has_the_symmetry_it_stands_for(symmetry: str, fold: int, mirrored: bool):
    points_K2 = points_of(plots.glyph_path(symmetry))
    radii_K = np.hypot(*points_K2.T)
    np.testing.assert_allclose(radii_K, np.roll(radii_K, len(radii_K) // fold), atol=1.5)
    upright = len(radii_K) // 4
    reflected_K = np.roll(np.roll(radii_K, -upright)[::-1], upright + 1)
    assert (np.abs(radii_K - reflected_K).max() < 1.5) == mirrored


def test_the_glyph_of_none_has_no_symmetry():
    radii_K = np.hypot(*points_of(plots.glyph_path("none")).T)
    assert all(np.abs(radii_K - np.roll(radii_K, shift)).max() > 5 for shift in range(1, len(radii_K)))
