"""Steps added to a finished training: the same options but for a larger number of steps.

Weights, optimiser, counters and metrics go on from the last checkpoint, and so does the order of samples. The learning
rate, which had fallen to zero, warms up and falls once more over the steps that are added; penalties that grow from
zero have grown.
"""

from dataclasses import replace

from gc_core.config import ResolvedTrainConfig, TrainConfig


def with_more_steps(
    known: ResolvedTrainConfig, asked: TrainConfig, resolved: ResolvedTrainConfig
) -> ResolvedTrainConfig | None:
    """The config of a finished training of `known` that goes on to the steps `asked` for, which `resolved` is made of;
    None if another option differs, or the steps are not given or not more."""
    if asked.steps is None or asked.steps <= known.steps:
        return None
    same = _but_for_steps(known, asked, resolved) == known
    return replace(known, steps=asked.steps, steps_before=known.steps) if same else None


def is_what_was_asked(known: ResolvedTrainConfig, asked: TrainConfig, resolved: ResolvedTrainConfig) -> bool:
    """Whether a training of `known`, steps added or not, is what `asked` asks for, which `resolved` is made of."""
    return resolved.steps == known.steps and (
        resolved == known or (known.steps_before > 0 and _but_for_steps(known, asked, resolved) == known)
    )


def goes_on_from(config: ResolvedTrainConfig, other: ResolvedTrainConfig, step: int) -> bool:
    """Whether the state of `other` after `step` is where the steps of `config` are added."""
    return (
        config.steps_before > 0
        and step == other.steps == config.steps_before
        and replace(config, steps=other.steps, steps_before=other.steps_before) == other
    )


def _but_for_steps(
    known: ResolvedTrainConfig, asked: TrainConfig, resolved: ResolvedTrainConfig
) -> ResolvedTrainConfig:
    """`resolved` with the steps of `known`, and with what was decided by its steps, where nothing is asked for."""
    dead_after = known.dead_after_samples if asked.dead_after_samples is None else resolved.dead_after_samples
    return replace(resolved, steps=known.steps, steps_before=known.steps_before, dead_after_samples=dead_after)
