"""The chain on planted samples: train as `jobs.train` does, describe as `jobs.analyse` does, and score.

Letters: N samples, F planted features, L learned ones that live (prototypes, where poses are tied), G group elements, C
channels.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import analyse, groups, symmetry
from gc_core.config import AnalyseConfig, TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.initialise import FirstSamples
from gc_core.families import Source, find_families, sketched
from gc_core.groups import FiniteGroup, Group
from gc_core.scoring import Samples as Scored
from gc_core.scoring import Sums, encode_and_score
from gc_core.symmetry import Verdict, translate
from gc_core.train import Trainer, Worker, resolve
from infra.bench import planted_scores as scores
from infra.bench.planted_world import Samples, Truth
from infra.bench.training import Size, empty_data
from jobs.common import console

TRAINED = ("tied", "untied", "sae")
FIRST_SAMPLES = 1024
"""Samples that first weights are made from."""
BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Least similarities of families that are tried where the one that suits best is looked for."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How crosscoders are trained."""

    rows: int = 20_000
    """Samples to train on."""
    held_out: int = 2000
    """Samples on which features live or not, and by which poses are judged."""
    prototypes: int = 32
    invariant_prototypes: int = 0
    """Number of these prototypes with all blocks equal."""
    features: int = 512
    """Features of the untied crosscoder and of the SAE."""
    steps: int = 600
    batch: int = 256
    learning_rate: float | None = None
    """None for the default of `jobs.train`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the analysis says of the rows of a dictionary."""

    group: Group
    decoder_RGC: Tensor
    tied: bool
    verdict_R: list[Verdict]
    label_R: NDArray[np.int64]
    """Number of the family; a feature alone is one too."""
    pose_R: NDArray[np.int64]
    """As in `gc_core.families.Families`."""

    @property
    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and pose (L,) of every feature: prototypes have one in every pose."""
        turns = self.group.order if self.tied else 1
        return np.repeat(np.arange(len(self.label_R)), turns), np.tile(np.arange(turns), len(self.label_R))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the rows of a crosscoder do on samples that it was not trained on."""

    size_NR: Tensor
    """How much each adds to each sample: its activation times its decoder's norm."""
    pose_NR: NDArray[np.int64]
    """Pose in which it is active; the identity where poses are not tied."""
    fvu: float | None
    """None where it is undefined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How much of what was planted was found; None where a score does not apply."""

    family_ari: float
    mean_max_cosine: float
    stabiliser_accuracy: float | None
    axis_accuracy: float | None
    learned_family_ari: float | None
    """Over the learned features instead of the planted ones, so that missing ones do not count."""
    learned_stabiliser_accuracy: float | None
    living: int
    num_families: int
    """Learned ones, with features that are alone."""


def describe(decoder_RGC: Tensor, group: Group, *, tied: bool = False) -> Described:
    """Verdicts and families of living features, with the analysis' defaults."""
    config = AnalyseConfig().resolved(tied=tied)
    evidence = symmetry.evidence_of(decoder_RGC, group, surrogates=config.surrogates, seed=config.seed)
    label_R, pose_R = families_of(decoder_RGC, group, config.family_similarity)
    return Described(
        group=group,
        decoder_RGC=decoder_RGC,
        tied=tied,
        verdict_R=analyse.judge(evidence, group, config).verdict_F,
        label_R=label_R,
        pose_R=pose_R,
    )


