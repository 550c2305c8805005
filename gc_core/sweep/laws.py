"""Power laws through a few measured points, with 95% intervals of their numbers.

    y = a x^-b + c

Fitted by least squares of log y, so that errors count relative to what is measured. With five or more different x a
floor c is tried; it is kept where its interval lies above zero, else c = 0. Intervals are those of the estimates'
covariance, by Student's t with as many degrees of freedom as points remain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t as student

FEWEST = 3
"""Different x from which on a law is fitted: through two any would go."""
FEWEST_WITH_FLOOR = 5
SAME = 1e-6
"""Relative size of what is left of a number's effect on y beyond the others', below which they are not told apart."""
CONFIDENCE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """y = scale x^-exponent + floor."""

    scale: float
    """a, in units of y."""
    scale_interval: Interval
    exponent: float
    """b, positive where y falls."""
    exponent_interval: Interval
    floor: float
    """c; 0 where none was found."""
    floor_interval: Interval | None
    """None where none was found."""
    r_squared: float
    """Share of the variance of log y that the law explains; 1 where all points lie on it."""
    num_points: int
    num_sizes: int
    """Different x."""

    def at(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """y at these x."""
        return self.scale * x**-self.exponent + self.floor


@dataclass(frozen=True, slots=True, kw_only=True)
class TooFew:
    """No law: too few different x."""

    found: int
    expected: int = FEWEST

    def __str__(self) -> str:
        return f"too few to fit a law: {self.found} found, at least {self.expected} different ones expected"


def fit(x: Sequence[float], y: Sequence[float]) -> PowerLaw | TooFew:
    """The law of these points; what is not positive and finite is left out."""
    x_N, y_N = np.asarray(x, float), np.asarray(y, float)
    usable = np.isfinite(x_N) & np.isfinite(y_N) & (x_N > 0) & (y_N > 0)
    x_N, y_N = x_N[usable], y_N[usable]
    different = len(np.unique(x_N))
    if different < FEWEST:
        return TooFew(found=different)
    if different >= FEWEST_WITH_FLOOR and (law := _with_floor(x_N, y_N)):
        return law
    return _without_floor(x_N, y_N)


def _without_floor(x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> PowerLaw:
    design_NP = np.stack([np.ones_like(x_N), -np.log(x_N)], axis=1)
    found_P = np.linalg.lstsq(design_NP, np.log(y_N), rcond=None)[0]
    return _law(np.append(found_P, 0.0), design_NP, design_NP @ found_P - np.log(y_N), x_N, y_N)


def _with_floor(x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> PowerLaw | None:
    """None where no floor can be told from zero."""
    middle = float(np.exp(np.log(x_N).mean()))  # about it scale and exponent hardly depend on each other

    def left_over(guess_P: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(np.exp(guess_P[0]) * (x_N / middle) ** -guess_P[1] + guess_P[2]) - np.log(y_N)

    rest_N = y_N - y_N.min() / 2
    slope, log_scale = np.polyfit(np.log(x_N / middle), np.log(rest_N), 1)
    bounds = ([-np.inf, -np.inf, 0], [np.inf, np.inf, float(y_N.min())])
    found = least_squares(left_over, [log_scale, -slope, y_N.min() / 2], bounds=bounds, x_scale="jac", xtol=1e-12)
    if not found.success or np.linalg.cond(found.jac) * SAME > 1:  # where y stays the same, scale and floor are one
        return None
    log_a, exponent, floor = found.x
    # From the middle back to x itself: log a = log a' + b log middle.
    to_x_PP = np.array([[1, -np.log(middle), 0], [0, 1, 0], [0, 0, 1]])
    theta_P = np.array([log_a + exponent * np.log(middle), exponent, floor])
    law = _law(theta_P, found.jac @ to_x_PP, found.fun, x_N, y_N)
    return law if law.floor_interval and law.floor_interval[0] > 0 else None


def _law(
    theta_P: NDArray[np.float64],
    jacobian_NP: NDArray[np.float64],
    left_over_N: NDArray[np.float64],
    x_N: NDArray[np.float64],
    y_N: NDArray[np.float64],
) -> PowerLaw:
    """`theta_P` is log a, b and c; the Jacobian has a column for each number that was fitted."""
    free = len(x_N) - jacobian_NP.shape[1]
    variance = float(left_over_N @ left_over_N) / free
    deviation_P = np.sqrt(np.diag(np.linalg.pinv(jacobian_NP.T @ jacobian_NP) * variance))
    half_P = student.ppf((1 + CONFIDENCE) / 2, free) * deviation_P
    low_P, high_P = theta_P[: len(half_P)] - half_P, theta_P[: len(half_P)] + half_P
    spread = float(np.var(np.log(y_N)) * len(y_N))
    with np.errstate(over="ignore"):
        scales = np.exp([low_P[0], high_P[0]])
    return PowerLaw(
        scale=float(np.exp(theta_P[0])),
        scale_interval=(float(scales[0]), float(scales[1])),
        exponent=float(theta_P[1]),
        exponent_interval=(float(low_P[1]), float(high_P[1])),
        floor=float(theta_P[2]),
        floor_interval=(float(low_P[2]), float(high_P[2])) if len(half_P) > 2 else None,
        r_squared=1 - float(left_over_N @ left_over_N) / spread if spread else 1.0,
        num_points=len(x_N),
        num_sizes=len(np.unique(x_N)),
    )
