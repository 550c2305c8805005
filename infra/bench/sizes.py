"""Do larger dictionaries tile the circle, or find rarer features? Families, poses and what is new, over sizes.

    python -m jobs.harvest --images stimuli --max-stimuli 2000 --group D8 --out RUN
    python -m infra.bench sizes --run RUN [--sizes 64 128 256 512] [--seeds 0 1] [--json FILE]

Untied crosscoders that read all blocks, and tied ones with as many features (|G| times fewer prototypes), train alike.
Of each, on samples kept apart: how many features live, how many families they are (untied: with a feature alone as a
family too; tied: prototypes that are no copies of each other), what share of all poses a family covers (up to its
symmetry; beside it families of the same sizes whose members are in poses at random), the FVU, and what the living
features are to the dictionary of the next smaller size and the same seed: *known*, *turned* (a copy in another pose) or
*new*, and how often they fire.

The control: the smaller dictionary with its channels turned at random, in which nothing may be known.

Letters: R features (or prototypes), G group elements, C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import analyse, symmetry
from gc_core.config import AnalyseConfig, TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.families import growth
from gc_core.groups import Group, Subgroup
from gc_core.io.run_folder import RunFolder
from gc_core.scoring import Samples, Sums, encode_and_score
from gc_core.train import TrainingData, keep_freed_memory, open_data
from infra.bench import planted_chain as chain
from infra.bench.results import collected
from infra.bench.tables import number, show_table
from infra.bench.tying import cut, taught
from jobs.common import console
from jobs.common.options import cli

KINDS = {growth.KNOWN: "known", growth.TURNED: "turned", growth.NEW: "new"}
ROWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class SizesBench:
    """Measure what dictionaries gain by their size."""

    run: str
    """A run folder whose harvest is finished: a path or URL."""
    group: str | None = None
    """None for the store's, or a group inside it."""
    kinds: tuple[Literal["untied", "tied"], ...] = ("untied", "tied")
    sizes: tuple[int, ...] = (64, 128, 256, 512)
    """Features, ascending; multiples of the group's order for tied ones."""
    seeds: tuple[int, ...] = (0, 1)
    held_out: int = 500
    """Samples held out at least, of whole images drawn at random."""
    k: int = 8
    """Active features (of tied ones, prototypes); fewer where there are fewer prototypes."""
    steps: int = 300
    batch: int = 64
    json: Path | None = None
    """Write the results here: a list of flat objects, one a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """One training."""

    kind: str
    seed: int
    features: int
    rows: int
    """Rows of the weights: features, or prototypes."""
    k: int
    fvu: float | None
    """Held out; None where it is undefined."""
    living: int
    """Rows that are active in some sample that was held out."""
    families: int
    largest: int
    """Members of the largest."""
    alone: float
    """Share of the living rows that are alone."""
    coverage: float | None
    """Share of all poses that a family covers, mean over families; None, here and below, without any."""
    shared_coverage: float | None
    """... over families of at least two."""
    shared_coverage_by_chance: float | None
    density: float
    """Median share of the samples in which a living row is active."""
    shares: dict[str, float]
    """Share of the living rows that are known, turned or new to the next smaller dictionary; empty for the smallest."""
    densities: dict[str, float]
    """Median density of each."""
    control: float | None
    """Share that is known or turned to the smaller one with its channels turned at random."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench sizes`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(SizesBench, prog="python -m infra.bench sizes", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        show(collected(measure(options), options.json))


def measure(options: SizesBench) -> Iterator[Sized]:
    """Every kind from every seed in every size.

    Raises:
        ValueError: the sizes do not grow, or a tied one is no multiple of the group's order.
    """
    data = cut(open_data(RunFolder.at(options.run), TrainConfig(group=options.group)), None, options.held_out, 0)
    if list(options.sizes) != sorted(set(options.sizes)):
        raise ValueError(f"sizes: found {options.sizes}, expected different ones, the smallest first")
    for seed in options.seeds:
        for kind in options.kinds:
            smaller: Tensor | None = None
            for size in options.sizes:
                config = config_of(kind, size, options, data.num_elements, seed)
                model = taught(f"{kind}, {size} features, seed {seed}", config, data)[0].result
                row, smaller = judged(kind, size, config, model, data, smaller)
                yield row


