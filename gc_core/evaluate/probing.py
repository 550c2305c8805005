"""Does one feature tell a class? Probes of single features, and how pure features are.

Only numbers above zero are kept of codes, so memory follows the active features and not the dictionary.

Letters: N samples, I images, F features, K classes, T times that classes are dealt out again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array
from scipy.stats import rankdata

TIMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProbe:
    """The feature that tells one class best."""

    name: str
    num_images: int
    feature: int
    auc: float
    """Area under its ROC curve: the probability that it is more active on a sample of the class than on another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """How well single features tell classes; plain numbers, fit for JSON."""

    classes: list[ClassProbe]
    mean_auc: float
    """Mean over classes of the best feature's; 0.5 is none at all."""
    chance_mean_auc: float
    """The same where the images were given one another's classes at random: the best of many features is above 0.5 by
    chance too, the more so the fewer images there are."""
    purity: float
    """Mean `purity` of features that fired."""
    chance_purity: float


def one_feature_auc(
    z_NF: NDArray[np.floating] | csc_array, label_N: NDArray[np.int64], num_classes: int
) -> NDArray[np.float64]:
    """(F, K) area under the ROC curve of each feature's code, 0 or more, as a score for each class against the others:
    1 tells it perfectly, 0.5 not at all; equal codes count half. NaN for a class of no samples or of all.

    A probe of one feature has nothing to train but its threshold, and the area goes over all of them (Mann and Whitney
    1947; of sparse probing, Gurnee et al. 2023, it is the case k = 1).
    """
    return np.stack([auc_TK[0] for auc_TK in _areas(csc_array(z_NF), label_N[None], num_classes)])


def purity(z_NF: NDArray[np.floating] | csc_array, label_N: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """(F,) share of the best class in the sum over classes of a feature's mean code: 1 where one class alone drives it,
    1 / K where all do alike, however many samples each has. NaN for a feature that never fires."""
    codes, size_K = csc_array(z_NF), np.bincount(label_N, minlength=num_classes).clip(1)
    of_class_NK = csr_array((1 / size_K[label_N], (np.arange(len(label_N)), label_N)), (len(label_N), num_classes))
    mean_FK = csr_array(codes.T @ of_class_NK)
    total_F = np.asarray(mean_FK.sum(axis=1)).ravel()
    best_F = np.asarray(mean_FK.max(axis=1).todense()).ravel()
    return np.divide(best_F, total_F, out=np.full(len(total_F), np.nan), where=total_F > 0)


def probe(
    z_NF: NDArray[np.floating] | csc_array,
    image_N: NDArray[np.int64],
    label_I: NDArray[np.int64],
    names: Sequence[str],
    *,
    seed: int = 0,
) -> Probing | None:
    """Probe every feature that fired, on the samples of images whose class is known: a place in `names`, -1 where it is
    not. None where no feature fired.

    Raises:
        ValueError: there are fewer than two classes, or one has no image.
    """
    present = np.unique(label_I[label_I >= 0])
    if len(names) < 2 or present.tolist() != list(range(len(names))):
        raise ValueError(
            f"probing: images of {len(present)} classes found, expected of each of {len(names)}, and two at least"
        )
    known_I, rows = np.flatnonzero(label_I >= 0), np.flatnonzero(label_I[image_N] >= 0)
    codes = csc_array(csr_array(z_NF)[rows])
    fired = np.flatnonzero(np.diff(codes.indptr))
    if not len(fired):
        return None
    label_TN = _dealt_out(label_I, known_I, seed)[:, image_N[rows]]
    best_TK, best_K = _best(codes[:, fired], label_TN, len(names))
    pure_T = [float(purity(codes[:, fired], label_N, len(names)).mean()) for label_N in label_TN]
    num_images = np.bincount(label_I[known_I])
    return Probing(
        classes=[
            ClassProbe(name=name, num_images=int(images), feature=int(fired[place]), auc=float(auc))
            for name, images, place, auc in zip(names, num_images, best_K, best_TK[0], strict=True)
        ],
        mean_auc=float(best_TK[0].mean()),
        chance_mean_auc=float(best_TK[1:].mean()),
        purity=pure_T[0],
        chance_purity=float(np.mean(pure_T[1:])),
    )


def _dealt_out(label_I: NDArray[np.int64], known_I: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(1 + T, I) the classes, and the same dealt out at random among the images whose class is known."""
    rng, label_TI = np.random.default_rng(seed), np.tile(label_I, (1 + TIMES, 1))
    for dealt_I in label_TI[1:]:
        dealt_I[known_I] = rng.permutation(label_I[known_I])
    return label_TI


def _best(
    codes: csc_array, label_TN: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Largest area over the features, (T, K), and which of them has it for the first set of labels, (K,)."""
    best_TK, best_K = np.full((len(label_TN), num_classes), -np.inf), np.zeros(num_classes, np.int64)
    for place, auc_TK in enumerate(_areas(codes, label_TN, num_classes)):
        best_K[auc_TK[0] > best_TK[0]] = place
        best_TK = np.maximum(best_TK, auc_TK)
    return best_TK, best_K


def _areas(codes: csc_array, label_TN: NDArray[np.int64], num_classes: int) -> Iterator[NDArray[np.float64]]:
    """(T, K) of each feature in turn; samples where it is zero share one rank below all others."""
    num_samples, num_cells = label_TN.shape[1], len(label_TN) * num_classes
    cell_TN = label_TN + num_classes * np.arange(len(label_TN))[:, None]
    size_TK = np.bincount(cell_TN.ravel(), minlength=num_cells).reshape(-1, num_classes)
    pairs_TK = np.where((size_TK > 0) & (size_TK < num_samples), size_TK * (num_samples - size_TK), np.nan)
    for begin, end in zip(codes.indptr[:-1], codes.indptr[1:], strict=True):
        cells, num_zero = cell_TN[:, codes.indices[begin:end]].ravel(), num_samples - int(end - begin)
        rank = np.tile(rankdata(codes.data[begin:end]) + num_zero, len(label_TN))
        above_TK = np.bincount(cells, rank, num_cells).reshape(size_TK.shape)
        active_TK = np.bincount(cells, minlength=num_cells).reshape(size_TK.shape)
        ranks_TK = above_TK + (size_TK - active_TK) * (num_zero + 1) / 2
        yield (ranks_TK - size_TK * (size_TK + 1) / 2) / pairs_TK
