"""A crosscoder's first weights, made from samples.

Letters: B samples, G group elements, E elements that the encoder reads, C channels, F features, N some of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gc_core.crosscoder import Crosscoder

Init = Literal["data", "transpose"]
BiasInit = Literal["mean", "median", "zero"]

SAMPLES_TO_MATCH = 256
NOISE = 0.05
MEDIAN_STEPS = 100
LEAST_THRESHOLD = 1e-3
NORMALS_AT_ONCE = 2**24
"""Random numbers drawn at a time."""
LEAST_DRAW = 16
"""PyTorch draws normal numbers in blocks of 16, so that pieces of multiples of that give what one draw gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSamples:
    """What first weights are made from."""

    acts_BGC: Tensor
    """Samples in random order that set the bias, the encoder's size and thresholds."""
    along: Callable[[range], Tensor]
    """The samples (N, G, C) that features with these numbers in the whole dictionary begin along."""
    directions_NGC: Tensor | None = None
    """What the first so many features begin along instead, with `init` data; behind the invariant ones."""

    @staticmethod
    def of(acts_BGC: Tensor) -> "FirstSamples":
        """Use these samples for everything; features take them from the last on, since the first ones set the size."""
        return FirstSamples(
            acts_BGC=acts_BGC, along=lambda features: acts_BGC[[-1 - number % len(acts_BGC) for number in features]]
        )


@torch.no_grad()
def initialise(
    model: Crosscoder,
    first: FirstSamples,
    generator: torch.Generator,
    *,
    init: Init = "data",
    bias_init: BiasInit = "mean",
) -> None:
    """Start from data: decoder rows along samples' deviations from the bias, or random ones; the encoder transposed.

    Features begin along different samples. Two that begin along one are twins that share its codes: they stay alike,
    or one of them dies.

    A random direction of the identity block says nothing about the other blocks, and a short training on few samples
    never finds them; a sample's deviation names all blocks at once. Thresholds of `jumprelu` start where k features a
    sample are active.

    A part of a dictionary gets the rows that the whole would have, and no more of them is ever made.
    """
    acts_BGC = first.acts_BGC
    tied = model.shape.tying == "orbit"
    # Tied poses share one bias for all blocks, which the encoder takes off what it reads.
    bias_GC = _first_bias(acts_BGC.flatten(0, 1)[:, None] if tied else acts_BGC, bias_init)
    _set_decoder(model, first, bias_GC, init, generator)
    model.b_dec.copy_(bias_GC[0] if tied else bias_GC)
    reads = list(model.shape.reads)
    read_FEC = model.W_dec[:, reads]
    model.W_enc.copy_(read_FEC / read_FEC.flatten(1).square().sum(1).clamp_min(1e-9)[:, None, None])
    if not tied:
        model.b_enc.copy_(-torch.einsum("fec,ec->f", model.W_enc, bias_GC[reads]))
    _set_thresholds(model, acts_BGC[:SAMPLES_TO_MATCH])
    match_size(model, acts_BGC[:SAMPLES_TO_MATCH], bias_GC)


def geometric_median(x_BD: Tensor) -> Tensor:
    """The point (D,) whose distances to the samples add up to least (Weiszfeld 1937).

    Each step weighs samples by the inverse of their distance; a sample that is met exactly counts as very near.
    """
    median_D = x_BD.mean(0)
    for _ in range(MEDIAN_STEPS):
        distance_B1 = (x_BD - median_D).norm(dim=1, keepdim=True)
        weight_B1 = 1 / distance_B1.clamp_min(1e-9 * float(distance_B1.max()) + 1e-30)
        moved_D = (x_BD * weight_B1).sum(0) / weight_B1.sum()
        step, median_D = (moved_D - median_D).norm(), moved_D
        if step <= 1e-6 * distance_B1.mean():
            break
    return median_D


def _first_bias(acts_BGC: Tensor, bias_init: BiasInit) -> Tensor:
    if bias_init == "zero":
        return torch.zeros_like(acts_BGC[0])
    if bias_init == "median":
        return geometric_median(acts_BGC.flatten(1)).view_as(acts_BGC[0])
    return acts_BGC.mean(0)


