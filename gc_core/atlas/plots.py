"""The geometry of the atlas: curves over the group become SVG paths, in one place and without a browser.

Letters: G group elements, K points round the circle. SVG rows grow downward, so the sign flip of "anticlockwise as
displayed" lives in `_on_circle` only. A plot is centred on the origin and its ring "1" has radius `RADIUS`.
"""

import re

import numpy as np

RADIUS = 500.0
"""Radius of the ring for cosine 1, in SVG units; so large that whole numbers are exact to 0.003 of a cosine."""
FLOOR = -0.5
"""The cosine drawn at the centre; smaller ones are drawn there too, so that rings 0, .5 and 1 are evenly spaced."""
FRINGE = 60.0
"""Length of the longest norm tick outside the ring, in SVG units; mirrored ticks stand one row further out."""

_GLYPH_RADIUS = 100.0
_GLYPH_POINTS = 72


def ring_radius(cosine: float) -> float:
    """Radius at which a cosine is drawn, in SVG units; 0 for everything at or under `FLOOR`, `RADIUS` for 1."""
    return float(_radii(np.array([cosine]))[0])


def polar_path(values_K: np.ndarray) -> str:
    """Closed SVG path through K cosines; value k stands at 2*pi*k/K anticlockwise from the right, K >= 1."""
    return _closed(*_on_circle(_radii(values_K), _angles(len(values_K))))


def fringe_path(norms_K: np.ndarray, largest: float, row: int) -> str:
    """Radial ticks outside the ring, one an element, as long as its block norm over `largest`; rows 0 and 1."""
    lengths_K = FRINGE * np.clip(np.asarray(norms_K, dtype=float) / max(largest, 1e-12), 0.0, 1.0)
    angles_K = _angles(len(lengths_K))
    foot = RADIUS + 25 + row * (FRINGE + 15)
    feet = zip(*_on_circle(np.full(len(lengths_K), foot), angles_K), strict=True)
    steps = zip(*_on_circle(lengths_K, angles_K), strict=True)
    ticks = zip(feet, steps, lengths_K, strict=True)
    return "".join(f"M{_pair(*start)}l{_pair(*step)}" for start, step, length in ticks if length >= 1)


def axis_path(axis_deg: float) -> str:
    """A diameter at `axis_deg` degrees anticlockwise from the right."""
    x, y = _on_circle(np.array([RADIUS]), np.array([np.deg2rad(axis_deg)]))
    return f"M{_pair(-x[0], -y[0])}L{_pair(x[0], y[0])}"


def bars_path(shares: tuple[float, ...], pitch: float, height: float) -> str:
    """Upright lines for shares 0..1, `pitch` apart on a floor at y=0, growing up; a thick stroke makes them bars."""
    heights = [height * min(max(share, 0.0), 1.0) for share in shares]
    return "".join(f"M{round(pitch * (i + 0.5))} 0v{round(-h)}" for i, h in enumerate(heights) if round(h))


def glyph_path(symmetry: str) -> str:
    """A small closed shape with the symmetry named in words, upright.

    A circle for "invariant", an arrowhead for "mirror", n petals for "n-fold with mirrors", n swirled petals for
    "n-fold" or "chiral n-fold", and a crooked blob for anything else.
    """
    angles_K = _angles(_GLYPH_POINTS)
    return _closed(*_on_circle(_GLYPH_RADIUS * _glyph_outline(symmetry, angles_K - np.pi / 2), angles_K))


def _glyph_outline(symmetry: str, angles_K: np.ndarray) -> np.ndarray:
    """Radius 0..1 at each angle from the upright."""
    if symmetry == "invariant":
        return np.full_like(angles_K, 0.85)
    fold = re.search(r"(\d+)-fold", symmetry)
    phase_K = angles_K * (int(fold.group(1)) if fold else 1)
    if symmetry == "mirror":
        return 0.58 + 0.3 * np.cos(angles_K) + 0.12 * np.cos(3 * angles_K)
    if "mirror" in symmetry:
        return 0.4 + 0.6 * _petals(phase_K)
    if fold:
        return 0.4 + 0.6 * _petals(phase_K + 1.2 * np.cos(phase_K))
    return 0.72 + 0.14 * np.cos(angles_K + 0.6) + 0.14 * np.cos(2 * angles_K - 0.9) + 0.08 * np.sin(3 * angles_K)


def _petals(phase_K: np.ndarray) -> np.ndarray:
    return ((1 + np.cos(phase_K)) / 2) ** 1.5


def _radii(values_K: np.ndarray) -> np.ndarray:
    clipped_K = np.clip(np.asarray(values_K, dtype=float), FLOOR, 1.0)
    return RADIUS * (clipped_K - FLOOR) / (1.0 - FLOOR)


def _angles(count: int) -> np.ndarray:
    return 2 * np.pi * np.arange(count) / count


def _on_circle(radii_K: np.ndarray, angles_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SVG coordinates: x to the right, y down."""
    return radii_K * np.cos(angles_K), -radii_K * np.sin(angles_K)


def _closed(x_K: np.ndarray, y_K: np.ndarray) -> str:
    return "M" + " ".join(_pair(x, y) for x, y in zip(x_K, y_K, strict=True)) + "Z"


def _pair(x: float, y: float) -> str:
    """Two whole numbers; a minus sign separates as well as a blank does."""
    column, row = round(float(x)), round(float(y))
    return f"{column}{row}" if row < 0 else f"{column} {row}"