def config_of(kind: str, size: int, options: SizesBench, order: int, seed: int) -> TrainConfig:
    """Options of one training; all sizes of a seed see the same samples.

    Raises:
        ValueError: a tied size is no multiple of the group's order.
    """
    sizes: dict[str, Any] = {"tying": "none", "dict_size": size, "encoder_reads": "all"}
    if kind == "tied":
        if size % order:
            raise ValueError(f"sizes: found {size}, expected multiples of {order}, the group's order, for tied poses")
        sizes = {"tying": "orbit", "prototypes": size // order}
    return TrainConfig(
        group=options.group, k=min(options.k, sizes.get("prototypes", size)), steps=options.steps,
        batch=options.batch, seed=seed, **sizes,
    )  # fmt: skip


def judged(
    kind: str, size: int, config: TrainConfig, model: Crosscoder, data: TrainingData, smaller: Tensor | None
) -> tuple[Sized, Tensor]:
    """A training's row, and its living decoder rows, to which the next size is compared."""
    density_R, fvu = fired(model, data)
    living_R, group = density_R > 0, model.group
    assert isinstance(group, Group), "poses are of groups of the plane"
    decoder_RGC = model.W_dec.detach()[torch.from_numpy(living_R)]
    told = {} if smaller is None else novelties(decoder_RGC, smaller, density_R[living_R], group, config)
    row = Sized(
        kind=kind,
        seed=config.seed,
        features=size,
        rows=len(density_R),
        k=config.k,
        fvu=fvu,
        living=int(living_R.sum()),
        density=float(np.median(density_R[living_R])) if living_R.any() else 0.0,
        shares=told.get("shares", {}),
        densities=told.get("densities", {}),
        control=told.get("control"),
        **tiling(decoder_RGC, group, tied=kind == "tied", seed=config.seed),
    )
    return row, decoder_RGC


@torch.no_grad()
def fired(model: Crosscoder, data: TrainingData) -> tuple[NDArray[np.float64], float | None]:
    """(R,) share of the held-out samples in which each row is active, and the FVU."""
    sums, rows = Sums.of(model), data.held_out_rows
    parts = (rows[first : first + ROWS_AT_ONCE] for first in range(0, len(rows), ROWS_AT_ONCE))
    count_R = torch.zeros(len(model.W_dec), dtype=torch.int64)
    for codes in encode_and_score(model, (Samples(data.read(part)) for part in parts), sums):
        count_R += (codes.z_BF > 0).sum(0)
    return count_R.double().numpy() / len(rows), sums.fvu()


def tiling(decoder_RGC: Tensor, group: Group, *, tied: bool, seed: int) -> dict[str, Any]:
    """What `Sized` tells of families and their poses. A tied prototype is in all poses."""
    config = AnalyseConfig().resolved(tied=False)
    label_R, pose_R = chain.families_of(decoder_RGC, group, config.family_similarity)
    stabilisers = stabilisers_of(decoder_RGC, group, config)
    members = [np.flatnonzero(label_R == label) for label in np.unique(label_R)]
    turned = [group.inverse[pose_R[each]] for each in members]
    # The representative's pose is the identity; of several in it any will do.
    first = [stabilisers[each[int(np.argmin(pose_R[each]))]] for each in members]
    share = [1.0 if tied else growth.covered(*pair, group) for pair in zip(turned, first, strict=True)]
    shared = [number for number, each in enumerate(members) if len(each) > 1]
    sizes, symmetries = [len(members[each]) for each in shared], [first[each] for each in shared]
    chance = 1.0 if tied else growth.covered_by_chance(sizes, symmetries, group, seed=seed)
    return {
        "families": len(members),
        "largest": max((len(each) for each in members), default=0),
        "alone": float(np.mean([len(each) == 1 for each in members for _ in each])) if members else 0.0,
        "coverage": float(np.mean(share)) if members else None,
        "shared_coverage": float(np.mean([share[each] for each in shared])) if shared else None,
        "shared_coverage_by_chance": chance if shared else None,
    }


def stabilisers_of(decoder_RGC: Tensor, group: Group, config: AnalyseConfig) -> list[Subgroup]:
    """As the analysis names them."""
    evidence = symmetry.evidence_of(decoder_RGC, group, surrogates=config.surrogates, seed=config.seed)
    return [each.subgroup for each in analyse.judge(evidence, group, config).verdict_F]


def novelties(
    decoder_RGC: Tensor, smaller_JGC: Tensor, density_R: NDArray[np.float64], group: Group, config: TrainConfig
) -> dict[str, Any]:
    """What living rows are to a smaller dictionary, how often they fire, and the control."""
    analysis = AnalyseConfig().resolved(tied=False)
    bounds = {"least_similarity": analysis.family_similarity, "invariant_share": analysis.invariant_share}
    told_R = growth.novelty(decoder_RGC, smaller_JGC, group, **bounds)
    if config.tying == "orbit":  # a turned prototype is the same one
        told_R = np.where(told_R == growth.TURNED, growth.KNOWN, told_R)
    rng = np.random.default_rng([config.seed, 10])
    channels = decoder_RGC.shape[2]
    turn_CC = torch.from_numpy(np.linalg.qr(rng.standard_normal((channels, channels)))[0]).to(decoder_RGC)
    control_R = growth.novelty(decoder_RGC, smaller_JGC @ turn_CC, group, **bounds)
    some = {name: told_R == kind for kind, name in KINDS.items()}
    return {
        "shares": {name: float(each.mean()) for name, each in some.items()},
        "densities": {name: float(np.median(density_R[each])) for name, each in some.items() if each.any()},
        "control": float((control_R != growth.NEW).mean()),
    }


def show(rows: Sequence[Sized]) -> None:
    """Two tables."""
    show_table(
        "families and poses, by size",
        ("kind", "features", "seed", "FVU", "living", "families", "largest", "alone", "coverage",
         "of two or more (by chance)"),
        [
            (each.kind, str(each.features), str(each.seed), number(each.fvu, 3), f"{each.living} of {each.rows}",
             str(each.families), str(each.largest), f"{each.alone:.0%}", number(each.coverage),
             f"{number(each.shared_coverage)} ({number(each.shared_coverage_by_chance)})")
            for each in rows
        ],
        left=("kind",),
    )  # fmt: skip
    show_table(
        "what living features are to the next smaller dictionary (how often they fire)",
        ("kind", "features", "seed", "density", *KINDS.values(), "control"),
        [
            (each.kind, str(each.features), str(each.seed), f"{each.density:.2%}",
             *(f"{each.shares[name]:.0%} ({each.densities.get(name, float('nan')):.2%})" for name in KINDS.values()),
             f"{each.control:.0%}")
            for each in rows
            if each.control is not None
        ],
        left=("kind",),
    )  # fmt: skip
