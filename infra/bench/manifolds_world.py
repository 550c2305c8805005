"""Sums of points on known manifolds, after the toy of Fel et al. 2026 (arXiv 2606.25234), and a group that turns them.

A factor is a manifold in three dimensions, laid into the channels by a random frame; half of them are lines. A sample
is the sum of a point on each of a few factors, and noise. That much is theirs. The group is ours: C_n turns circle,
disk, sphere, torus and Moebius strip about an axis that leaves each as a whole where it is, all by the same angle, as
turning a picture turns all that is in it; lines, Swiss rolls and helices have no such axis and stay as they are. Block
g of a sample is the sum after g; block 0 is the sample itself.

Letters: B samples, A active factors, I factors, G group elements, C channels, D the 3 dimensions, N points.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gc_core import groups
from gc_core.groups import Group
from infra.bench.synthetic_world import generator_of

DIMENSIONS = 3
POINTS = 200_000
"""Drawn once of every shape, for its mean and its size."""
_TURN = 2 * math.pi


def _line(first: Tensor, _second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return 0.5 + first, 0 * first, 0 * first


def _signed_line(first: Tensor, _second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return 2 * first - 1, 0 * first, 0 * first


def _circle(first: Tensor, _second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (_TURN * first).cos(), (_TURN * first).sin(), 0 * first


def _disk(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    radius = second.sqrt()
    return radius * (_TURN * first).cos(), radius * (_TURN * first).sin(), 0 * first


def _sphere(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    height = 2 * second - 1
    radius = (1 - height**2).sqrt()
    return radius * (_TURN * first).cos(), radius * (_TURN * first).sin(), height + 0 * first


def _torus(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    radius = 1 + 0.5 * (_TURN * second).cos()
    return radius * (_TURN * first).cos(), radius * (_TURN * first).sin(), 0.5 * (_TURN * second).sin() + 0 * first


def _moebius(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Twice round, after which the strip's width stands as before: one turn would exchange its edges."""
    half, width = _TURN * first, second - 0.5
    radius = 1 + width * half.cos()
    return radius * (2 * half).cos(), radius * (2 * half).sin(), width * half.sin()


