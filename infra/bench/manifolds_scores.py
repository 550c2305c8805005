"""How much of each factor one unit of a dictionary tells: the share of variance of the factor's part of a sample that
the unit's part of the reconstruction explains, over all samples.

Nothing is fitted: parts are vectors of the same channels, compared as they are but for their means. A unit that is
active for other factors too, or silent where the factor is there, loses. Each factor has a unit of its own (Hungarian
method), or else one unit of everything would tell all of them a little.

Letters: B samples, A active factors, I factors, U units, R rows of a dictionary, C channels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor


class PartSums:
    """Second moments of the parts of factors and units, over batches."""

    def __init__(self, num_factors: int, num_units: int, channels: int) -> None:
        self.samples = 0
        self.squares_I, self.squares_U = _zeros(num_factors), _zeros(num_units)
        self.product_IU = _zeros(num_factors, num_units)
        self.sum_IC, self.sum_UC = _zeros(num_factors, channels), _zeros(num_units, channels)

    def add(self, factor_BA: Tensor, part_BAC: Tensor, unit_BUC: Tensor) -> None:
        """Count one batch: which factors are active, what each adds, and what each unit adds to the reconstruction."""
        self.samples += len(factor_BA)
        factor_N = factor_BA.flatten()
        self.squares_I.index_add_(0, factor_N, part_BAC.flatten(0, 1).square().sum(1).double())
        self.sum_IC.index_add_(0, factor_N, part_BAC.flatten(0, 1).double())
        self.squares_U += unit_BUC.square().sum((0, 2)).double()
        self.sum_UC += unit_BUC.sum(0).double()
        product_BAU = part_BAC @ unit_BUC.transpose(1, 2)
        self.product_IU.index_add_(0, factor_N, product_BAU.flatten(0, 1).double())

    def r2(self) -> NDArray[np.float64]:
        """(I, U) 1 where the unit's part is the factor's, 0 where it is no better than nothing, else negative."""
        mean_IC, mean_UC = self.sum_IC / self.samples, self.sum_UC / self.samples
        variance_I = self.squares_I / self.samples - mean_IC.square().sum(1)
        variance_U = self.squares_U / self.samples - mean_UC.square().sum(1)
        covariance_IU = self.product_IU / self.samples - mean_IC @ mean_UC.T
        missed_IU = variance_I[:, None] + variance_U - 2 * covariance_IU
        return (1 - missed_IU / variance_I[:, None].clamp(min=1e-12)).numpy()


def matched_r2(r2_IU: NDArray[np.float64]) -> NDArray[np.float64]:
    """(I,) of each factor with the unit that it is given, at least 0: nothing is as good as a unit that harms."""
    gain_IU = np.maximum(r2_IU, 0)
    factor_M, unit_M = linear_sum_assignment(gain_IU, maximize=True)
    matched_I = np.zeros(len(r2_IU))
    matched_I[factor_M] = gain_IU[factor_M, unit_M]
    return matched_I


def together(row_BRC: Tensor, label_R: NDArray[np.int64]) -> Tensor:
    """(B, U, C) parts of units, from those of the rows in each."""
    units = int(label_R.max(initial=-1)) + 1
    unit_BUC = row_BRC.new_zeros(len(row_BRC), units, row_BRC.shape[2])
    return unit_BUC.index_add_(1, torch.from_numpy(label_R), row_BRC)


def nearest_factor(row_RGC: Tensor, frame_IDC: Tensor) -> NDArray[np.int64]:
    """(R,) the factor whose space (orthonormal rows, or zeros) holds most of each row's energy, over its blocks: how
    rows would be put together by somebody who knows the factors."""
    energy_RI = torch.einsum("rgc,idc->rgid", row_RGC, frame_IDC).square().sum((1, 3))
    return energy_RI.argmax(1).numpy()


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)
