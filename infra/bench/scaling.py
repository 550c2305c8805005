"""Does a symmetry that is found under an L1 penalty survive? Latent scaling of every block, and what it makes of words.

    python -m jobs.harvest --images stimuli --max-stimuli 4000 --group D8 --out RUN
    python -m infra.bench scaling --run RUN [--seeds 0 1 2] [--json FILE]

A penalty shrinks codes and blocks, so that a weak or absent block may be its doing. Untied crosscoders train with an L1
penalty (on the norm over all blocks, and on the sum of the blocks' norms, which favours few blocks) and with batch
top-k. On samples kept apart every block gets the factor by which it should be longer (`gc_core.evaluate.scaling`), and
the analysis names the symmetry of each feature as it was learned, with its blocks scaled by these factors, and with
blocks fitted anew. Then features of different penalties are paired, each with the most similar in any pose, and their
words compared; beside it pairs of two seeds of one penalty, and words dealt out at random.

The control: codes dealt out to other samples, whose factors (for the activation less its mean) must be near 0.

Letters: N samples, R features, G group elements, C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from gc_core.config import TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.evaluate import latent_scaling
from gc_core.groups import of_the_plane
from gc_core.io.run_folder import RunFolder
from gc_core.scoring import Samples, Sums, encode_and_score
from gc_core.train import TrainingData, keep_freed_memory, open_data
from infra.bench.results import collected
from infra.bench.scaling_scores import Agreement, Dictionary, agreement, factors, same_words, words_of
from infra.bench.tables import number, show_table
from infra.bench.tying import cut, taught
from jobs.common import console
from jobs.common.options import cli

PENALTIES: dict[str, dict[str, Any]] = {
    "batchtopk": {"activation": "batchtopk"},
    "l1": {"activation": "l1", "norm_over": "joint"},
    "l1_blocks": {"activation": "l1", "norm_over": "blocks"},
}
ROWS_AT_ONCE = 256
LEFT = ("penalty", "other")


@dataclass(frozen=True, kw_only=True)
class ScalingBench:
    """Measure what penalties do to blocks, and to symmetries."""

    run: str
    """A run folder whose harvest is finished: a path or URL."""
    group: str | None = None
    """None for the store's, or a group inside it."""
    penalties: tuple[Literal["batchtopk", "l1", "l1_blocks"], ...] = ("batchtopk", "l1", "l1_blocks")
    seeds: tuple[int, ...] = (0, 1, 2)
    held_out: int = 1500
    """Samples held out at least, of whole images drawn at random: factors are found on them."""
    features: int = 256
    k: int = 8
    l1_share: float = 0.04
    """The L1 coefficient over sqrt(G C), of the sum of the blocks' norms over sqrt(C); 0.04 is the default of
    `jobs.train`."""
    steps: int = 400
    batch: int = 128
    least_fired: int = 20
    """Held-out samples in which a feature must be active to be judged."""
    least_similarity: float = 0.7
    """Of two features that are paired."""
    json: Path | None = None
    """Write the results here: a list of flat objects, one a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """One training; shares and medians over the blocks of judged features."""

    penalty: str
    seed: int
    fvu: float | None
    l0: float
    living: int
    judged: int
    weak: float
    """Share of the blocks that are weak."""
    factor: float
    """Median factor for what other features leave over."""
    weak_factor: float | None
    above: float
    """Share of the blocks whose factor is above 1 by more than chance (two-sided 95% interval over images)."""
    below: float
    uneven: float
    """Median over features of the factors' deviation over blocks, over their mean: what changes a feature's shape."""
    uneven_by_chance: float
    """The same if all factors of a feature were equal, by their standard errors."""
    filled: float | None
    """Share of the weak blocks that are weak no longer once fitted anew."""
    others: float
    """Median factor for what the other features say."""
    dealt: float
    """The control: median factor for the activation, of codes of other samples."""
    words: dict[str, float]
    """Share of the judged features with each word."""
    same_scaled: float
    """Share of the judged features that keep their word when their blocks are scaled."""
    same_refitted: float
    """... when they are fitted anew."""
    pairs: list[Agreement] = field(default_factory=list)
    """With each dictionary before it."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench scaling`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(ScalingBench, prog="python -m infra.bench scaling", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        show(collected(measure(options), options.json))


