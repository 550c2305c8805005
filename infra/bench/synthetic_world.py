"""A world like SynthSAEBench's (Chanin and Garriga-Alonso 2026, arXiv 2602.14687), made again from its description.

Features are directions, more of them than channels. Which fire together is decided in four steps: normal variables of a
low-rank correlation are compared with thresholds, so that feature i fires with probability p_i, which falls by Zipf's
law; a child is silent where its parent is; of siblings that fire one is kept, at random; what fires has a magnitude
about a mean that falls from the frequent to the rare. Samples are sums of the features that fire, and a constant.
Children fire more often before they are silenced, so that about p_i of the samples are left, where that can be.

Letters: B samples, F features, C channels, R rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from numpy.random import SeedSequence
from torch import Tensor

MOST_OFTEN = 1 - 1e-6
LEAST_OWN = 0.01
"""Share of a feature's variable that is its own at least, whatever the correlation."""


@dataclass(frozen=True, kw_only=True)
class World:
    """How difficult the features are to find. The defaults are SynthSAEBench-16k's, but for sizes: a sixteenth of the
    features and trees, and a sixth of the channels, since fewer features fire at once."""

    true_features: int = 1024
    channels: int = 128
    zipf: float = 0.5
    """Exponent of the law by which firing falls with the rank."""
    most_often: float = 0.4
    """Firing probability of the first feature."""
    least_often: float = 5e-4
    """That of the last."""
    roots: int = 8
    """Trees of features; what no tree needs is in none."""
    branching: int = 4
    """Children of a feature; one of them at most fires."""
    depth: int = 3
    """Generations below a root."""
    rank: int = 25
    """Of the correlation of firing."""
    correlation: float = 0.1
    """Spread of the entries of its factor; 0 for independent features."""
    magnitudes: tuple[float, float] = (5.0, 4.0)
    """Mean magnitude of the most and of the least frequent feature, linear between."""
    spread: tuple[float, float] = (0.5, 0.5)
    """Mean and spread of the normal variable whose absolute value is a feature's own spread of magnitudes."""
    bias: float = 1.0
    """Norm of the constant that is added to every sample."""
    orthogonal_steps: int = 100
    """Steps of gradient descent that push the directions apart."""

    def __post_init__(self) -> None:
        if not 0 < self.least_often < self.most_often < 1:
            expected = "least_often above 0, below most_often, and that below 1"
            raise ValueError(f"most_often: found {self.least_often} and {self.most_often}, expected {expected}")
        if min(self.true_features, self.channels, self.branching, self.rank) < 1 or min(self.roots, self.depth) < 0:
            raise ValueError("true_features: found a size below its least, expected 1 or more (roots and depth 0)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples, and what fires in each."""

    acts_BC: Tensor
    fired_BF: Tensor
    """Magnitudes, 0 where a feature is silent."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What there is to find; features are in the order of the trees, which is also that of their frequency."""

    direction_FC: Tensor
    """Norm 1."""
    bias_C: Tensor
    probability_F: Tensor
    mean_F: Tensor
    spread_F: Tensor
    factor_FR: Tensor
    parent_F: Tensor
    """Each feature's parent, -1 for none."""
    generation_F: Tensor

    def to(self, device: str) -> "Truth":
        """The same on another device."""
        return Truth(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})

    @cached_property
    def threshold_F(self) -> Tensor:
        """What a normal variable exceeds with the features' probabilities."""
        return 2**0.5 * torch.erfinv(1 - 2 * self.probability_F)

    @cached_property
    def families(self) -> list[Tensor]:
        """Siblings (parents, children), those of each generation together, the eldest first."""
        generations = range(1, int(self.generation_F.max()) + 1)
        return [self._siblings(torch.nonzero(self.generation_F == number)[:, 0]) for number in generations]

    def _siblings(self, child_N: Tensor) -> Tensor:
        """(N / siblings, siblings): children of one parent stand together; the last family is filled with -1."""
        parent_N = self.parent_F[child_N]
        most = int(torch.bincount(parent_N).max())
        families = [child_N[parent_N == parent] for parent in parent_N.unique()]
        return torch.stack([torch.nn.functional.pad(each, (0, most - len(each)), value=-1) for each in families])


def generator_of(
    purpose: int, seed: int, device: torch.device | str = "cpu", *, number: int | None = None
) -> torch.Generator:
    """Random numbers of their own for each purpose, and each batch where it has a number: with one seed for all, an
    untrained dictionary would be the planted one."""
    state = SeedSequence([seed, purpose, *([] if number is None else [number])]).generate_state(1, "uint64")
    return torch.Generator(device).manual_seed(int(state[0] >> 1))


def plant(world: World, seed: int) -> Truth:
    """Draw the features."""
    generator = generator_of(0, seed)
    rank_F = torch.arange(1, world.true_features + 1, dtype=torch.float32)
    law_F = rank_F**-world.zipf
    share_F = (law_F - law_F[-1]) / (law_F[0] - law_F[-1]).clamp(min=1e-12)
    drawn_FC = torch.randn(world.true_features, world.channels, generator=generator)
    bias_C = torch.randn(world.channels, generator=generator)
    mean, spread = world.spread
    first, last = world.magnitudes
    parent_F, generation_F = trees(world)
    wanted_F = world.least_often + (world.most_often - world.least_often) * share_F
    return Truth(
        direction_FC=pushed_apart(torch.nn.functional.normalize(drawn_FC, dim=1), world.orthogonal_steps),
        bias_C=bias_C * world.bias / bias_C.norm(),
        probability_F=compensated(wanted_F, parent_F),
        mean_F=torch.linspace(first, last, world.true_features),
        spread_F=(mean + spread * torch.randn(world.true_features, generator=generator)).abs(),
        factor_FR=_factor(world, generator),
        parent_F=parent_F,
        generation_F=generation_F,
    )


