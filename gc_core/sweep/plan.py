"""Which crosscoders a sweep is made of: combinations of options, their names, and who shares a stream of samples."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gc_core.config import ResolvedTrainConfig, TrainConfig
from gc_core.train import stream_of

AXES = (
    "group",
    "tying",
    "prototypes",
    "dict_size",
    "encoder_reads",
    "activation",
    "k",
    "l1_coefficient",
    "jumprelu_coefficient",
    "learning_rate",
    "seed",
)
"""Options of a training that take several values in a sweep; the last changes fastest."""
UNUSED: Mapping[str, tuple[str, ...]] = {
    "topk": ("l1_coefficient", "jumprelu_coefficient"),
    "batchtopk": ("l1_coefficient", "jumprelu_coefficient"),
    "jumprelu": ("l1_coefficient",),
    "l1": ("k", "jumprelu_coefficient"),
}
"""Axes that say nothing of an activation: combinations that differ in them alone are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One value of every axis, and what came of it."""

    told: str
    """What a person reads where there is no config: the values that differ within the sweep."""
    config: TrainConfig | None
    """None where the values contradict each other."""
    why_not: str = ""
    """The contradiction."""


def combinations(options: Mapping[str, Any]) -> list[Combination]:
    """Every combination of a training's options, of which those of `AXES` are tuples; each once.

    The trivial group has one block, so that poses and blocks to read are the same whatever is asked for.

    Raises:
        ValueError: an axis names a value twice.
    """
    axes = {name: options[name] for name in AXES if name in options}
    for name, values in axes.items():
        if len(set(values)) < len(values):
            found = ",".join(map(str, values))
            raise ValueError(f"{name}: found {found!r}, expected different values; name each once")
    every = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    different = list({tuple(each.items()): each for each in map(_meant, every)}.values())
    differing = [name for name in axes if len({each[name] for each in different}) > 1]
    return [_combination({**options, **each}, differing) for each in different]


def name_of(config: ResolvedTrainConfig, asked: TrainConfig, store_group: str, sweep: str) -> str:
    """A crosscoder's name, made of its own values alone: a sweep that is given more values keeps what it has."""
    words = [sweep, *(["orbit"] if config.tying == "orbit" else []), config.activation, str(config.num_rows)]
    if config.group != store_group:
        words.append("sae" if config.group == "trivial" else config.group)
    if config.tying == "none" and config.encoder_reads != "identity":
        words.append(f"reads{config.encoder_reads}")
    words.append(f"l1_{config.l1_coefficient:.4g}" if config.activation == "l1" else f"k{config.k}")
    if config.activation == "jumprelu":
        words.append(f"jump_{config.jumprelu_coefficient:.4g}")
    if asked.learning_rate is not None:
        words.append(f"lr_{asked.learning_rate:.4g}")
    if config.seed:
        words.append(f"s{config.seed}")
    return re.sub(r"[^A-Za-z0-9._-]", ".", "-".join(words))


def teams(
    configs: Mapping[str, ResolvedTrainConfig], fits: Callable[[Sequence[ResolvedTrainConfig]], bool]
) -> list[list[str]]:
    """Names of those that train side by side: of one stream, as many as fit together, in their order. One that does
    not fit alone has a team of its own, in which it is refused with the numbers."""
    by_stream: dict[tuple[Any, ...], list[str]] = {}
    for name, config in configs.items():
        by_stream.setdefault(stream_of(config), []).append(name)
    made: list[list[str]] = []
    for names in by_stream.values():
        made.append([])
        for name in names:
            if made[-1] and not fits([configs[each] for each in [*made[-1], name]]):
                made.append([])
            made[-1].append(name)
    return made


def _meant(values: Mapping[str, Any]) -> dict[str, Any]:
    """The combination with what its activation and group do not use at its default."""
    default = TrainConfig()
    unused = UNUSED.get(values.get("activation", default.activation), ())
    meant = {name: getattr(default, name) if name in unused else value for name, value in values.items()}
    if meant.get("group") == "trivial":
        meant |= {name: value for name, value in (("tying", "none"), ("encoder_reads", "identity")) if name in meant}
    return meant


def _combination(options: Mapping[str, Any], differing: Sequence[str]) -> Combination:
    told = " ".join(f"{name}={options[name]}" for name in differing) or "the only one"
    try:
        config = TrainConfig.from_json({**TrainConfig().to_json(), **options})
    except ValueError as error:
        return Combination(told=told, config=None, why_not=str(error).removeprefix("TrainConfig: "))
    return Combination(told=told, config=config)
