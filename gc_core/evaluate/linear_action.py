"""How far activations transform linearly: is a(g.x) a matrix M_g times a(x), and is M_g a power of one matrix?

Three predictions of a(g.x) from a(x), all about the training samples' means:

- `elements`: a matrix for each element, by ridge regression;
- `generators`: one matrix for the smallest rotation, one for the mirror; r^k m is told by M_r^k M_m. It is what the
  adaptively equivariant autoencoders of Erdogan and Lucic 2025 (arXiv 2511.09432) build on. Fitted to one step of
  rotation (from any block to the next), then, if asked, by gradient to all elements together;
- the identity: a(g.x) is a(x) itself, no matrix at all.

Letters: N samples, G group elements, C channels, H blocks that are taken as a(x), L strengths of the ridge.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gc_core.groups import Group

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths that are tried, over the mean variance of the channels."""
VALIDATION_SHARE = 0.2
REFINING_STEPS, REFINING_BATCH, REFINING_RATE = 300, 256, 3e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A matrix for each element: a(g.x) is about `target_GC[g]` + (a(x) - `source_C`) `matrix_GCC[g]`."""

    source_C: Tensor
    target_GC: Tensor
    matrix_GCC: Tensor

    def __call__(self, acts_NC: Tensor) -> Tensor:
        """(N, G, C) of the untransformed block."""
        return self.target_GC + torch.einsum("nc,gcd->ngd", acts_NC - self.source_C, self.matrix_GCC)


@dataclass(frozen=True, slots=True)
class Ridge:
    """Least squares with a penalty on the matrix, for all strengths from one decomposition."""

    value_C: Tensor
    vector_CC: Tensor
    rotated_CD: Tensor
    scale: float

    @staticmethod
    def of(gram_CC: Tensor, cross_CD: Tensor) -> "Ridge":
        """Of the sources' inner products, and those of sources with targets."""
        value_C, vector_CC = torch.linalg.eigh(gram_CC.double())
        return Ridge(value_C.clamp_min(0), vector_CC, vector_CC.T @ cross_CD.double(), float(value_C.mean()))

    def matrix(self, strength: float) -> Tensor:
        """(C, D), float32."""
        shrunk_C = 1 / (self.value_C + strength * self.scale).clamp_min(torch.finfo(torch.float64).tiny)
        return (self.vector_CC @ (self.rotated_CD * shrunk_C[:, None])).float()


def fit_elements(acts_NGC: Tensor, group: Group, *, sources: Sequence[int] = (0,)) -> Predictor:
    """A matrix for each element. Samples come image by image: the last fifth chooses the strengths.

    With several `sources` the blocks h are a(x) in turn, and g h are a(g.x): more to learn from, where all poses are
    alike.
    """
    cut = _cut(len(acts_NGC))
    matrices = []
    of_part, of_all = (_Moments.of(part, sources) for part in (acts_NGC[:cut], acts_NGC))
    for element in range(group.order):
        targets = group.cayley[element, list(sources)].tolist()
        trial = Ridge.of(of_part.gram_CC, of_part.cross(targets))
        ends = [acts_NGC[cut:, blocks].flatten(0, 1) for blocks in (list(sources), targets)]
        strength = _best(trial, ends[0] - of_part.mean(sources), ends[1] - of_part.mean(targets))
        matrices.append(Ridge.of(of_all.gram_CC, of_all.cross(targets)).matrix(strength))
    return Predictor(
        source_C=of_all.mean(sources),
        target_GC=torch.stack([of_all.mean(group.cayley[g, list(sources)].tolist()) for g in range(group.order)]),
        matrix_GCC=torch.stack(matrices),
    )


def fit_generators(acts_NGC: Tensor, group: Group, *, refined: bool = False, seed: int = 0) -> Predictor:
    """One matrix for the smallest rotation, one for the mirror, and their products; every block is a source once.
    `refined` goes on from there by gradient, to the error of all elements from the untransformed block."""
    steps = [1 % group.n, *([group.n] if group.has_mirrors else [])]
    every, cut = tuple(range(group.order)), _cut(len(acts_NGC))
    mean_C, matrices = acts_NGC.mean((0, 1)), []
    for step in steps:
        targets = group.cayley[step].tolist()
        part, whole = (_Moments.of(each, every) for each in (acts_NGC[:cut], acts_NGC))
        trial = Ridge.of(part.gram_CC, part.cross(targets))
        late_NGC = acts_NGC[cut:] - mean_C
        strength = _best(trial, late_NGC.flatten(0, 1), late_NGC[:, targets].flatten(0, 1))
        matrices.append(Ridge.of(whole.gram_CC, whole.cross(targets)).matrix(strength))
    if refined:
        matrices = _refined(matrices, acts_NGC - mean_C, group, seed)
    return Predictor(
        source_C=mean_C,
        target_GC=mean_C.expand(group.order, -1),
        matrix_GCC=powers(matrices, group),
    )


