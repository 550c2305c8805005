"""Mirrors by strength and by p-value: planted ones, features without any, and one harmonic in one direction.

    python -m infra.figures chance --out docs/chance.png

Nothing is trained. Over D_16, 64 channels: *planted* features have one mirror, smooth over rotation, 30% of the
changing energy without symmetry; features with *none* are as smooth, in all directions of the channels or in two alone;
of the last kind the changing part is one harmonic along one direction, which is mirror-symmetric by necessity and so no
evidence of anything.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups, symmetry
from gc_core.groups import Group
from infra.bench.planted_symmetries import changing_unit, planted
from infra.figures.paper import BLUE, FAINT, GREY, ORANGE, PINK, headed, panels, save
from jobs.common import console
from jobs.common.options import cli

GROUP, CHANNELS, WIDTH, FEW, IMPERFECT, THRESHOLD = "D16", 64, 2.0, 2, 0.3, 0.5
LEAST_P = 5e-4
"""Where the axis of p begins: a little below the least p that 999 surrogates give."""
CAPTION = (
    "Each dot is a planted feature over D$_{16}$. Left: strength above 0.5 (dashed) alone would call it a mirror; of "
    "the orange and pink ones p tells that it means nothing.\nRight: without symmetry p must not be below x more often "
    "than x (dotted); planted mirrors all have the least p that 999 surrogates give."
)


@dataclass(frozen=True, kw_only=True)
class ChanceFigure:
    """Draw what strength and p-value say of planted features."""

    out: Path
    """A file that ends in .png, .svg or .pdf."""
    features: int = 300
    """Features of each kind."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Features of one kind, asked for one mirror about any axis."""

    name: str
    colour: str
    strength_F: NDArray[np.float64]
    p_F: NDArray[np.float64]


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.figures chance`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(ChanceFigure, prog="python -m infra.figures chance", args=args, description=__doc__)
        draw(judged(options.features, options.seed), options.out)
        console.say(f"figure: {options.out}")


def judged(count: int, seed: int) -> list[Judged]:
    """The four kinds."""
    group, rng = groups.parse(GROUP), np.random.default_rng(seed)
    none, mirror = group.subgroups()[0], next(each for each in group.subgroups() if each.name == "D_1")
    some = {"channels": CHANNELS, "width": WIDTH}
    kinds = [
        ("planted mirror", BLUE, planted(group, mirror, count, rng=rng, imperfect=IMPERFECT, **some)),
        ("no symmetry", GREY, planted(group, none, count, rng=rng, **some)),
        ("no symmetry, two directions", PINK, planted(group, none, count, rng=rng, directions=FEW, **some)),
        ("one harmonic in one direction", ORANGE, one_harmonic(group, count, rng)),
    ]
    return [_judged(name, colour, decoder_FGC, group) for name, colour, decoder_FGC in kinds]


def one_harmonic(group: Group, count: int, rng: np.random.Generator) -> Tensor:
    """(F, G, C) whose changing part is the first harmonic along one direction, in both halves; half of the energy does
    not change."""
    angle_FG = 2 * np.pi * (np.tile(np.arange(group.n), 2) / group.n)
    phase_F2 = 2 * np.pi * rng.integers(2 * group.n, size=(count, 2)) / (2 * group.n)
    wave_FG = np.cos(angle_FG + np.repeat(phase_F2, group.n, axis=1))
    direction_FC, level_FC = rng.standard_normal((2, count, CHANNELS))
    changing_FGC = changing_unit(wave_FG[:, :, None] * direction_FC[:, None])
    level_FC /= np.linalg.norm(level_FC, axis=1, keepdims=True) * group.order**0.5
    return torch.from_numpy((changing_FGC + level_FC[:, None]).astype(np.float32))


def draw(kinds: list[Judged], path: Path) -> None:
    """The figure's file."""
    figure, (left, right) = panels(2, height=4.6, title="A mirror is more than a strong similarity", caption=CAPTION)
    headed(left, "every feature", "strength: self-similarity under its best mirror", "p: as strong by chance")
    headed(right, "how often p is small", "x", "share of features with p ≤ x")
    for kind in kinds:
        shown_p = np.maximum(kind.p_F, LEAST_P)
        left.scatter(kind.strength_F, shown_p, s=9, alpha=0.5, color=kind.colour, linewidths=0)
        right.ecdf(kind.p_F, color=kind.colour, linewidth=1.8, label=kind.name)
    left.axvline(THRESHOLD, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    left.set(yscale="log", ylim=(LEAST_P, 1.6), xlim=(-0.55, 1.05))
    right.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="dotted")
    right.set(xlim=(-0.01, 1.01), ylim=(0, 1.03))
    right.legend(loc="upper left", bbox_to_anchor=(0.02, 0.99), frameon=False, fontsize=9)
    save(figure, path)


def _judged(name: str, colour: str, decoder_FGC: Tensor, group: Group) -> Judged:
    evidence = symmetry.evidence_of(decoder_FGC, group)
    q = next(number for number, one in enumerate(symmetry.classes(group)) if one.has_mirrors and one.num_rotations == 1)
    return Judged(name=name, colour=colour, strength_F=evidence.strength_FQ[:, q], p_F=evidence.p_FQ[:, q])
