"""Are planted families found? Samples of which every family, pose and symmetry is known, and crosscoders of them.

    python -m infra.bench planted [--group D8] [--families 12] [--seeds 0 1] [--json FILE]
    python -m infra.bench planted --families 8 --invariant 4 --invariant-prototypes 6

A family is a prototype of random blocks in every pose of the group; a third of them have no symmetry, a third one
mirror, a third repeat after half a turn; `--invariant` adds some with all blocks equal. A sample is a few families,
each in one pose, and noise. Judged are the mean,
over all planted features, of the largest cosine with a learned one, and how far learned families are the planted ones
(adjusted Rand index over the living features, each counted to the planted family that it is nearest to).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from gc_core import groups
from gc_core.config import AnalyseConfig, TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.initialise import FirstSamples
from gc_core.families import family_similarity, group_families
from gc_core.groups import Group
from gc_core.scoring import Samples, Sums, encode_and_score
from gc_core.symmetry import translate
from gc_core.train import Trainer, Worker, keep_freed_memory, resolve
from infra.bench import stabilisers
from infra.bench.results import write_results
from infra.bench.stabilisers import Named
from infra.bench.training import Size, empty_data
from infra.bench.verdict import verdict
from jobs.common import console
from jobs.common.options import cli

LEAST_RAND_INDEX, LEAST_COSINE = 0.99, 0.95
HELD_OUT_ROWS = 2000
LEAST_DENSITY = 1e-3
"""Least share of held-out samples that a living feature fires on."""
SMOOTH_WIDTH, IMPERFECT = 3.0, 0.1
"""Width of smoothing and imperfect share of the dictionaries whose stabilisers are named; `python -m infra.bench
stabilisers` has the curve."""
DUPLICATES = 0.9
"""Prototypes more alike than this, up to pose, are one family learned twice."""


@dataclass(frozen=True, kw_only=True)
class PlantedBench:
    """Recover planted families."""

    group: str = "D8"
    families: int = 12
    invariant: int = 0
    """More families, with all blocks equal."""
    channels: int = 64
    rows: int = 10_000
    active: int = 3
    """Families in a sample; k of the crosscoders too."""
    noise: float = 0.02
    """Standard deviation of each number, where a family's blocks have norm 1 together."""
    prototypes: int = 16
    invariant_prototypes: int = 0
    """Number of these prototypes with all blocks equal."""
    features: int = 256
    """Features of the untied crosscoder."""
    steps: int = 1500
    batch: int = 256
    seeds: tuple[int, ...] = (0, 1)
    json: Path | None = None
    """Write the results here: a list of flat objects, one a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """What is to be found, and samples of it."""

    group: Group
    prototypes_PGC: Tensor
    acts_NGC: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One training."""

    kind: str
    seed: int
    rand_index: float
    mean_cosine: float
    num_families: int
    """Learned ones with living members."""
    held_out_fvu: float
    invariant_cosine: float | None
    """`mean_cosine` of planted families with equal blocks to prototypes that have them too; None without."""
    oracle_stabiliser_accuracy: float
    """Share of right stabilisers where the analysis is given a planted dictionary over the same group and channels:
    every class of subgroups, smooth over rotation, half of the energy invariant, a tenth of the rest imperfect."""
    null_false_positive_rate: float
    """Share of features without symmetry, as smooth, that are given one."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench planted`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(PlantedBench, prog="python -m infra.bench planted", args=args, description=__doc__)
        keep_freed_memory()
        found: list[Outcome] = []
        for seed in options.seeds:
            truth = plant(options, seed)
            named = stabilisers.measure(
                truth.group, width=SMOOTH_WIDTH, imperfect=IMPERFECT, channels=options.channels, each=8, seed=seed
            )
            for kind in ("tied", "untied"):
                found.append(measure(kind, options, truth, named, seed))
                if options.json is not None:
                    write_results(options.json, [asdict(each) for each in found])
        show(found)


def plant(options: PlantedBench, seed: int) -> Planted:
    """Prototypes of norm 1, and `rows` samples with HELD_OUT_ROWS more behind them."""
    group, rng = groups.parse(options.group), np.random.default_rng(seed)
    blocks = rng.standard_normal((options.families, group.order, options.channels))
    symmetric = [_symmetric(each, number % 3, group) for number, each in enumerate(blocks)]
    equal = rng.standard_normal((options.invariant, 1, options.channels)).repeat(group.order, axis=1)
    prototypes = np.stack([*symmetric, *equal])
    prototypes /= np.linalg.norm(prototypes.reshape(len(prototypes), -1), axis=1)[:, None, None]
    acts = options.noise * rng.standard_normal((options.rows + HELD_OUT_ROWS, group.order, options.channels))
    for sample in acts:
        for p in rng.choice(len(prototypes), options.active, replace=False):
            sample += rng.uniform(0.5, 1.5) * prototypes[p][group.cayley[:, rng.integers(group.order)]]
    made = (torch.from_numpy(each.astype(np.float32)) for each in (prototypes, acts))
    return Planted(group=group, prototypes_PGC=next(made), acts_NGC=next(made))


def _symmetric(blocks_GC: NDArray[np.float64], kind: int, group: Group) -> NDArray[np.float64]:
    """Make blocks the same after nothing (kind 0: as given, twice as large), one mirror (1) or half a turn (2)."""
    partner = [0, group.n if group.has_mirrors else 0, group.n // 2][kind]
    return blocks_GC + blocks_GC[group.cayley[:, partner]]


def measure(kind: str, options: PlantedBench, truth: Planted, named: Named, seed: int) -> Outcome:
    """Train, and compare with what was planted; `named` is how the analysis does without training."""
    trainer = _trained(kind, options, truth, seed)
    model, held_out_BGC = trainer.exported(), truth.acts_NGC[options.rows :]
    assert model is not None, "one worker has the whole crosscoder"
    sums = Sums.of(model)
    (codes,) = encode_and_score(model, [Samples(held_out_BGC)], sums)
    living_NGC = model.W_dec.detach()[(codes.z_BF > 0).double().mean(0) > LEAST_DENSITY]
    label_N = families_of(living_NGC, truth.group, 0.5 if kind == "untied" else DUPLICATES)
    similarity_NP = _cosines(living_NGC, truth)
    return Outcome(
        kind=kind,
        seed=seed,
        rand_index=float(adjusted_rand_score(similarity_NP.amax(2).argmax(1).numpy(), label_N)),
        mean_cosine=float(similarity_NP.amax(0).mean() if kind == "untied" else similarity_NP.amax((0, 2)).mean()),
        num_families=len(np.unique(label_N)),
        held_out_fvu=sums.fvu() or 0.0,
        invariant_cosine=_invariant_cosine(model, truth, options),
        oracle_stabiliser_accuracy=named.oracle_stabiliser_accuracy,
        null_false_positive_rate=named.null_false_positive_rate,
    )


def _invariant_cosine(model: Crosscoder, truth: Planted, options: PlantedBench) -> float | None:
    if not options.invariant or not model.shape.invariant:
        return None
    cosine_NPH = _cosines(model.W_dec.detach()[: model.shape.invariant], truth)
    return float(cosine_NPH[:, options.families :].amax((0, 2)).mean())


def families_of(rows_NGC: Tensor, group: Group, least_similarity: float) -> NDArray[np.int64]:
    """(N,) a number for each family of decoder rows; a row alone is a family too."""
    share = AnalyseConfig().invariant_share
    similarity, pose = (each.numpy() for each in family_similarity(rows_NGC, rows_NGC, group, invariant_share=share))
    family_N = group_families(similarity, pose, least_similarity=least_similarity).family_F
    return np.where(family_N < 0, len(family_N) + np.arange(len(family_N)), family_N)


def _cosines(rows_NGC: Tensor, truth: Planted) -> Tensor:
    """(N, P, H) of learned rows with every planted feature."""
    unit = torch.nn.functional.normalize(rows_NGC.flatten(1), dim=1)
    poses = (translate(truth.prototypes_PGC, h, truth.group).flatten(1) for h in range(truth.group.order))
    return torch.stack([unit @ planted.T for planted in poses], dim=2)


def _trained(kind: str, options: PlantedBench, truth: Planted, seed: int) -> Trainer:
    sizes: dict[str, Any] = {
        "tying": "orbit",
        "prototypes": options.prototypes,
        "invariant_prototypes": options.invariant_prototypes,
    }
    if kind == "untied":
        sizes = {"tying": "none", "dict_size": options.features, "encoder_reads": "all"}
    config = TrainConfig(
        group=options.group, k=options.active, steps=options.steps, batch=options.batch, seed=seed, augment=False,
        learning_rate=3e-3, **sizes,
    )  # fmt: skip
    size = Size(group=options.group, channels=options.channels, features=options.features)
    data, train_NGC = empty_data(size, options.rows), truth.acts_NGC[: options.rows]
    scale = (options.channels * train_NGC[..., 0].numel() / train_NGC.square().sum()).sqrt()
    data = replace(data, scale=float(scale))
    first = FirstSamples.of(train_NGC[torch.randperm(1024, generator=torch.Generator().manual_seed(seed))] * data.scale)
    trainer = Trainer(resolve(config, data), data, Worker(), first)
    rng = np.random.default_rng([seed, 1])
    with console.progress(f"{kind}, seed {seed}", options.steps, "steps") as meter:
        for step in range(options.steps):
            rows = torch.from_numpy(rng.integers(options.rows, size=options.batch))
            trainer.advance(train_NGC[rows] * data.scale)
            meter.set(step + 1)
    return trainer


def show(found: Sequence[Outcome]) -> None:
    """The table, and whether tied ones find all."""
    table = Table(title="planted families")
    for heading in ("kind", "seed", "adjusted Rand index", "mean cosine", "invariant ones", "families", "held-out FVU"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for each in found:
        equal = "" if each.invariant_cosine is None else f"{each.invariant_cosine:.3f}"
        numbers = (f"{each.rand_index:.3f}", f"{each.mean_cosine:.3f}", equal, str(each.num_families))
        table.add_row(each.kind, str(each.seed), *numbers, f"{each.held_out_fvu:.4f}")
    console.console.print(table)
    for each in (one for one in found if one.kind == "tied"):
        what = f"tied, seed {each.seed}: Rand index {each.rand_index:.3f}, cosine {each.mean_cosine:.3f}"
        reached = each.rand_index >= LEAST_RAND_INDEX and each.mean_cosine >= LEAST_COSINE
        console.console.print(verdict(reached, f"{what}; wanted {LEAST_RAND_INDEX} and {LEAST_COSINE}"))
