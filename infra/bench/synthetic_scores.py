"""How well a dictionary finds known features: SynthSAEBench's scores, as functions of arrays and of running counts.

Cosines are absolute, as there: a latent that points the other way stands for the feature too.

Letters: B samples, F true features, L latents, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gc_core.evaluate.matching import matched_cosines
from gc_core.metrics import VarianceSums

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All scores of one dictionary; 1 is perfect for the first five."""

    f1: float
    """Mean over latents: harmonic mean of precision and recall of "the latent is active" as a sign that its nearest
    feature fires; 0 for a dead one."""
    precision: float
    recall: float
    mcc: float
    """Mean absolute cosine of latents and features matched one to one (Hungarian method)."""
    uniqueness: float
    """Different features that are nearest to a latent, over latents."""
    r2: float
    """Share of the samples' variance that is explained."""
    l0: float
    dead_share: float
    """Share of latents that are never active."""
    true_l0: float


class Counts:
    """Counts over batches that the scores are made of."""

    def __init__(self, decoder_LC: Tensor, direction_FC: Tensor) -> None:
        self.cosine_LF = absolute_cosines(decoder_LC, direction_FC)
        self.nearest_L = self.cosine_LF.argmax(1)
        zeros_L = torch.zeros(len(decoder_LC), dtype=torch.float64, device=decoder_LC.device)
        self.both_L, self.active_L, self.fires_L = zeros_L, zeros_L.clone(), zeros_L.clone()
        self.variance = VarianceSums.zeros(1, decoder_LC.shape[1], decoder_LC.device)
        self.samples, self.fired = 0, 0.0

    def add(self, code_BL: Tensor, recon_BC: Tensor, acts_BC: Tensor, fired_BF: Tensor) -> None:
        """Count one batch: codes, reconstructions, samples, and magnitudes of the true features."""
        active_BL, fires_BL = code_BL > 0, fired_BF[:, self.nearest_L] > 0
        self.both_L += (active_BL & fires_BL).sum(0)
        self.active_L += active_BL.sum(0)
        self.fires_L += fires_BL.sum(0)
        self.variance.add(acts_BC[:, None], recon_BC[:, None])
        self.samples += len(acts_BC)
        self.fired += float((fired_BF > 0).sum())

    def scores(self) -> Scores:
        """Divide once, at the end."""
        precision_L = _share(self.both_L, self.active_L)
        recall_L = _share(self.both_L, self.fires_L)
        f1_L = _share(2 * precision_L * recall_L, precision_L + recall_L)
        fvu = self.variance.fraction_unexplained()
        assert fvu is not None, "samples vary"
        return Scores(
            f1=float(f1_L.mean()), precision=float(precision_L.mean()), recall=float(recall_L.mean()),
            mcc=matched_mean(self.cosine_LF), uniqueness=len(self.nearest_L.unique()) / len(self.nearest_L),
            r2=1 - fvu, l0=float(self.active_L.sum()) / self.samples,
            dead_share=float((self.active_L == 0).double().mean()), true_l0=self.fired / self.samples,
        )  # fmt: skip


def absolute_cosines(decoder_LC: Tensor, direction_FC: Tensor) -> Tensor:
    """(L, F); 0 for a decoder of zeros."""
    normalize = torch.nn.functional.normalize
    return (normalize(decoder_LC, dim=1) @ normalize(direction_FC, dim=1).T).abs()


def matched_mean(cosine_LF: Tensor) -> float:
    """Mean cosine of pairs matched one to one so that it is largest; as many as the smaller set has."""
    parts = cosine_LF.split(ROWS_AT_ONCE)
    return float(matched_cosines(lambda: (part.cpu().numpy() for part in parts), *cosine_LF.shape).mean())


def _share(part_L: Tensor, whole_L: Tensor) -> Tensor:
    """A quotient; 0 of nothing."""
    return torch.where(whole_L > 0, part_L / whole_L.where(whole_L > 0, 1.0), 0.0)
