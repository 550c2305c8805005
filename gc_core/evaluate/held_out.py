"""How good a crosscoder is on samples it never trained on: variance unexplained, active features, firing densities.

Letters: B samples, N rows, G group elements, C channels, F features.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, vstack
from torch import Tensor

from gc_core import groups, manifest
from gc_core.crosscoder import Crosscoder
from gc_core.evaluate.classes import Classes, classes_of
from gc_core.evaluate.geometry import hoyer_sparsity, largest_cosines
from gc_core.evaluate.histograms import (
    COSINE_EDGES,
    Histogram,
    density_histogram,
    histogram,
    l0_histogram,
    norm_histogram,
)
from gc_core.evaluate.probing import Probing, probe
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
MOST_COMPARED = 2048
"""Features of a larger dictionary that are compared with all others, evenly spread."""


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
    hoyer: float | None
    """Hoyer sparsity of a sample's code, each number times its decoder's norm, mean over samples in which a feature
    fires: 1 a single one, 0 all alike. None, here and below, without any, or of one feature or block."""
    block_hoyer: float | None
    """Hoyer sparsity of a feature's norms over its blocks, mean over features: 1 it lives on one block, 0 all are
    equally strong."""
    decoder_cosine_histogram: Histogram
    """Features by the largest cosine of their decoder with another's; of tied poses with another prototype's, in any
    pose."""
    max_decoder_cosine: float | None
    """Mean of these cosines; 1 where every feature is there twice."""
    probing: Probing | None
    """How well single features tell the images' classes; None where fewer than two classes are known."""


def measure_held_out(run: RunFolder, model: Crosscoder) -> HeldOut:
    """Encode and reconstruct every held-out row of a run's store, in batches.

    Raises:
        StoreError: the store is missing, unfinished or damaged.
        ValueError: the crosscoder does not fit the store, or fewer than two rows are held out.
    """
    store = open_store(run)
    refuse_misfit(model, store)
    table = manifest.load_table(run.manifest, sha256=store.attrs.get(MANIFEST))
    rows = np.flatnonzero(manifest.held_out(table)[store.image])
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
    refs = manifest.refs_of(table.take(images))
    return summarise(
        model, batches, num_images=len(images), mean_GC=mean_GC.float().to(device), classes=classes_of(refs)
    )


def refuse_misfit(model: Crosscoder, store: Store) -> None:
    """ValueError unless the store's samples have the crosscoder's channels; its group is checked where blocks are
    chosen."""
    if model.shape.channels != store.channels:
        raise ValueError(
            f"{store.run.url}: {store.channels} channels found, expected the crosscoder's {model.shape.channels}; "
            "give the run that it was trained on"
        )


def summarise(
    model: Crosscoder,
    batches: Iterable[Samples],
    *,
    num_images: int,
    mean_GC: Tensor,
    classes: Classes | None = None,
) -> HeldOut:
    """Measure a crosscoder on any samples, on its device; sums over all first, one division at the end.

    `mean_GC` is the samples' mean or near it: images' shares of the variance are counted about it. `classes` are those
    of the images that samples are numbered by.
    """
    sums = Sums.of(model, num_images=num_images, mean_GC=mean_GC)
    seen = Seen.nothing(model, keeps_codes=classes is not None)
    for codes in encode_and_score(model, seen.images(batches), sums):
        seen.add(codes.z_BF)
    return _summary(model, sums, num_images, seen, classes)


@dataclass(slots=True)
class Seen:
    """What was seen of codes, over batches."""

    norm_F: Tensor
    fired_F: Tensor
    samples_by_l0: Tensor
    hoyer: list[Tensor]
    """Of each batch the samples in which a feature fires, (B,)."""
    keeps_codes: bool
    codes: list[csr_array]
    image_N: list[Tensor]
    """Of each batch, where codes are kept."""

    @staticmethod
    def nothing(model: Crosscoder, *, keeps_codes: bool) -> "Seen":
        """Before any batch."""
        norm_F = model.decoder_norm()
        counts = torch.zeros(len(norm_F) + 1, dtype=torch.int64, device=norm_F.device)
        return Seen(norm_F, counts[:-1].clone(), counts, [], keeps_codes, [], [])

    def images(self, batches: Iterable[Samples]) -> Iterator[Samples]:
        """The same batches; which images they are of is noted in passing."""
        for samples in batches:
            if self.keeps_codes and samples.image_B is not None:
                self.image_N.append(samples.image_B.cpu())
            yield samples

    def add(self, z_BF: Tensor) -> None:
        """Count one batch."""
        active_BF = z_BF > 0
        self.fired_F += active_BF.sum(0)
        l0_B = active_BF.sum(1)
        self.samples_by_l0 += torch.bincount(l0_B, minlength=len(self.samples_by_l0))
        self.hoyer.append(hoyer_sparsity(z_BF[l0_B > 0] * self.norm_F).cpu())
        if self.keeps_codes:
            self.codes.append(csr_array((z_BF * active_BF).float().cpu().numpy()))

    def probing(self, classes: Classes | None) -> Probing | None:
        """Probes of the codes that were kept."""
        if classes is None:
            return None
        codes = csc_array(vstack(self.codes, format="csr"))
        return probe(codes, torch.cat(self.image_N).numpy(), classes.label_I, classes.names)


def _summary(model: Crosscoder, sums: Sums, num_images: int, seen: Seen, classes: Classes | None) -> HeldOut:
    num_rows, fired_F = int(sums.variance.count), seen.fired_F.cpu().numpy()
    density_F, per_block = fired_F / num_rows, or_none(sums.variance.fraction_unexplained_per_block().tolist())
    decoder_FGC = model.W_dec.detach()
    tied = model.group if model.shape.tying == "orbit" else None
    cosine_F = largest_cosines(decoder_FGC, most=MOST_COMPARED, up_to_pose_of=tied).cpu().numpy()
    return HeldOut(
        num_rows=num_rows,
        num_images=num_images,
        fvu=sums.fvu(),
        fvu_interval=sums.interval(),
        fvu_identity=per_block[0],
        fvu_per_block=per_block,
        l0=float(fired_F.sum() / num_rows),
        l0_histogram=l0_histogram(seen.samples_by_l0.cpu().numpy()),
        dead_share=float((fired_F == 0).mean()),
        dense_share=float((density_F > DENSE).mean()),
        fired=fired_F.tolist(),
        log10_density_histogram=density_histogram(density_F),
        decoder_norm_histogram=norm_histogram(seen.norm_F.double().cpu().numpy()),
        hoyer=_mean(torch.cat(seen.hoyer).numpy()),
        block_hoyer=_mean(hoyer_sparsity(decoder_FGC.norm(dim=2)).cpu().numpy()),
        decoder_cosine_histogram=histogram(cosine_F[np.isfinite(cosine_F)], COSINE_EDGES),
        max_decoder_cosine=_mean(cosine_F),
        probing=seen.probing(classes),
    )


def _mean(values: NDArray[np.floating[Any]]) -> float | None:
    """Of those that are numbers; None without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _read(store: Store, rows: NDArray[np.int64], blocks: NDArray[np.int64]) -> Iterator[Tensor]:
    return (torch.from_numpy(acts).float() for acts in read_batches(store, rows, blocks, rows_at_once=ROWS_AT_ONCE))
