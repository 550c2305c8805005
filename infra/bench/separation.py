"""Do families keep kinds of stimuli apart, and do curves differ from lines? The paper's two claims, as numbers.

    python -m jobs.pipeline --images stimuli --max-stimuli 2000 --group D16 --out RUN
    python -m infra.bench separation --run RUN [--seeds 0 1 2] [--json FILE]

On a store of drawn stimuli, whose kinds (line, curve, corner, circle, grating) are known, tied and untied group
crosscoders and a sparse autoencoder of the untransformed block train alike. On stimuli kept apart every feature gets
the kind that drives it most, and is told of:

- *purity*: the share of all activity that lies in each family's own kind, next to families of the same sizes dealt out
  at random. A family is a prototype where poses are tied, else what `jobs.analyse` finds; of the autoencoder also at
  the bound of similarity that suits it best, which nobody could know;
- *Rand index* (adjusted) of kinds and families, over features that are not alone;
- *silhouette* of the kinds under the similarity of features, up to pose where there is a group;
- the words for the symmetry of the features of each kind, and the share of their changing part in each harmonic of
  rotation, with 95% intervals over features (of selective ones, `--least-selectivity`).

The control has the stimuli's kinds dealt out at random: purity must fall to chance, and nothing be told apart.

Letters: N samples, R features (or prototypes), G group elements, C channels, K kinds, J harmonics.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from gc_core import manifest
from gc_core.config import AnalyseConfig, TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.evaluate import classes_of
from gc_core.families import family_similarity
from gc_core.groups import Group
from gc_core.io.run_folder import RunFolder
from gc_core.symmetry import changing_part
from gc_core.symmetry.harmonics import coefficients
from gc_core.train import TrainingData, keep_freed_memory, open_data
from infra.bench import planted_chain as chain
from infra.bench import separation_scores as scores
from infra.bench.results import collected
from infra.bench.tying import cut, taught
from jobs.common import console
from jobs.common.options import cli

HARMONICS = 4


@dataclass(frozen=True, kw_only=True)
class SeparationBench:
    """Measure how features of drawn stimuli separate."""

    run: str
    """A run folder whose harvest of drawn stimuli is finished: a path or URL."""
    kinds: tuple[Literal["tied", "untied", "sae"], ...] = ("tied", "untied", "sae")
    seeds: tuple[int, ...] = (0, 1, 2)
    held_out: int = 500
    """Samples held out at least, of whole stimuli drawn at random: features are judged on them."""
    prototypes: int = 64
    features: int = 512
    """Features of the untied crosscoder and of the autoencoder."""
    k: int = 8
    steps: int = 600
    batch: int = 128
    least_selectivity: float = 0.5
    """Share of a feature's activity that its kind must have for the feature to count in the second table."""
    json: Path | None = None
    """Write the results here: a list of flat objects, one a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """One dictionary, judged by the stimuli's kinds or by kinds dealt out at random."""

    kind: str
    seed: int
    control: bool
    living: int
    families: int
    fvu: float | None
    """Held out; None where it is undefined."""
    purity: float
    dealt_purity: float
    best_purity: float | None
    """Of the autoencoder, where its families' bound is the one that gives most above chance."""
    best_dealt_purity: float | None
    rand_index: float | None
    silhouette: float | None
    stimuli: dict[str, dict[str, Any]]
    """By kind of stimulus: its selective features, the share with each word, and the harmonics."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench separation`."""
    with console.one_line_errors(remedy="Results so far are in the --json file."):
        options = cli(SeparationBench, prog="python -m infra.bench separation", args=args, description=__doc__)
        torch.set_num_threads(1)
        keep_freed_memory()
        show(collected(measure(options), options.json))


def measure(options: SeparationBench) -> Iterator[Separation]:
    """Every kind of crosscoder from every seed, each judged by the true kinds and by the control's.

    Raises:
        ValueError: the images of the run are of fewer than two classes.
    """
    run = RunFolder.at(options.run)
    for kind in options.kinds:
        data = cut(open_data(run, TrainConfig(group="trivial" if kind == "sae" else None)), None, options.held_out, 0)
        class_N, names = _classes(run, data)
        for seed in options.seeds:
            model = taught(f"{kind}, seed {seed}", config_of(kind, options, seed), data)[0].result
            about, seen = _described(model, data)
            similarity_RR = _similarity(about)
            dealt_N = np.random.default_rng([seed, 7]).permutation(class_N)
            for control, label_N in ((False, class_N), (True, dealt_N)):
                yield judged(kind, seed, about, seen, similarity_RR, label_N, names, options, control=control)


def config_of(kind: str, options: SeparationBench, seed: int) -> TrainConfig:
    """Options of one training; all of a kind's seeds see the same samples."""
    sizes: dict[str, Any] = {"tying": "none", "dict_size": options.features}
    if kind == "tied":
        sizes = {"tying": "orbit", "prototypes": options.prototypes}
    if kind == "untied":
        sizes["encoder_reads"] = "all"
    group = "trivial" if kind == "sae" else None
    return TrainConfig(group=group, k=options.k, steps=options.steps, batch=options.batch, seed=seed, **sizes)


def _classes(run: RunFolder, data: TrainingData) -> tuple[NDArray[np.int64], list[str]]:
    """Class (N,) of each held-out sample, and the names."""
    images, image_N = np.unique(data.store.image[data.held_out_rows], return_inverse=True)
    classes = classes_of(manifest.refs_of(manifest.load_table(run.manifest).take(images)))
    if classes is None or (classes.label_I < 0).any():
        raise ValueError(
            f"run: {run.url}: found held-out images of no known kind, expected drawn stimuli, or images "
            "in folders by class, several of each; harvest with --images stimuli"
        )
    return classes.label_I[image_N], classes.names