def trees(world: World) -> tuple[Tensor, Tensor]:
    """Parent and generation (F,) of every feature: the roots come first, then their children, tree by tree, then
    theirs; so roots are the most frequent."""
    parent_F = torch.full((world.true_features,), -1)
    generation_F = torch.zeros(world.true_features, dtype=torch.int64)
    eldest, first = range(min(world.roots, world.true_features)), min(world.roots, world.true_features)
    for generation in range(1, world.depth + 1):
        children = range(first, min(first + len(eldest) * world.branching, world.true_features))
        for place, child in enumerate(children):
            parent_F[child] = eldest[place // world.branching]
            generation_F[child] = generation
        eldest, first = children, children.stop
    return parent_F, generation_F


def compensated(wanted_F: Tensor, parent_F: Tensor) -> Tensor:
    """Probabilities before silencing: a child's over its parent's, times one plus what its siblings are then expected
    to claim; at most `MOST_OFTEN`."""
    child_N = torch.nonzero(parent_F >= 0)[:, 0]
    given_N = wanted_F[child_N] / wanted_F[parent_F[child_N]]
    together_F = torch.zeros_like(wanted_F).index_add_(0, parent_F[child_N], given_N)
    raised_F = wanted_F.clone()
    raised_F[child_N] = given_N * (1 + together_F[parent_F[child_N]] - given_N)
    return raised_F.clamp(max=MOST_OFTEN)


def pushed_apart(direction_FC: Tensor, steps: int, learning_rate: float = 3e-4) -> Tensor:
    """Directions whose squared inner products are smaller than before: Adam on their sum."""
    free_FC = direction_FC.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([free_FC], lr=learning_rate)
    for _ in range(steps):
        unit_FC = torch.nn.functional.normalize(free_FC, dim=1)
        gram_CC = unit_FC.T @ unit_FC  # its squares add up to those of the (F, F) products
        optimiser.zero_grad()
        gram_CC.square().sum().backward()
        optimiser.step()
    return torch.nn.functional.normalize(free_FC.detach(), dim=1)


def batches(truth: Truth, batch: int, count: int, purpose: int, seed: int) -> Iterator[Batch]:
    """So many batches, the same for the same purpose and seed, on the device of the features."""
    generator = generator_of(purpose, seed, truth.direction_FC.device)
    for _ in range(count):
        yield sample(truth, batch, generator)


def sample(truth: Truth, count: int, generator: torch.Generator) -> Batch:
    """Draw samples."""
    (features, rank), device = truth.factor_FR.shape, truth.factor_FR.device
    shared_BF = torch.randn(count, rank, generator=generator, device=device) @ truth.factor_FR.T
    own_F = (1 - truth.factor_FR.square().sum(1)).sqrt()
    own_BF = own_F * torch.randn(count, features, generator=generator, device=device)
    fires_BF = shared_BF + own_BF > truth.threshold_F
    obey(fires_BF, truth, generator)
    row_N, feature_N = torch.nonzero(fires_BF, as_tuple=True)
    normal_N = torch.randn(len(row_N), generator=generator, device=device)
    size_N = truth.mean_F[feature_N] + truth.spread_F[feature_N] * normal_N
    fired_BF = torch.zeros(count, features, device=device)
    fired_BF[row_N, feature_N] = size_N.clamp(min=0)
    return Batch(acts_BC=fired_BF @ truth.direction_FC + truth.bias_C, fired_BF=fired_BF)


def obey(fires_BF: Tensor, truth: Truth, generator: torch.Generator) -> None:
    """Silence, in place, children of silent parents, and all but one, at random, of siblings that fire."""
    for family_PS in truth.families:
        member_PS = family_PS.clamp(min=0)
        parent_P = truth.parent_F[family_PS[:, 0]]
        wants_BPS = fires_BF[:, member_PS] & (family_PS >= 0) & fires_BF[:, parent_P][:, :, None]
        draw_BPS = torch.rand(wants_BPS.shape, generator=generator, device=wants_BPS.device).where(wants_BPS, -1.0)
        wins_BPS = wants_BPS & (draw_BPS == draw_BPS.amax(2, keepdim=True))
        there_PS = family_PS >= 0
        fires_BF[:, family_PS[there_PS]] = wins_BPS[:, there_PS]


def _factor(world: World, generator: torch.Generator) -> Tensor:
    """(F, R) whose rows' squared norms are the shared parts of the variables."""
    factor_FR = world.correlation * torch.randn(world.true_features, world.rank, generator=generator)
    shared_F1 = factor_FR.square().sum(1, keepdim=True)
    return factor_FR * ((1 - LEAST_OWN) / shared_F1.clamp(min=1e-12)).sqrt().clamp(max=1.0)
