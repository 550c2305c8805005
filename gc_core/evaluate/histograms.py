"""Histograms as plain numbers, fit for JSON. Letters: F features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOG10_DENSITY_EDGES = np.linspace(-6, 0, 25)
COSINE_EDGES = np.linspace(-1, 1, 41)
NUM_NORM_BINS = 20
MAX_L0_BINS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between edges; the last bin holds its upper edge, all others do not."""

    edges: list[float]
    """One more than counts, ascending."""
    counts: list[int]


def histogram(values: NDArray[np.floating], edges: NDArray[np.float64]) -> Histogram:
    """Counts of any number of values; those outside of the edges are counted in the outermost bins."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def density_histogram(density_F: NDArray[np.floating]) -> Histogram:
    """Living features by the base-10 logarithm of their density, the share of the samples on which they fire, 0..1;
    below a millionth in the first bin (Bricken et al. 2023, feature density histograms)."""
    return histogram(np.log10(density_F[density_F > 0]), LOG10_DENSITY_EDGES)


def norm_histogram(norm_F: NDArray[np.floating]) -> Histogram:
    """Features by the norm of their decoder, in 20 bins from 0 to the largest."""
    return histogram(norm_F, np.linspace(0, float(norm_F.max()) or 1, NUM_NORM_BINS + 1))


def l0_histogram(samples_by_l0: NDArray[np.int64]) -> Histogram:
    """Samples by how many features are active, from the number of samples for each such number: bins of whole numbers,
    at most `MAX_L0_BINS`, from none to the most active features of any sample."""
    most = int(np.flatnonzero(samples_by_l0)[-1])
    width = -(-(most + 1) // MAX_L0_BINS)
    starts = np.arange(0, most + 1, width)
    counts = np.add.reduceat(samples_by_l0[: most + 1], starts)
    return Histogram(edges=[*starts.tolist(), int(starts[-1]) + width], counts=counts.tolist())