def _swiss_roll(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    angle = 1.5 * math.pi * (1 + 2 * first)
    return angle * angle.cos() / 10, angle * angle.sin() / 10, 2 * second - 1 + 0 * first


def _helix(first: Tensor, _second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (2 * _TURN * first).cos(), (2 * _TURN * first).sin(), 2 * first - 1


Points = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
LINES: dict[str, Points] = {"line": _line, "signed line": _signed_line}
SURFACES: dict[str, Points] = {
    "circle": _circle, "disk": _disk, "sphere": _sphere, "torus": _torus, "moebius": _moebius,
    "swiss roll": _swiss_roll, "helix": _helix,
}  # fmt: skip
TURNED = ("circle", "disk", "sphere", "torus", "moebius")
"""Shapes that the group turns: their first number is an angle, in turns."""
FLAT = {"line": 1, "signed line": 1, "circle": 2, "disk": 2}
"""Dimensions of the shapes that do not fill three."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The factors, and what samples are made of."""

    group: str = "C16"
    factors: int = 128
    channels: int = 128
    active: int = 4
    """Different factors in a sample."""
    noise: float = 0.01
    """Share of the samples' energy that is noise."""
    signed_lines: bool = False
    """Lines go through zero to both sides; otherwise their points lie between 0.5 and 1.5 of a direction."""

    def __post_init__(self) -> None:
        if groups.parse(self.group).has_mirrors:
            raise ValueError(f"group: found {self.group}, expected a cyclic one such as C16; no mirror is defined here")
        if not 1 <= self.active <= self.factors:
            raise ValueError(f"active: found {self.active}, expected 1 to factors ({self.factors})")
        if self.channels < DIMENSIONS:
            raise ValueError(f"channels: found {self.channels}, expected at least {DIMENSIONS}")
        if not 0 <= self.noise < 1:
            raise ValueError(f"noise: found {self.noise}, expected a share of one, less than all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The factors."""

    group: Group
    shape_I: tuple[str, ...]
    frame_IDC: Tensor
    """Orthonormal rows; a line uses the first, circle and disk two."""
    mean: dict[str, Tensor]
    """(3,) of each shape's points; zero for lines, which are active where they are not zero."""
    size: dict[str, float]
    """Root of the mean squared norm about that."""

    @property
    def used_frame_IDC(self) -> Tensor:
        """The frames' rows that the factors use; zeros in place of the others."""
        used_I = torch.tensor([FLAT.get(shape, DIMENSIONS) for shape in self.shape_I])
        return self.frame_IDC * (torch.arange(DIMENSIONS) < used_I[:, None])[:, :, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples, and what is in each."""

    acts_BGC: Tensor
    factor_BA: Tensor
    part_BAC: Tensor
    """What each active factor adds to block 0; mean squared norm 1."""


def plant(world: World, seed: int) -> Truth:
    """Draw the factors' frames: lines first, then the other shapes in turn."""
    generator = generator_of(0, seed)
    num_lines, names = (world.factors + 1) // 2, list(SURFACES)
    line = "signed line" if world.signed_lines else "line"
    shapes = [line] * num_lines + [names[number % len(names)] for number in range(world.factors - num_lines)]
    drawn_ICD = torch.randn(world.factors, world.channels, DIMENSIONS, generator=generator)
    mean, size = {}, {}
    for name in {line, *names}:
        first_N, second_N = torch.rand(2, POINTS, generator=generator)
        points_ND = torch.stack((LINES | SURFACES)[name](first_N, second_N), dim=1)
        mean[name] = points_ND.mean(0) * (name not in LINES)
        size[name] = float((points_ND - mean[name]).square().sum(1).mean().sqrt())
    return Truth(
        group=groups.parse(world.group), shape_I=tuple(shapes), mean=mean, size=size,
        frame_IDC=torch.linalg.qr(drawn_ICD).Q.transpose(1, 2).contiguous(),
    )  # fmt: skip


def batches(
    truth: Truth, world: World, batch: int, count: int, purpose: int, seed: int, *, blocks: int | None = None
) -> Iterator[Batch]:
    """So many batches, the same for the same purpose and seed; the first so many blocks of them are made (None: all),
    and do not depend on how many."""
    for number in range(count):
        yield sample(truth, world, batch, purpose, seed, number, blocks=blocks)


def sample(
    truth: Truth, world: World, count: int, purpose: int, seed: int, number: int, *, blocks: int | None = None
) -> Batch:
    """Draw samples."""
    generator = generator_of(purpose, seed, number=number)
    order = truth.group.order if blocks is None else blocks
    factor_BA = torch.rand(count, world.factors, generator=generator).topk(world.active, dim=1).indices
    first_BA, second_BA = torch.rand(2, count, world.active, generator=generator)
    coordinate_BGAD = coordinates(truth, factor_BA, first_BA, second_BA, order)
    frame_BADC = truth.frame_IDC[factor_BA]
    acts_BGC = coordinate_BGAD.flatten(2) @ frame_BADC.flatten(1, 2)
    part_BAC = torch.einsum("bad,badc->bac", coordinate_BGAD[:, 0], frame_BADC)
    scale = (world.noise / (1 - world.noise) * world.active / world.channels) ** 0.5
    for block_BC in acts_BGC.unbind(1):
        block_BC += scale * torch.randn(block_BC.shape, generator=generator)
    return Batch(acts_BGC=acts_BGC, factor_BA=factor_BA, part_BAC=part_BAC)


def coordinates(truth: Truth, factor_BA: Tensor, first_BA: Tensor, second_BA: Tensor, blocks: int) -> Tensor:
    """(B, G, A, 3) points of the factors, two uniform numbers each, after the first so many elements of the group."""
    turns_G1 = torch.arange(blocks)[:, None] / truth.group.order
    point_BGAD = torch.zeros(len(factor_BA), blocks, factor_BA.shape[1], DIMENSIONS)
    numbers = {name: index for index, name in enumerate(truth.mean)}
    shape_BA = torch.tensor([numbers[name] for name in truth.shape_I])[factor_BA]
    for name, number in numbers.items():
        row_N, place_N = torch.nonzero(shape_BA == number, as_tuple=True)
        first_GN = first_BA[row_N, place_N] + turns_G1 * (name in TURNED)
        points_GND = torch.stack((LINES | SURFACES)[name](first_GN, second_BA[row_N, place_N].expand_as(first_GN)), 2)
        point_BGAD[row_N, :, place_N] = ((points_GND - truth.mean[name]) / truth.size[name]).transpose(0, 1)
    return point_BGAD
