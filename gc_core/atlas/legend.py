"""Ideal curves that teach how to read the plots: what each kind of symmetry would look like without noise."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gc_core.atlas import plots

Curve = Callable[[np.ndarray], np.ndarray]

_NUM_ANGLES = 64
_AXIS_DEG = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendPlot:
    """One ideal plot and the sentence under it."""

    name: str
    sentence: str
    curve_paths: list[str]
    norm_paths: list[str]
    axis_path: str


def legend_plots(*, has_mirrors: bool) -> list[LegendPlot]:
    """The annotated plot first, then the other basic shapes; without mirrors one line a plot."""
    axis = plots.axis_path(_AXIS_DEG)
    one_way = _plot("none", "No other block resembles the first one.", _one_peak, _unrelated, "")
    invariant = _plot("invariant", "Every block is the same vector: the line stays at 1.", _flat, _flat, "")
    if not has_mirrors:
        two_fold = _plot("2-fold", "Half a turn changes nothing: two lobes.", _two_peaks, _two_peaks, "")
        return [_rotations_only(plot) for plot in (one_way, invariant, two_fold)]
    mirror = _plot("mirror", "The mirrored line is the rotation line, turned.", _one_peak, _one_peak, axis)
    two_fold = _plot("2-fold with mirrors", "Half a turn changes nothing: two lobes.", _two_peaks, _two_peaks, axis)
    return [mirror, invariant, two_fold, one_way]


def _plot(name: str, sentence: str, rotated: Curve, mirrored: Curve, axis_path: str) -> LegendPlot:
    """The reflection in the axis at a is r(2a - 180 degrees) after the left-right mirror; the mirrored curve is the
    rotation curve turned by that angle."""
    angles_K = 2 * np.pi * np.arange(_NUM_ANGLES) / _NUM_ANGLES
    turn = np.deg2rad(2 * _AXIS_DEG - 180)
    curves = [rotated(angles_K), mirrored(angles_K - turn)]
    norms_K = 0.8 + 0.2 * np.cos(angles_K[::2])
    return LegendPlot(
        name=name,
        sentence=sentence,
        curve_paths=[plots.polar_path(curve) for curve in curves],
        norm_paths=[plots.fringe_path(norms_K, 1.0, row) for row in range(2)],
        axis_path=axis_path,
    )


def _rotations_only(plot: LegendPlot) -> LegendPlot:
    return replace(plot, curve_paths=plot.curve_paths[:1], norm_paths=plot.norm_paths[:1])


def _flat(angles_K: np.ndarray) -> np.ndarray:
    return 0.97 + 0.015 * np.cos(4 * angles_K)


def _one_peak(angles_K: np.ndarray) -> np.ndarray:
    return 1.1 * np.exp(2.6 * (np.cos(angles_K) - 1)) - 0.1


def _two_peaks(angles_K: np.ndarray) -> np.ndarray:
    return _one_peak(2 * angles_K)


def _unrelated(angles_K: np.ndarray) -> np.ndarray:
    return 0.06 + 0.05 * np.cos(2 * angles_K + 1) + 0.04 * np.sin(3 * angles_K)
