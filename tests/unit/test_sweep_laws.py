"""A law that points were made of is found again, within its interval; where there are too few, that is said."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gc_core.sweep.laws import PowerLaw, TooFew, fit

SIZES = np.array([256.0, 512, 1024, 2048, 4096, 8192])


def measured(x: NDArray[np.float64], *, floor: float, noise: float, seed: int = 0) -> NDArray[np.float64]:
    y = 3 * x**-0.4 + floor
    return y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(x)))


def law(x: NDArray[np.float64], y: NDArray[np.float64]) -> PowerLaw:
    found = fit(x.tolist(), y.tolist())
    assert isinstance(found, PowerLaw)
    return found


@pytest.mark.parametrize("x", [SIZES[:3], SIZES])
def test_a_law_without_a_floor_is_found_again(x: NDArray[np.float64]) -> None:
    found = law(x, measured(x, floor=0, noise=0.01))
    assert found.exponent_interval[0] < 0.4 < found.exponent_interval[1]
    assert found.scale_interval[0] < 3 < found.scale_interval[1]
    assert (found.floor, found.floor_interval) == (0, None)
    assert (found.num_points, found.num_sizes) == (len(x), len(x))


def test_a_floor_is_found_again_where_there_is_one() -> None:
    found = law(SIZES, measured(SIZES, floor=0.2, noise=0.001))
    assert found.floor_interval is not None
    for true, interval in (
        (0.2, found.floor_interval),
        (0.4, found.exponent_interval),
        (3, found.scale_interval),
    ):
        assert interval[0] < true < interval[1]
    np.testing.assert_allclose(found.at(SIZES), 3 * SIZES**-0.4 + 0.2, rtol=0.01)


def test_intervals_hold_what_is_true_in_nineteen_of_twenty_cases() -> None:
    x = np.repeat(SIZES[:4], 2)
    held = 0
    for seed in range(200):
        low, high = law(x, measured(x, floor=0, noise=0.05, seed=seed)).exponent_interval
        held += low < 0.4 < high
    assert 0.9 < held / 200 < 0.99


def test_points_on_the_law_leave_nothing_open() -> None:
    found = law(SIZES[:3], measured(SIZES[:3], floor=0, noise=0))
    assert found.exponent == pytest.approx(0.4)
    assert found.r_squared == pytest.approx(1)


@pytest.mark.parametrize("change", [0, 1e-7])
def test_what_stays_the_same_has_no_floor(change: float) -> None:
    y = np.full(len(SIZES), 3.0)
    y[-1] += change
    assert law(SIZES, y).floor_interval is None


def test_what_grows_has_a_negative_exponent() -> None:
    assert law(SIZES, SIZES**0.7).exponent == pytest.approx(-0.7)


@pytest.mark.parametrize("x", [[], [256.0], [256.0, 512.0], [256.0, 512.0, 512.0]])
def test_too_few_sizes_are_named(x: list[float]) -> None:
    found = fit(x, [0.5] * len(x))
    assert found == TooFew(found=len(set(x)))
    assert str(found) == f"too few to fit a law: {len(set(x))} found, at least 3 different ones expected"


def test_what_is_no_positive_number_is_left_out() -> None:
    assert fit([1, 2, 3, 4], [1, float("nan"), 0, 2]) == TooFew(found=2)