def families_of(
    decoder_RGC: Tensor, group: FiniteGroup, least_similarity: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Family (R,) of each row, one that is alone being one too, and its pose in it."""
    source = Source(
        group=group,
        read=lambda some: decoder_RGC[torch.from_numpy(some)],
        features=np.arange(len(decoder_RGC)),
        invariant_share=AnalyseConfig().invariant_share,
    )
    families = find_families(sketched(source), least_similarity=least_similarity)
    alone_R = families.family_F.max(initial=-1) + 1 + np.arange(len(decoder_RGC))
    return np.where(families.family_F < 0, alone_R, families.family_F), families.pose_F


def train(kind: str, training: Training, active: int, acts_NGC: Tensor, group: Group, seed: int) -> Crosscoder:
    """A crosscoder as `jobs.train` would make it of a store of these samples, in the samples' units: untied ones see
    them turned at random. An SAE sees the untransformed block alone."""
    seen = groups.trivial() if kind == "sae" else group
    data, channels = acts_NGC[:, : seen.order], acts_NGC.shape[2]
    scale = float((channels * data[..., 0].numel() / data.square().sum()).sqrt())
    trainer = _trainer(_config(kind, training, active, seen, seed), training, data, scale)
    rng = np.random.default_rng([seed, 1])
    with console.progress(f"{kind}, seed {seed}", training.steps, "steps") as meter:
        for step in range(training.steps):
            acts_BGC = acts_NGC[torch.from_numpy(rng.integers(len(acts_NGC), size=training.batch))]
            if kind != "tied":
                acts_BGC = turned(acts_BGC, rng.integers(group.order, size=training.batch), group)
            trainer.advance(acts_BGC[:, : seen.order] * scale)
            meter.set(step + 1)
    model = trainer.exported()
    assert model is not None, "one worker has the whole crosscoder"
    return model


def turned(acts_BGC: Tensor, element_B: NDArray[np.int64], group: Group) -> Tensor:
    """Samples (or features), each as it is after its element has acted on the picture."""
    columns = torch.from_numpy(group.cayley[:, element_B].T.copy())
    return acts_BGC.gather(1, columns[:, :, None].expand_as(acts_BGC))


def _config(kind: str, training: Training, active: int, group: Group, seed: int) -> TrainConfig:
    sizes: dict[str, Any] = {"tying": "none", "dict_size": training.features, "encoder_reads": "all"}
    if kind == "tied":
        sizes = {"tying": "orbit", "prototypes": training.prototypes}
        sizes["invariant_prototypes"] = training.invariant_prototypes
    return TrainConfig(
        group=group.name, k=active, steps=training.steps, batch=training.batch, seed=seed, augment=False,
        learning_rate=training.learning_rate, **sizes,
    )  # fmt: skip


def _trainer(config: TrainConfig, training: Training, acts_NGC: Tensor, scale: float) -> Trainer:
    size = Size(group=str(config.group), channels=acts_NGC.shape[2], features=training.features)
    data = replace(empty_data(size, len(acts_NGC)), scale=scale)
    order = np.random.default_rng([config.seed, 3]).permutation(len(acts_NGC))[:FIRST_SAMPLES]
    return Trainer(resolve(config, data), data, Worker(), FirstSamples.of(acts_NGC[torch.from_numpy(order)] * scale))


@torch.no_grad()
def learned(model: Crosscoder, acts_NGC: Tensor) -> tuple[Described, Observed]:
    """What lives of a crosscoder on these samples, and what it does there."""
    sums = Sums.of(model)
    (codes,) = encode_and_score(model, [Scored(acts_NGC[:, : model.group.order])], sums)
    living = torch.nonzero((codes.z_BF > 0).any(0))[:, 0]
    size_NR = (codes.z_BF * model.decoder_norm())[:, living]
    pose_NR = torch.zeros(size_NR.shape, dtype=torch.int64) if codes.pose_BF is None else codes.pose_BF[:, living]
    assert isinstance(model.group, Group), "worlds are planted over groups of the plane"
    about = describe(model.W_dec.detach()[living], model.group, tied=model.shape.tying == "orbit")
    return about, Observed(size_NR=size_NR, pose_NR=pose_NR.numpy(), fvu=sums.fvu())


def score(about: Described, truth: Truth) -> Found:
    """Compare the dictionary with what was planted."""
    family_F, _ = truth.features
    cosine_FL = cosines(about, truth)
    partner_F = scores.match(cosine_FL)
    row_L, _ = about.columns
    words_P = [symmetry.in_words(each, truth.group) for each in truth.stabiliser_P]
    plain = about.group.order < truth.group.order
    cosine_FR = cosine_FL.reshape(len(cosine_FL), len(about.label_R), -1).max(2)
    nearest_R = scores.nearest_family(cosine_FR, family_F)
    words_R = [each.words for each in about.verdict_R]
    accuracy = (
        None if plain else scores.stabiliser_accuracy(family_F, words_P, [words_R[row] for row in row_L], partner_F)
    )
    return Found(
        family_ari=scores.family_ari(family_F, about.label_R[row_L], partner_F),
        mean_max_cosine=scores.mean_max_cosine(cosine_FL),
        stabiliser_accuracy=accuracy,
        axis_accuracy=None if plain else _axes(about, truth, partner_F),
        learned_family_ari=None if about.tied else scores.learned_family_ari(nearest_R, about.label_R),
        learned_stabiliser_accuracy=None if plain else scores.learned_stabiliser_accuracy(nearest_R, words_P, words_R),
        living=len(about.label_R),
        num_families=len(np.unique(about.label_R)),
    )


def best_family_ari(about: Described, truth: Truth) -> float:
    """The family score at the bound of similarity that suits the dictionary best, which nobody could know."""
    partner_F, (row_L, _) = scores.match(cosines(about, truth)), about.columns
    labels = (families_of(about.decoder_RGC, about.group, bound)[0] for bound in BOUNDS)
    return max(scores.family_ari(truth.features[0], label_R[row_L], partner_F) for label_R in labels)


def invariant_cosine(model: Crosscoder, truth: Truth) -> float | None:
    """Mean over planted families with equal blocks of the largest cosine with a prototype that has them too; None
    without either."""
    whole = [each.order == truth.group.order for each in truth.stabiliser_P]
    if not model.shape.invariant or not any(whole):
        return None
    planted, learned_too = truth.prototype_PGC[torch.tensor(whole)], model.W_dec.detach()[: model.shape.invariant]
    cosine_PI = _unit(planted) @ _unit(learned_too).T
    return float(cosine_PI.amax(1).mean())


def cosines(about: Described, truth: Truth) -> NDArray[np.float32]:
    """(F, L) of all planted features with all learned ones; over the blocks that were learned."""
    turns = range(about.group.order if about.tied else 1)
    features_RTGC = torch.stack([translate(about.decoder_RGC, turn, about.group) for turn in turns], dim=1)
    planted_FGC = truth.dictionary()[:, : about.group.order]
    return (_unit(planted_FGC) @ _unit(features_RTGC.flatten(0, 1)).T).numpy()


def pose_errors(about: Described, seen: Observed, truth: Truth, held_out: Samples) -> NDArray[np.int64]:
    """Steps by which poses are off that the analysis tells of families in samples, all together; families that look the
    same in every pose are left out."""
    family_F, _ = truth.features
    row_L, _ = about.columns
    found_P = scores.found_in(family_F, about.label_R[row_L], scores.match(cosines(about, truth)))
    errors = [np.zeros(0, np.int64)]
    for family, (label, stabiliser) in enumerate(zip(found_P, truth.stabiliser_P, strict=True)):
        if stabiliser.order < truth.group.order:
            row_N, place_N = np.nonzero(held_out.family_NA == family)
            told_N = told_poses(about, seen, np.flatnonzero(about.label_R == label), row_N)
            errors.append(scores.pose_errors(told_N, held_out.pose_NA[row_N, place_N], stabiliser, truth.group))
    return np.concatenate(errors)


def told_poses(
    about: Described, seen: Observed, members: NDArray[np.int64], sample_N: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(N,) by how much a family is turned in each of some samples, as its most active member tells: its own pose in the
    family, and the one in which it is active; -1 where none is active."""
    if not len(members) or not len(sample_N):
        return np.full(len(sample_N), -1)
    size_NM = seen.size_NR[torch.from_numpy(sample_N)][:, torch.from_numpy(members)]
    largest_N = size_NM.max(1)
    member_N = members[largest_N.indices.numpy()]
    told_N = about.group.cayley[seen.pose_NR[sample_N, member_N], about.group.inverse[about.pose_R[member_N]]]
    return np.where(largest_N.values.numpy() > 0, told_N, -1)


def _axes(about: Described, truth: Truth, partner_F: NDArray[np.int64]) -> float | None:
    """The share of right mirrors: the very subgroup, turned as the feature is."""
    row_L, turn_L = about.columns
    family_F, pose_F = truth.features
    matched_F = partner_F != scores.UNMATCHED
    return scores.axis_accuracy(
        [truth.stabiliser_P[family] for family in family_F[matched_F]],
        pose_F[matched_F],
        [about.verdict_R[row].changing_subgroup for row in row_L[partner_F[matched_F]]],
        turn_L[partner_F[matched_F]],
        truth.group,
    )


def _unit(features_FGC: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features_FGC.flatten(1), dim=1)
