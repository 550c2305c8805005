"""A world of which every family, symmetry and pose is known, and samples of it: what the chain is to find again.

A family is one feature in every pose of the group. Its stabiliser H leaves |G| / |H| different ones, so that families
of every class of subgroups give many features (symmetric as nothing) or few (all blocks equal): the default's 24 over
D_16 have 258 different features, twice as many as there are channels.

Letters: P families, F features, N samples, A active families of a sample, G group elements, C channels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups
from gc_core.groups import Group, Subgroup
from infra.bench.planted_symmetries import planted

AMPLITUDES = (0.5, 1.5)
"""Ends between which a family's amplitude in a sample is drawn; its feature has norm 1."""
_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class World:
    """How difficult it is to find what is planted."""

    group: str = "D16"
    families: int = 24
    stabilisers: tuple[str, ...] = ()
    """Classes of subgroups, such as C1 D1 C4, that families have in turn; none given for every class of the group, from
    no symmetry to all of it. The axis is drawn."""
    channels: int = 128
    """The fewer, the more features share a channel: superposition is the number of different features over this."""
    active: int = 3
    """Different families in a sample, each in one pose."""
    rarity: float = 0.5
    """How much rarer some families are: the frequency of the n-th falls as n to minus this."""
    upright: float = 0.0
    """Share of the families of samples that are in their first pose; the others are in any pose alike."""
    noise: float = 0.05
    """Share of the samples' energy that is noise."""
    width: float | None = 3.0
    """Frequency over rotation at which amplitudes have fallen to 61%: the smaller, the smoother; None for white."""
    invariant_share: float = 0.5
    """Share of a feature's energy that no element changes; all of it where the stabiliser is the whole group."""
    imperfect: float = 0.1
    """Share of the changing energy that has no symmetry."""

    def __post_init__(self) -> None:
        known = _classes(groups.parse(self.group))
        for name in self.stabilisers:
            if _plain(name) not in known:
                raise ValueError(f"stabilisers: found {name[:20]!r}, expected some of {' '.join(known)}")
        if not 1 <= self.active <= self.families:
            raise ValueError(f"active: found {self.active}, expected 1 to families ({self.families})")
        for name in ("upright", "noise", "invariant_share", "imperfect"):
            if not 0 <= getattr(self, name) <= 1 or (name == "noise" and self.noise == 1):
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a share of one")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is planted."""

    group: Group
    prototype_PGC: Tensor
    """Norm 1."""
    stabiliser_P: tuple[Subgroup, ...]

    @cached_property
    def features(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Family and pose (F,) of every different feature: of the poses h H that look the same the smallest."""
        pairs = [
            (family, int(pose))
            for family, stabiliser in enumerate(self.stabiliser_P)
            for pose in np.unique(self.group.cayley[:, list(stabiliser.elements)].min(1))
        ]
        family_F, pose_F = np.array(pairs, np.int64).reshape(-1, 2).T
        return family_F, pose_F

    def posed(self, family_F: NDArray[np.int64], pose_F: NDArray[np.int64]) -> Tensor:
        """(F, G, C) rho(pose) of the prototypes."""
        columns = torch.from_numpy(self.group.cayley[:, pose_F].T.copy())
        prototype_FGC = self.prototype_PGC[torch.from_numpy(family_F)]
        return prototype_FGC.gather(1, columns[:, :, None].expand_as(prototype_FGC))

    def dictionary(self) -> Tensor:
        """(F, G, C) every different feature."""
        return self.posed(*self.features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Samples, and what is in each."""

    acts_NGC: Tensor
    family_NA: NDArray[np.int64]
    pose_NA: NDArray[np.int64]


def plant(world: World, seed: int) -> Truth:
    """Draw the families."""
    group, rng = groups.parse(world.group), np.random.default_rng([seed, 0])
    known = _classes(group)
    names = [_plain(name) for name in world.stabilisers] or list(known)
    members = [known[names[family % len(names)]] for family in range(world.families)]
    stabiliser_P = tuple(alike[rng.integers(len(alike))] for alike in members)
    drawn = [
        planted(
            group, each, 1, rng=rng, channels=world.channels, width=world.width, imperfect=world.imperfect,
            invariant_share=world.invariant_share,
        )
        for each in stabiliser_P
    ]  # fmt: skip
    prototype_PGC = torch.cat(drawn)
    prototype_PGC /= prototype_PGC.flatten(1).norm(dim=1)[:, None, None]
    return Truth(group=group, prototype_PGC=prototype_PGC, stabiliser_P=stabiliser_P)


def sample(truth: Truth, world: World, count: int, rng: np.random.Generator) -> Samples:
    """Draw samples: sums of a few families, and noise."""
    family_NA = _choices(world, count, rng)
    pose_NA = rng.integers(truth.group.order, size=family_NA.shape)
    pose_NA[rng.random(family_NA.shape) < world.upright] = 0
    size_NA = rng.uniform(*AMPLITUDES, family_NA.shape).astype(np.float32)
    acts_NGC = torch.empty(count, *truth.prototype_PGC.shape[1:])
    for first in range(0, count, _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        parts = [
            truth.posed(family_N, pose_N) * torch.from_numpy(size_N)[:, None, None]
            for family_N, pose_N, size_N in zip(family_NA[rows].T, pose_NA[rows].T, size_NA[rows].T, strict=True)
        ]
        acts_NGC[rows] = torch.stack(parts).sum(0)
    scale = (world.noise / (1 - world.noise) * float(acts_NGC.square().mean())) ** 0.5
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    acts_NGC += scale * torch.randn(acts_NGC.shape, generator=generator)
    return Samples(acts_NGC=acts_NGC, family_NA=family_NA, pose_NA=pose_NA)


def _choices(world: World, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(N, A) different families, the frequent ones more often: the first of exponential waiting times."""
    rate_P = np.arange(1, world.families + 1) ** -world.rarity
    return np.argsort(rng.exponential(size=(count, world.families)) / rate_P, axis=1)[:, : world.active]


def _classes(group: Group) -> dict[str, list[Subgroup]]:
    """Subgroups by the name of their class, the smallest first."""
    by_name: dict[str, list[Subgroup]] = {}
    for subgroup in group.subgroups():
        by_name.setdefault(_plain(subgroup.name), []).append(subgroup)
    return by_name


def _plain(name: str) -> str:
    return name.upper().replace("_", "")