def measure(options: ScalingBench) -> Iterator[Scaled]:
    """Every penalty with every seed, each compared with all that came before it."""
    data = cut(open_data(RunFolder.at(options.run), TrainConfig(group=options.group)), None, options.held_out, 0)
    known: list[Dictionary] = []
    for seed in options.seeds:
        for penalty in options.penalties:
            model = taught(f"{penalty}, seed {seed}", config_of(penalty, options, seed, data), data)[0].result
            row, dictionary = judged(penalty, seed, model, data, options)
            of_earlier = [
                agreement(dictionary, each, of_the_plane(model.group), options.least_similarity) for each in known
            ]
            known.append(dictionary)
            yield replace(row, pairs=of_earlier)


def config_of(penalty: str, options: ScalingBench, seed: int, data: TrainingData) -> TrainConfig:
    """Options of one training; all of a seed see the same samples in the same order."""
    numbers = data.channels * (1 if penalty == "l1_blocks" else data.num_elements)
    return TrainConfig(
        group=options.group, tying="none", dict_size=options.features, encoder_reads="all", k=options.k,
        l1_coefficient=options.l1_share * numbers**0.5, steps=options.steps, batch=options.batch, seed=seed,
        **PENALTIES[penalty],
    )  # fmt: skip


def judged(
    penalty: str, seed: int, model: Crosscoder, data: TrainingData, options: ScalingBench
) -> tuple[Scaled, Dictionary]:
    """What a penalty did to the features that fire often enough on held-out samples."""
    batches = list(_batches(data))
    sums = Sums.of(model)
    l0_N = torch.cat([(codes.z_BF > 0).sum(1) for codes in encode_and_score(model, batches, sums)])
    found = latent_scaling(model, batches)
    dealt = latent_scaling(model, batches, dealt=torch.Generator().manual_seed(seed))
    often_R = found.fired_R >= options.least_fired
    if not often_R.any():
        raise ValueError(f"least-fired: no feature is active in {options.least_fired} samples; hold out more")
    decoder_RGC = model.W_dec.detach()
    factor_RG = torch.from_numpy(np.nan_to_num(found.error_RG))[:, :, None].float()
    forms = [decoder_RGC, decoder_RGC * factor_RG, found.refitted_RGC]
    words = [words_of(form[torch.from_numpy(often_R)], of_the_plane(model.group)) for form in forms]
    row = Scaled(
        penalty=penalty,
        seed=seed,
        fvu=sums.fvu(),
        l0=float(l0_N.double().mean()),
        living=int((found.fired_R > 0).sum()),
        judged=int(often_R.sum()),
        **factors(decoder_RGC, found, often_R),
        dealt=float(np.nanmedian(dealt.total_RG[often_R])),
        words={word: words[0].count(word) / len(words[0]) for word in sorted(set(words[0]))},
        same_scaled=same_words(words[0], words[1]),
        same_refitted=same_words(words[0], words[2]),
    )
    mine = Dictionary(penalty=penalty, seed=seed, decoder_RGC=decoder_RGC[torch.from_numpy(often_R)], words_R=words[0])
    return row, mine


def _batches(data: TrainingData) -> Iterator[Samples]:
    _, image_N = np.unique(data.store.image[data.held_out_rows], return_inverse=True)
    for first in range(0, len(data.held_out_rows), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        yield Samples(data.read(data.held_out_rows[some]), torch.from_numpy(image_N[some]))


def show(rows: Sequence[Scaled]) -> None:
    """Three tables."""
    show_table(
        "factors of blocks, on held-out samples",
        ("penalty", "seed", "FVU", "L0", "judged", "factor", "above 1", "below 1", "others", "control"),
        [
            (each.penalty, str(each.seed), number(each.fvu), f"{each.l0:.1f}", f"{each.judged} of {each.living}",
             f"{each.factor:.2f}", f"{each.above:.0%}", f"{each.below:.0%}", f"{each.others:.2f}", f"{each.dealt:.2f}")
            for each in rows
        ],
        left=LEFT,
    )  # fmt: skip
    show_table(
        "shapes and symmetries",
        ("penalty", "seed", "weak", "their factor", "filled", "uneven (by chance)", "same word scaled", "refitted"),
        [
            (each.penalty, str(each.seed), f"{each.weak:.1%}", number(each.weak_factor), number(each.filled),
             f"{each.uneven:.3f} ({each.uneven_by_chance:.3f})", f"{each.same_scaled:.0%}", f"{each.same_refitted:.0%}")
            for each in rows
        ],
        left=LEFT,
    )  # fmt: skip
    show_table(
        "the same features of two dictionaries",
        ("penalty", "seed", "other", "seed", "partners", "same word (dealt)"),
        [
            (each.penalty, str(each.seed), pair.penalty, str(pair.seed), f"{pair.partners:.0%}",
             f"{number(pair.same)} ({number(pair.dealt)})")
            for each in rows
            for pair in each.pairs
        ],
        left=LEFT,
    )  # fmt: skip