def _described(model: Crosscoder, data: TrainingData) -> tuple[chain.Described, chain.Observed]:
    """What lives on held-out samples, and what it does there."""
    about, seen = chain.learned(model, data.read(data.held_out_rows))
    if about.tied:  # a prototype stands for its family
        about = replace(about, label_R=np.arange(len(about.label_R)))
    return about, seen


def judged(
    kind: str,
    seed: int,
    about: chain.Described,
    seen: chain.Observed,
    similarity_RR: NDArray[np.float64],
    class_N: NDArray[np.int64],
    names: Sequence[str],
    options: SeparationBench,
    *,
    control: bool,
) -> Separation:
    """Judge living features by the classes of samples."""
    activity_RK = scores.class_activity(seen.size_NR.double().numpy(), class_N, len(names))
    class_R, selectivity_R = scores.class_of_features(activity_RK)
    best = _at_best(about, activity_RK, seed) if kind == "sae" else (None, None)
    selective_R = selectivity_R >= options.least_selectivity
    return Separation(
        kind=kind,
        seed=seed,
        control=control,
        living=len(class_R),
        families=len(np.unique(about.label_R)),
        fvu=seen.fvu,
        purity=scores.purity(scores.by_family(activity_RK, _numbered(about.label_R))),
        dealt_purity=scores.dealt_purity(activity_RK, _numbered(about.label_R), seed),
        best_purity=best[0],
        best_dealt_purity=best[1],
        rand_index=scores.rand_index(class_R, _numbered(about.label_R)),
        silhouette=scores.silhouette(similarity_RR, class_R),
        stimuli={
            name: _of_class(about, np.flatnonzero(selective_R & (class_R == number)))
            for number, name in enumerate(names)
        },
    )


def _similarity(about: chain.Described) -> NDArray[np.float64]:
    """(R, R) of all pairs, as families are made of it."""
    every_RGC, share = about.decoder_RGC, AnalyseConfig().invariant_share
    return family_similarity(every_RGC, every_RGC, about.group, invariant_share=share)[0].double().numpy()


def _at_best(about: chain.Described, activity_RK: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Purity, and of dealt families, at the bound of similarity where the first exceeds the second most."""
    pairs = []
    for bound in chain.BOUNDS:
        label_R = _numbered(chain.families_of(about.decoder_RGC, about.group, bound)[0])
        own = scores.purity(scores.by_family(activity_RK, label_R))
        pairs.append((own, scores.dealt_purity(activity_RK, label_R, seed)))
    return max(pairs, key=lambda pair: pair[0] - pair[1])


def _of_class(about: chain.Described, members: NDArray[np.int64]) -> dict[str, Any]:
    """Words and harmonics of some features; nothing of none, or where there is no group."""
    if about.group.order == 1 or not len(members):
        return {"features": len(members)}
    words = [about.verdict_R[each].words for each in members]
    share_RJ = harmonics(about.decoder_RGC[torch.from_numpy(members)], about.group)
    return {
        "features": len(members),
        "words": {word: words.count(word) / len(words) for word in sorted(set(words))},
        "harmonics": [scores.mean_interval(share_R) for share_R in share_RJ.T],
    }


def harmonics(decoder_RGC: Tensor, group: Group) -> NDArray[np.float64]:
    """(R, J) share of the changing part's energy in each of the first harmonics of rotation, both mirror types
    together."""
    energy_RJ = coefficients(changing_part(decoder_RGC), group).square().sum((1, 2, 4))
    share_RJ = energy_RJ / energy_RJ.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return share_RJ[:, 1 : HARMONICS + 1].numpy()


def _numbered(label_R: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(label_R, return_inverse=True)[1]


def show(rows: Sequence[Separation]) -> None:
    """Both tables."""
    table = Table(title="kinds of stimuli, kept apart")
    columns = (
        "crosscoder",
        "seed",
        "living",
        "families",
        "FVU",
        "purity (dealt)",
        "at best (dealt)",
        "Rand index",
        "silhouette",
    )
    for heading in columns:
        table.add_column(heading, justify="left" if heading == "crosscoder" else "right")
    for each in rows:
        best = "" if each.best_purity is None else f"{each.best_purity:.3f} ({each.best_dealt_purity:.3f})"
        name = f"{each.kind}, control" if each.control else each.kind
        numbers = ["" if each.fvu is None else f"{each.fvu:.3f}", f"{each.purity:.3f} ({each.dealt_purity:.3f})", best]
        told = ["" if value is None else f"{value:.3f}" for value in (each.rand_index, each.silhouette)]
        table.add_row(name, str(each.seed), str(each.living), str(each.families), *numbers, *told)
    console.console.print(table)
    for each in rows:
        if not each.control and each.kind != "sae":
            _show_stimuli(each)


def _show_stimuli(row: Separation) -> None:
    table = Table(title=f"{row.kind}, seed {row.seed}: features by the stimuli that drive them")
    for heading in ("kind", "features", "words", *(f"harmonic {j}" for j in range(1, HARMONICS + 1))):
        table.add_column(heading, justify="left" if heading in ("kind", "words") else "right")
    for name, about in row.stimuli.items():
        words = sorted(about.get("words", {}).items(), key=lambda pair: -pair[1])
        told = ", ".join(f"{word} {share:.0%}" for word, share in words)
        shares = [f"{mean:.2f} ({low:.2f} to {high:.2f})" for mean, low, high in about.get("harmonics", [])]
        table.add_row(name, str(about["features"]), told, *shares)
    console.console.print(table)