def _set_decoder(
    model: Crosscoder, first: FirstSamples, bias_GC: Tensor, init: Init, generator: torch.Generator
) -> None:
    for rows, normal_NGC in _normals(model, generator):
        if init == "data":
            made_NGC = _along_samples(first.along(rows) - bias_GC, normal_NGC)
            _replace_known(made_NGC, rows.start - model.shape.invariant, first.directions_NGC)
        else:
            made_NGC = _random_directions(first.acts_BGC - bias_GC, normal_NGC)
        own = model.features.start
        model.W_dec[rows.start - own : rows.stop - own] = made_NGC
    if model.shape.invariant:  # means over blocks, as long as the rows were
        norm_R = model.decoder_norm()
        model.keep_ties()
        model.W_dec.mul_((norm_R / model.decoder_norm().clamp_min(1e-9))[:, None, None])


def _normals(model: Crosscoder, generator: torch.Generator) -> Iterator[tuple[range, Tensor]]:
    """Random numbers (N, G, C) for the features that are here, with their numbers in the whole dictionary.

    The generator is left as drawing the whole dictionary's numbers at once leaves it.
    """
    num_features, shape = model.shape.num_rows, model.W_dec.shape[1:]
    step = max(1, NORMALS_AT_ONCE // shape.numel() // LEAST_DRAW) * LEAST_DRAW
    first = 0
    while first < num_features:
        last = min(first + step, num_features)
        if (num_features - last) * shape.numel() < LEAST_DRAW:  # too few for a draw of their own
            last = num_features
        normal_NGC = torch.randn((last - first, *shape), generator=generator)
        own = range(max(first, model.features.start), min(last, model.features.stop))
        if own:
            yield own, normal_NGC[own.start - first : own.stop - first]
        first = last


def _along_samples(chosen_NGC: Tensor, normal_NGC: Tensor) -> Tensor:
    """Unit vectors (N, G, C) along the samples chosen.

    A little noise keeps rows distinct where samples are alike; more would stay in the decoder for long, and make
    every feature look less like itself under the group.
    """
    noise_NGC = normal_NGC * chosen_NGC.square().mean((1, 2), keepdim=True).sqrt() * NOISE
    return _unit(chosen_NGC + noise_NGC.to(chosen_NGC))


def _replace_known(made_NGC: Tensor, number: int, directions_NGC: Tensor | None) -> None:
    """Rows that begin along given directions, of rows from this number on."""
    if directions_NGC is None:
        return
    begin, end = max(0, -number), min(len(made_NGC), len(directions_NGC) - number)
    if begin < end:
        made_NGC[begin:end] = _unit(directions_NGC[number + begin : number + end].to(made_NGC))


def _random_directions(deviation_BGC: Tensor, normal_NGC: Tensor) -> Tensor:
    """Random directions (N, G, C), each as long as the samples reach along it (root mean square), so that codes begin
    with size one."""
    direction_NGC = _unit(normal_NGC.to(deviation_BGC))
    reach_N = (deviation_BGC.flatten(1) @ direction_NGC.flatten(1).T).square().mean(0).sqrt()
    return direction_NGC * reach_N.clamp_min(1e-9)[:, None, None]


def _unit(rows_NGC: Tensor) -> Tensor:
    return rows_NGC / rows_NGC.flatten(1).norm(dim=1).clamp_min(1e-9)[:, None, None]


def _set_thresholds(model: Crosscoder, acts_BGC: Tensor) -> None:
    """One score (threshold times decoder norm) for all features, which k of them exceed in the mean sample."""
    if model.log_threshold is None:
        return
    norm_F = model.decoder_norm().clamp_min(1e-9)
    score = (model.best_pre_activations(acts_BGC)[0] * norm_F).flatten()
    wanted = model.shape.k * len(acts_BGC)
    largest = model.shards.gather(score.topk(min(wanted, score.numel())).values).flatten()
    least = largest.topk(min(wanted, len(largest))).values[-1]
    model.log_threshold.copy_((least / norm_F).clamp_min(LEAST_THRESHOLD).log())


def match_size(model: Crosscoder, acts_BGC: Tensor, bias_GC: Tensor) -> None:
    """Scale the encoder so that reconstructions of samples (B, G, C) start at the best common size around the decoder's
    bias (G, C): overlapping features overshoot."""
    deviation, attempt = acts_BGC - bias_GC, model.reconstruct(acts_BGC)[1] - bias_GC
    best = ((deviation * attempt).sum() / attempt.square().sum().clamp_min(1e-9)).clamp(1e-3, 1e3)
    model.W_enc.mul_(best)
    model.b_enc.mul_(best)
    if model.log_threshold is not None:  # the same features stay active
        model.log_threshold.add_(best.log())