def powers(matrices: Sequence[Tensor], group: Group) -> Tensor:
    """(G, C, C) of every element, of the smallest rotation's matrix and the mirror's; rows are multiplied from the
    left, so the mirror, which acts first, stands first."""
    turns = [torch.eye(len(matrices[0]), dtype=matrices[0].dtype)]
    for _ in range(group.n - 1):
        turns.append(turns[-1] @ matrices[0])
    mirrored = [matrices[1] @ each for each in turns] if group.has_mirrors else []
    return torch.stack([*turns, *mirrored])


def identity_action(acts_NGC: Tensor) -> Predictor:
    """a(x) itself for every element, as it is."""
    _, num_elements, channels = acts_NGC.shape
    zero_C = acts_NGC.new_zeros(channels)
    return Predictor(
        source_C=zero_C,
        target_GC=zero_C.expand(num_elements, -1),
        matrix_GCC=torch.eye(channels).expand(num_elements, -1, -1),
    )


def squared_errors(predictor: Predictor, acts_NGC: Tensor, mean_GC: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors (N, G) of a(g.x) told from the first block, and squared deviations from the training samples'
    means: R^2 of an element is 1 less the ratio of their sums, 0 for the means themselves."""
    errors, deviations = [], []
    for part_NGC in acts_NGC.split(256):
        errors.append((predictor(part_NGC[:, 0]) - part_NGC).square().sum(2))
        deviations.append((part_NGC - mean_GC).square().sum(2))
    return torch.cat(errors), torch.cat(deviations)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Inner products of blocks about their means over samples."""

    acts_NGC: Tensor
    mean_GC: Tensor
    sources: Sequence[int]
    gram_CC: Tensor

    @staticmethod
    def of(acts_NGC: Tensor, sources: Sequence[int]) -> "_Moments":
        mean_GC = acts_NGC.mean(0)
        blocks = [acts_NGC[:, h] - mean_GC[list(sources)].mean(0) for h in sources]
        gram_CC = torch.stack([each.T @ each for each in blocks]).sum(0)
        return _Moments(acts_NGC, mean_GC, sources, gram_CC)

    def mean(self, blocks: Sequence[int]) -> Tensor:
        """(C,) over some blocks."""
        return self.mean_GC[list(blocks)].mean(0)

    def cross(self, targets: Sequence[int]) -> Tensor:
        """(C, C) of the sources with the blocks that stand for them."""
        source_C, target_C = self.mean(self.sources), self.mean(targets)
        pairs = zip(self.sources, targets, strict=True)
        products = ((self.acts_NGC[:, h] - source_C).T @ (self.acts_NGC[:, g] - target_C) for h, g in pairs)
        return torch.stack(list(products)).sum(0)


def _cut(num_samples: int) -> int:
    """Samples that matrices are fitted to while strengths are chosen."""
    return max(1, num_samples - max(1, round(num_samples * VALIDATION_SHARE)))


def _best(ridge: Ridge, source_NC: Tensor, target_NC: Tensor) -> float:
    """The strength with the least error."""
    errors = [float((source_NC @ ridge.matrix(each) - target_NC).square().sum()) for each in RIDGES]
    return RIDGES[int(np.argmin(errors))]


def _refined(matrices: Sequence[Tensor], centred_NGC: Tensor, group: Group, seed: int) -> list[Tensor]:
    """The generators' matrices after steps of Adam on the squared error of all elements."""
    free = [each.clone().requires_grad_() for each in matrices]
    optimiser = torch.optim.Adam(free, lr=REFINING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, REFINING_STEPS)
    scale, rng = float(centred_NGC.square().mean()), np.random.default_rng(seed)
    for _ in range(REFINING_STEPS):
        batch_BGC = centred_NGC[torch.from_numpy(rng.integers(len(centred_NGC), size=REFINING_BATCH))]
        turned_BC = [batch_BGC[:, 0], *([batch_BGC[:, 0] @ free[1]] if group.has_mirrors else [])]
        loss = batch_BGC.new_zeros(())
        for turn in range(group.n):
            for half, told_BC in enumerate(turned_BC):
                loss = loss + (told_BC - batch_BGC[:, half * group.n + turn]).square().mean()
            turned_BC = [each @ free[0] for each in turned_BC]
        optimiser.zero_grad()
        (loss / (group.order * scale)).backward()
        optimiser.step()
        schedule.step()
    return [each.detach() for each in free]
