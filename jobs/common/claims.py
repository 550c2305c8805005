"""Whose a crosscoder's name is: one training's alone, with the options that its `config.json` says; and who works on
it: one job at a time."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gc_core.config import ResolvedTrainConfig, TrainConfig
from gc_core.crosscoder import fault_of_weights
from gc_core.io import lease
from gc_core.io.json_objects import read_json, write_json, write_json_once
from gc_core.io.lease import Lease
from gc_core.io.location import Location
from gc_core.train import TrainingData, check_other
from gc_core.train.more_steps import is_what_was_asked, with_more_steps
from gc_core.train.recovery import NAMES_ITS_CONFIG, newest
from jobs.common import cluster, console, interrupt
from jobs.common.options import Waiting


@contextlib.contextmanager
def at_work(folders: Sequence[Location], waiting: Waiting) -> Iterator[list[Lease]]:
    """This job alone works in these crosscoders' folders until the block ends; others are waited for aloud.

    Raises:
        OSError: another did not end in time.
    """
    with contextlib.ExitStack() as stack:  # in the same order in every job, so that no two wait for each other
        yield [stack.enter_context(lease.held(each, _aloud(each, waiting.wait_minutes))) for each in sorted(folders)]


def _aloud(folder: Location, wait_minutes: float) -> Callable[[str, float], None]:
    is_time_to_say = console.tell_every(cluster.SAY_EVERY_S)

    def wait(holder: str, waited_s: float) -> None:
        interrupt.check()
        if waited_s > 60 * wait_minutes:
            found = f"{holder} is working on it and did not finish within {wait_minutes:g} minutes"
            raise OSError(f"{folder}: {found}; wait longer with --workers.wait-minutes, or end the other command")
        if is_time_to_say():
            told = f"{waited_s / 60:.1f} of at most {wait_minutes:g} minutes"
            console.say(f"waiting  for {holder}, at work on {folder} ({told})")

    return wait


def config_to_train(
    folder: Location, asked: TrainConfig, resolved: ResolvedTrainConfig, data: TrainingData
) -> ResolvedTrainConfig:
    """What the options asked for, and what was made of them for the data, mean in a crosscoder's folder: a new
    training, the one that is there already, or more steps of it, once it is finished. Nothing is written.

    Raises:
        ValueError: the name is taken by other options, the steps have nothing to go on from, or the weights to begin
            with do not fit.
    """
    try:
        known = read_json(folder, "config.json")
    except FileNotFoundError:
        if resolved.steps_before:
            found = f"steps_before: found {resolved.steps_before} for a new training"
            raise ValueError(f"{found}, expected 0; leave it out") from None
        check_other(resolved, data)
        return resolved
    if "train" not in known:
        raise ValueError(f"{folder}: its config.json says nothing about a training; choose another --name")
    other = ResolvedTrainConfig.from_json(known["train"])
    if is_what_was_asked(other, asked, resolved):
        return other
    if known.get("results") and (longer := with_more_steps(other, asked, resolved)):
        if [each.step for each in newest([folder])] != [other.steps]:
            raise ValueError(
                f"{folder}: the checkpoint of its last step ({other.steps}) is missing, so steps cannot be added; "
                "choose another --name, and begin with --init-from"
            )
        return longer
    changed = "; ".join(resolved.differences(other))
    raise ValueError(
        f"{folder}: was trained with other options ({changed}); choose another --name, or the same options"
    )


def is_finished(folder: Location, config: ResolvedTrainConfig) -> bool:
    """Whether this very crosscoder is finished, and whole; nothing is written."""
    try:
        known = read_json(folder, "config.json")
    except FileNotFoundError:
        return False
    is_same = ResolvedTrainConfig.from_json(known["train"]) == config
    return is_same and bool(known.get("results")) and fault_of_weights(folder) is None


def claim(folder: Location, config: ResolvedTrainConfig) -> dict[str, float] | None:
    """Results if this very crosscoder is finished, and whole; else None, with the config written so that no other takes
    the name. The config is `config_to_train`'s."""
    if write_json_once(folder, "config.json", {"format_version": NAMES_ITS_CONFIG, "train": config.to_json()}):
        return None
    known = read_json(folder, "config.json")
    if (other := ResolvedTrainConfig.from_json(known["train"])) != config:
        _claim_more_steps(folder, known, other, config)
        return None
    if known.get("results") and (fault := fault_of_weights(folder)):
        console.say(f"{fault}; writing it again")
        return None
    return known.get("results")


def _claim_more_steps(
    folder: Location, known: dict[str, Any], other: ResolvedTrainConfig, config: ResolvedTrainConfig
) -> None:
    """The weights that are there stay readable until others take their place."""
    if with_more_steps(other, config, config) != config:
        raise ValueError(f"{folder}: another command has just taken the name; choose another --name")
    console.say(f"{folder}: goes on from step {config.steps_before} to {config.steps}")
    left = {name: value for name, value in known.items() if name not in ("results", "finished_unix_s")}
    write_json(folder, "config.json", {**left, "train": config.to_json()})
