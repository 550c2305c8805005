"""How good a crosscoder is on samples it never trained on: variance unexplained, active features, firing densities.

Letters: B samples, N rows, G group elements, C channels, F features.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups, manifest
from gc_core.crosscoder import Crosscoder
from gc_core.io.run_folder import RunFolder
from gc_core.metrics import or_none
from gc_core.scoring import Samples, Sums, encode_and_score
from gc_core.store import MANIFEST, Store, open_store
from gc_core.stream import read_batches

ROWS_AT_ONCE = 256
MEAN_ROWS = 2048
"""Evenly spread rows that the mean is taken from about which images' shares of the variance are counted."""
DENSE = 0.1
"""A feature that fires on more than this share of the samples is dense: it hardly singles anything out."""
LOG10_DENSITY_EDGES = np.linspace(-6, 0, 25)
NUM_NORM_BINS = 20
MAX_L0_BINS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between edges; the last bin holds its upper edge, all others do not."""

    edges: list[float]
    """One more than counts, ascending."""
    counts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What a crosscoder does on held-out samples; plain numbers, fit for JSON."""

    num_rows: int
    num_images: int
    """Images that the rows come from: how many independent ones there really are."""
    fvu: float | None
    """Fraction of variance unexplained over all blocks; 0 is perfect, 1 no better than the mean. None, here and below:
    undefined, since the samples hardly vary."""
    fvu_interval: tuple[float, float] | None
    """95% interval over images; None where there are fewer than two."""
    fvu_identity: float | None
    """FVU of the untransformed block alone: the number to compare with a plain autoencoder's."""
    fvu_per_block: list[float | None]
    """FVU of each block, in the order of the crosscoder's group elements."""
    l0: float
    """Mean number of active features a sample."""
    l0_histogram: Histogram
    """Samples by how many features are active."""
    dead_share: float
    """Features that fired on none of these rows; the fewer the rows, the more of them are merely rare."""
    dense_share: float
    """Features that fired on more than a tenth of the rows."""
    fired: list[int]
    """Rows on which each feature fired: its density times `num_rows`."""
    log10_density_histogram: Histogram
    """Living features by the logarithm of their density."""
    decoder_norm_histogram: Histogram
    """Features by the Frobenius norm of their decoder, in the units of the stored activations."""


def measure_held_out(run: RunFolder, model: Crosscoder) -> HeldOut:
    """Encode and reconstruct every held-out row of a run's store, in batches.

    Raises:
        StoreError: the store is missing, unfinished or damaged.
        ValueError: the crosscoder does not fit the store, or fewer than two rows are held out.
    """
    store = open_store(run)
    refuse_misfit(model, store)
    rows = np.flatnonzero(
        manifest.held_out(manifest.load_table(run.manifest, sha256=store.attrs.get(MANIFEST)))[store.image]
    )
    if len(rows) < 2:
        found = f"{run.url}: {len(rows)} held-out samples found, expected at least 2"
        raise ValueError(f"{found}; harvest more images (2% of them are held out)")
    images, image_N = np.unique(store.image[rows], return_inverse=True)
    blocks, device = groups.embed(model.group, store.group), model.W_dec.device
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MEAN_ROWS)).astype(np.int64)]
    sums_GC = [acts.sum(0, dtype=torch.float64) for acts in _read(store, some, blocks)]
    mean_GC = torch.stack(sums_GC).sum(0) / len(some)
    acts = _read(store, rows, blocks)
    image = torch.from_numpy(image_N).split(ROWS_AT_ONCE)
    batches = (Samples(*(part.to(device) for part in parts)) for parts in zip(acts, image, strict=True))
    return summarise(model, batches, num_images=len(images), mean_GC=mean_GC.float().to(device))


def refuse_misfit(model: Crosscoder, store: Store) -> None:
    """ValueError unless the store's samples have the crosscoder's channels; its group is checked where blocks are
    chosen."""
    if model.shape.channels != store.channels:
        raise ValueError(
            f"{store.run.url}: {store.channels} channels found, expected the crosscoder's {model.shape.channels}; "
            "give the run that it was trained on"
        )


def summarise(model: Crosscoder, batches: Iterable[Samples], *, num_images: int, mean_GC: Tensor) -> HeldOut:
    """Measure a crosscoder on any samples, on its device; sums over all first, one division at the end.

    `mean_GC` is the samples' mean or near it: images' shares of the variance are counted about it.
    """
    num_features, device = model.shape.num_rows, model.W_dec.device
    sums = Sums.of(model, num_images=num_images, mean_GC=mean_GC)
    fired_F = torch.zeros(num_features, dtype=torch.int64, device=device)
    samples_by_l0 = torch.zeros(num_features + 1, dtype=torch.int64, device=device)
    for codes in encode_and_score(model, batches, sums):
        active_BF = codes.z_BF > 0
        fired_F += active_BF.sum(0)
        samples_by_l0 += torch.bincount(active_BF.sum(1), minlength=num_features + 1)
    return _summary(model, sums, num_images, fired_F.cpu().numpy(), samples_by_l0.cpu().numpy())


def _summary(
    model: Crosscoder,
    sums: Sums,
    num_images: int,
    fired_F: NDArray[np.int64],
    samples_by_l0: NDArray[np.int64],
) -> HeldOut:
    num_rows = int(sums.variance.count)
    density_F, per_block = fired_F / num_rows, or_none(sums.variance.fraction_unexplained_per_block().tolist())
    norm_F = model.decoder_norm().double().cpu().numpy()
    log10_density = np.clip(np.log10(density_F[fired_F > 0]), LOG10_DENSITY_EDGES[0], 0)
    return HeldOut(
        num_rows=num_rows,
        num_images=num_images,
        fvu=sums.fvu(),
        fvu_interval=sums.interval(),
        fvu_identity=per_block[0],
        fvu_per_block=per_block,
        l0=float(fired_F.sum() / num_rows),
        l0_histogram=_l0_histogram(samples_by_l0),
        dead_share=float((fired_F == 0).mean()),
        dense_share=float((density_F > DENSE).mean()),
        fired=fired_F.tolist(),
        log10_density_histogram=_histogram(log10_density, LOG10_DENSITY_EDGES),
        decoder_norm_histogram=_histogram(norm_F, np.linspace(0, float(norm_F.max()) or 1, NUM_NORM_BINS + 1)),
    )


def _l0_histogram(samples_by_l0: NDArray[np.int64]) -> Histogram:
    """Bins of whole numbers, at most `MAX_L0_BINS`, from none to the most active features of any sample."""
    most = int(np.flatnonzero(samples_by_l0)[-1])
    width = -(-(most + 1) // MAX_L0_BINS)
    starts = np.arange(0, most + 1, width)
    counts = np.add.reduceat(samples_by_l0[: most + 1], starts)
    return Histogram(edges=[*starts.tolist(), int(starts[-1]) + width], counts=counts.tolist())


def _histogram(values: NDArray[np.float64], edges: NDArray[np.float64]) -> Histogram:
    counts, _ = np.histogram(values, edges)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _read(store: Store, rows: NDArray[np.int64], blocks: NDArray[np.int64]) -> Iterator[Tensor]:
    return (torch.from_numpy(acts).float() for acts in read_batches(store, rows, blocks, rows_at_once=ROWS_AT_ONCE))
