"""How good a crosscoder is on samples it never trained on: variance unexplained, active features, firing densities.

Letters: B samples, N rows, G group elements, C channels, F features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups, manifest
from gc_core.crosscoder import GroupCrosscoder
from gc_core.metrics import VarianceSums
from gc_core.run_folder import RunFolder
from gc_core.store import Store, open_store
from gc_core.stream import read_rows

ROWS_AT_ONCE = 256
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
    """Pictures that the rows come from: how many independent ones there really are."""
    fvu: float
    """Fraction of variance unexplained over all blocks; 0 is perfect, 1 no better than the mean."""
    fvu_identity: float
    """Of the untransformed block alone: the number to compare with a plain autoencoder's."""
    fvu_per_block: list[float]
    """In the order of the crosscoder's group."""
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


def measure_held_out(run: RunFolder, model: GroupCrosscoder) -> HeldOut:
    """Encode and reconstruct every held-out row of a run's store, in batches.

    Raises:
        StoreError: the store is missing, unfinished or damaged.
        ValueError: the crosscoder does not fit the store, or fewer than two rows are held out.
    """
    store = open_store(run)
    refuse_misfit(model, store)
    rows = np.flatnonzero(manifest.held_out(manifest.load_table(run.manifest))[store.image])
    if len(rows) < 2:
        found = f"{run.url}: {len(rows)} held-out samples found, expected at least 2"
        raise ValueError(f"{found}; harvest more pictures (2% of them are held out)")
    num_images = len(np.unique(store.image[rows]))
    return summarise(model, _batches(store, rows, groups.embed(model.group, store.group)), num_images=num_images)


def refuse_misfit(model: GroupCrosscoder, store: Store) -> None:
    """ValueError unless the store's samples have the crosscoder's channels; its group is checked where blocks are
    chosen."""
    if model.shape.channels != store.channels:
        raise ValueError(
            f"{store.run.url}: {store.channels} channels found, expected the crosscoder's {model.shape.channels}; "
            "give the run that it was trained on"
        )


@torch.no_grad()
def summarise(model: GroupCrosscoder, batches: Iterator[Tensor], *, num_images: int) -> HeldOut:
    """The same of any batches of raw activations (B, G, C); sums over all first, one division at the end."""
    num_features, device = model.shape.dict_size, model.W_dec.device
    num_elements, channels = model.b_dec.shape
    sums = VarianceSums.zeros(num_elements, channels, device)
    fired_F = torch.zeros(num_features, dtype=torch.int64, device=device)
    samples_by_l0 = torch.zeros(num_features + 1, dtype=torch.int64, device=device)
    for acts_BGC in batches:
        z_BF = model.encode(acts_BGC)
        sums.add(acts_BGC, model.decode(z_BF))
        active_BF = z_BF > 0
        fired_F += active_BF.sum(0)
        samples_by_l0 += torch.bincount(active_BF.sum(1), minlength=num_features + 1)
    return _summary(model, sums, fired_F.cpu().numpy(), samples_by_l0.cpu().numpy(), num_images)


def _summary(
    model: GroupCrosscoder,
    sums: VarianceSums,
    fired_F: NDArray[np.int64],
    samples_by_l0: NDArray[np.int64],
    num_images: int,
) -> HeldOut:
    num_rows = int(sums.count)
    density_F, per_block = fired_F / num_rows, sums.fraction_unexplained_per_block().tolist()
    norm_F = model.decoder_norm().double().cpu().numpy()
    log10_density = np.clip(np.log10(density_F[fired_F > 0]), LOG10_DENSITY_EDGES[0], 0)
    return HeldOut(
        num_rows=num_rows,
        num_images=num_images,
        fvu=sums.fraction_unexplained(),
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


def _batches(store: Store, rows: NDArray[np.int64], blocks: NDArray[np.int64]) -> Iterator[Tensor]:
    for first in range(0, len(rows), ROWS_AT_ONCE):
        yield torch.from_numpy(read_rows(store, rows[first : first + ROWS_AT_ONCE], blocks)).float()
