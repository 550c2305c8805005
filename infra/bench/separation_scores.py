"""How well families keep classes of samples apart: each score a function of arrays, which knows neither models nor
images.

Letters: N samples, R features (or prototypes), P families, K classes.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score

DEALS = 20
"""Times that features are dealt out to families at random."""


def class_activity(
    activity_NR: NDArray[np.float64], class_N: NDArray[np.int64], num_classes: int
) -> NDArray[np.float64]:
    """(R, K) mean activity of each feature over the samples of each class, so that large classes weigh no more."""
    return np.stack([activity_NR[class_N == each].mean(0) for each in range(num_classes)], axis=1)


def by_family(activity_RK: NDArray[np.float64], family_R: NDArray[np.int64]) -> NDArray[np.float64]:
    """(P, K) sums over the members of each family; families are numbered from 0."""
    activity_PK = np.zeros((int(family_R.max(initial=-1)) + 1, activity_RK.shape[1]))
    np.add.at(activity_PK, family_R, activity_RK)
    return activity_PK


def purity(activity_PK: NDArray[np.float64]) -> float:
    """Share of all activity that lies in each family's own class, the one that drives it most: 1 where every family is
    driven by one class alone, 1 / K where all are driven alike."""
    return float(activity_PK.max(1).sum() / max(activity_PK.sum(), np.finfo(float).tiny))


def dealt_purity(activity_RK: NDArray[np.float64], family_R: NDArray[np.int64], seed: int) -> float:
    """Purity of families of the same sizes whose members are drawn at random, mean of several times: small families
    are pure by their smallness."""
    rng = np.random.default_rng(seed)
    return float(np.mean([purity(by_family(activity_RK, rng.permutation(family_R))) for _ in range(DEALS)]))


def class_of_features(activity_RK: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(R,) the class that drives each feature most, and the share of its activity that is of it."""
    total_R = np.maximum(activity_RK.sum(1), np.finfo(float).tiny)
    return activity_RK.argmax(1), activity_RK.max(1) / total_R


def rand_index(class_R: NDArray[np.int64], family_R: NDArray[np.int64]) -> float | None:
    """Adjusted Rand index of the features' classes and families, over features whose family has others: 1 where both
    divide them alike, 0 as by chance; None where every feature is alone."""
    sizes = np.bincount(family_R)
    together_R = sizes[family_R] > 1
    return float(adjusted_rand_score(class_R[together_R], family_R[together_R])) if together_R.any() else None


def silhouette(similarity_RR: NDArray[np.float64], class_R: NDArray[np.int64]) -> float | None:
    """Mean silhouette of the features' classes under the distance 1 - similarity: how much nearer features are to those
    of their own class than to those of the next; from -1 to 1, 0 where classes do not show. No families are asked for.
    None with fewer than two classes, or where every feature has its own."""
    if not 1 < len(np.unique(class_R)) < len(class_R):
        return None
    distance_RR = np.clip(1 - (similarity_RR + similarity_RR.T) / 2, 0, 2)
    np.fill_diagonal(distance_RR, 0)
    return float(silhouette_score(distance_RR, class_R, metric="precomputed"))


def mean_interval(value_R: NDArray[np.float64], seed: int = 0, times: int = 1000) -> tuple[float, float, float]:
    """Mean, and its 95% interval when the values are drawn again with replacement."""
    rng = np.random.default_rng(seed)
    means = value_R[rng.integers(len(value_R), size=(times, len(value_R)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(value_R.mean()), float(low), float(high)
