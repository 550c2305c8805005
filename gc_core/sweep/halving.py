"""Successive halving: at some steps on the way those go on that explain most, of equals in group, size and sparsity.

A larger dictionary explains more, and so does a denser code: neither shows that the other was worth nothing. So only
crosscoders of one group, as many features and nearly the same L0 are rivals. Seeds of one choice stay together and are
judged by their mean.

Source: Jamieson and Talwalkar 2016, Non-stochastic Best Arm Identification and Hyperparameter Optimization (AISTATS),
which is what Li et al. 2020 (ASHA) make asynchronous.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

from gc_core.config import ResolvedTrainConfig

L0_STEP = 1.25
"""Ratio of L0 within which two codes count as equally sparse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one crosscoder stands at a step."""

    name: str
    choice: Hashable
    """What it is but for its seed."""
    group: str
    dict_size: int
    l0: float
    """Active features a sample."""
    fvu: float
    """Of the held-out samples."""


def rungs(config: ResolvedTrainConfig, *, keep_one_in: int, count: int) -> list[int]:
    """The steps at which crosscoders are compared: steps / n^count, ..., steps / n, each at the next checkpoint; fewer
    where two meet or the training is over by then.

    Raises:
        ValueError: there is no checkpoint before the last step.
    """
    every = config.checkpoint_every
    wanted = (config.steps / keep_one_in**power for power in range(count, 0, -1))
    found = sorted({max(1, round(step / every)) * every for step in wanted})
    before_the_end = [step for step in found if step < config.steps]
    if not before_the_end:
        expected = f"fewer than the {config.steps} steps of a training"
        raise ValueError(f"checkpoint_every: found {every}, expected {expected}, to compare crosscoders on the way")
    return before_the_end


def hopeless(standings: Sequence[Standing], *, keep_one_in: int) -> dict[str, str]:
    """Names of those that do not go on, each with the reason: of n rival choices the best n / keep_one_in stay, rounded
    up."""
    rivals: dict[Hashable, dict[Hashable, list[Standing]]] = {}
    for each in standings:
        rivals.setdefault(_class_of(each), {}).setdefault(each.choice, []).append(each)
    stopped: dict[str, str] = {}
    for choices in rivals.values():
        ranked = sorted(choices.values(), key=_mean_fvu)
        staying = math.ceil(len(ranked) / keep_one_in)
        best = ranked[0][0]
        for seeds in ranked[staying:]:
            reason = f"held-out FVU {_mean_fvu(seeds):.3f} at L0 {seeds[0].l0:.1f}, {best.name} has"
            reason += f" {_mean_fvu(ranked[0]):.3f} at {best.l0:.1f}"
            stopped |= {each.name: reason for each in seeds}
    return stopped


def _class_of(standing: Standing) -> Hashable:
    sparsity = round(math.log(standing.l0, L0_STEP)) if standing.l0 > 0 else None
    return standing.group, standing.dict_size, sparsity


def _mean_fvu(seeds: Sequence[Standing]) -> float:
    return fmean(each.fvu for each in seeds)
