"""Features of known symmetry: smooth over rotation, of few or many directions, imperfect, beside an invariant part.

Letters: F features, G group elements, C channels, N rotations, J frequencies.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.groups import Group, Subgroup


def planted(
    group: Group,
    subgroup: Subgroup,
    count: int,
    *,
    rng: np.random.Generator,
    channels: int = 64,
    directions: int | None = None,
    width: float | None = None,
    imperfect: float = 0.0,
    invariant_share: float = 0.5,
) -> Tensor:
    """(F, G, C) whose changing part is kept by the subgroup, but for a share of its energy; amplitudes fall as a normal
    curve of this width over the frequencies (None: not at all)."""

    def drawn() -> NDArray[np.float64]:
        features = rng.standard_normal((count, group.order, directions or channels))
        if directions:
            bases = np.linalg.qr(rng.standard_normal((count, channels, directions)))[0]
            features = features @ bases.transpose(0, 2, 1)
        return features if width is None else smooth(features, group, width)

    kept = drawn()
    kept = np.mean([kept[:, group.cayley[:, h]] for h in subgroup.elements], 0)
    whole = subgroup.order == group.order
    changing = np.zeros(kept.shape) if whole else (1 - imperfect) ** 0.5 * changing_unit(kept)
    changing += imperfect**0.5 * changing_unit(drawn())
    level = rng.standard_normal((count, 1, channels))
    level /= np.linalg.norm(level, axis=2, keepdims=True) * group.order**0.5
    share = invariant_share if not whole else 1.0
    features = share**0.5 * level + (1 - invariant_share) ** 0.5 * changing
    return torch.from_numpy(features.astype(np.float32))


def smooth(features: NDArray[np.float64], group: Group, width: float) -> NDArray[np.float64]:
    """Features of low frequencies over rotation."""
    count, _, channels = features.shape
    spectrum = np.fft.rfft(features.reshape(count, -1, group.n, channels), axis=2)
    spectrum *= np.exp(-0.5 * (np.arange(spectrum.shape[2]) / width) ** 2)[:, None]
    return np.fft.irfft(spectrum, group.n, axis=2).reshape(features.shape)


def changing_unit(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The changing part, of norm 1."""
    changing = features - features.mean(1, keepdims=True)
    return changing / np.linalg.norm(changing.reshape(len(changing), -1), axis=1)[:, None, None]
