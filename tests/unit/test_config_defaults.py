"""What the help says of a default is what the program does; and what is resolved is told in full, and only once."""

import dataclasses
import json
from typing import Any, get_args, get_type_hints

import docstring_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core import backbones, groups
from gc_core.analyse.firing import MOST_OF_ONE_IMAGE
from gc_core.config import (
    AnalyseConfig,
    Config,
    HarvestConfig,
    ResolvedAnalyseConfig,
    ResolvedTrainConfig,
    TrainConfig,
    analyse,
    defaults,
)
from gc_core.config.defaults import DICT_SIZE, PROTOTYPES, UsualSize
from gc_core.store import shards
from gc_core.store.shards import CHUNK_ROWS
from support.resolved_configs import made

NUMBER_WORDS = {2: "two", 4: "a quarter", 10: "a tenth", 16: "a sixteenth"}


def help_of(kind: type[Config], name: str) -> str:
    parsed = docstring_parser.parse_from_object(kind)
    return " ".join(next(each.description or "" for each in parsed.params if each.arg_name == name).split())


def sizes_in_words(size: UsualSize) -> str:
    return f"below {NUMBER_WORDS[size.samples_each]} of the samples, {size.least:,} to {size.most:,}"


def plain(number: float) -> str:
    """2e-4, as people write it."""
    return f"{number:.0e}".replace("e-0", "e-")


@pytest.mark.parametrize(
    ("kind", "name", "quoted"),
    [
        (TrainConfig, "dict_size", sizes_in_words(DICT_SIZE)),
        (TrainConfig, "prototypes", sizes_in_words(PROTOTYPES)),
        (
            TrainConfig,
            "steps",
            f"None for {defaults.AUGMENTED_PASSES} passes over the store, between {defaults.FEWEST_STEPS:,} and "
            f"{defaults.MOST_STEPS:,}",
        ),
        (TrainConfig, "l1_coefficient", f"{defaults.L1_SHARE:g} sqrt(G C) with norm_over joint"),
        (TrainConfig, "l1_coefficient", f"{defaults.L1_SHARE:g} sqrt(C) with blocks"),
        (TrainConfig, "jumprelu_coefficient", f"None for {defaults.JUMPRELU_SHARE:g} G C"),
        (TrainConfig, "tanh_scale", f"None for {defaults.TANH_SCALE:g} / sqrt(G C)"),
        (TrainConfig, "tanh_scale", f"with norm_over blocks {defaults.TANH_SCALE:g} / (G sqrt(C))"),
        (TrainConfig, "bandwidth", f"None for {defaults.BANDWIDTH_SHARE:g} sqrt(G C)"),
        (TrainConfig, "aux_k", f"None for min({defaults.MOST_REVIVED}, F / 2)"),
        (
            TrainConfig,
            "dead_after_samples",
            f"None for {NUMBER_WORDS[defaults.DEAD_SHARE]} of the run, at most {defaults.MOST_SAMPLES_TO_DEATH:,}",
        ),
        (
            TrainConfig,
            "learning_rate",
            f"None for {plain(defaults.RATE)} / sqrt(F / {defaults.RATE_FEATURES}), the scaling of Gao et al. 2024, "
            f"times {defaults.FASTER_IN_FEW_STEPS} for small stores",
        ),
        (TrainConfig, "learning_rate", f"and times {defaults.FASTER_IF_TIED} again for tied poses"),
        (HarvestConfig, "centres_per_image", f"None for {shards.DEFAULT_CENTRES_PER_IMAGE}, or more in a small set"),
        (HarvestConfig, "centres_per_image", f"about {shards.SMALL_STORE_ROWS:,} samples"),
        (HarvestConfig, "shard_rows", f"a multiple of {CHUNK_ROWS}; None for {shards.DEFAULT_SHARD_ROWS:,}"),
        (HarvestConfig, "shard_rows", f"has at least {shards.MANY_SHARDS}"),
        (HarvestConfig, "layer", f"None for {backbones.GOOGLENET_LAYER} / {backbones.INCEPTIONV1_LAYER}"),
        (HarvestConfig, "compression", f"chunks of {CHUNK_ROWS} samples"),
        (AnalyseConfig, "family_similarity", f"None for {analyse.LEAST_SIMILARITY:g}; of prototypes in tied poses"),
        (AnalyseConfig, "family_similarity", f"a family by itself, {analyse.LEAST_SIMILARITY_OF_PROTOTYPES:g}:"),
        (AnalyseConfig, "neighbours", f"{AnalyseConfig().neighbours // groups.dihedral(32).order} times the"),
        (AnalyseConfig, "top_examples", f"at most {NUMBER_WORDS[MOST_OF_ONE_IMAGE]} of one image"),
    ],
)
def test_the_help_quotes_the_number_that_is_used(kind: type[Config], name: str, quoted: str) -> None:
    assert quoted in help_of(kind, name)


def test_half_as_many_steps_are_taken_where_samples_are_not_turned() -> None:
    assert "half as many with --no-augment" in help_of(TrainConfig, "steps")
    assert defaults.AUGMENTED_PASSES == 2 * defaults.PASSES


@given(num_samples=st.integers(0, 10**9), k=st.integers(1, 10_000), each=st.integers(1, 64))
def test_a_usual_size_is_a_power_of_two_below_its_share_and_within_its_bounds(
    num_samples: int, k: int, each: int
) -> None:
    size = UsualSize(samples_each=each, least=64, most=4096).of(num_samples, k=k)
    assert size >= k
    if size > k:
        assert 64 <= size <= 4096
        assert size.bit_count() == 1
        assert size == 64 or size * each <= num_samples
        assert size == 4096 or 2 * size * each > num_samples


def test_nothing_is_left_open_but_what_says_something_by_it() -> None:
    for kind in (ResolvedTrainConfig, ResolvedAnalyseConfig):
        hints: dict[str, Any] = get_type_hints(kind)
        left_open = {each.name for each in dataclasses.fields(kind) if type(None) in get_args(hints[each.name])}
        assert left_open == ({"prototypes", "init_from"} if kind is ResolvedTrainConfig else set())


@pytest.mark.parametrize("kind", [ResolvedTrainConfig, ResolvedAnalyseConfig])
def test_what_is_decided_has_no_default(kind: type[Config]) -> None:
    """Else a value that was forgotten would be None again."""
    (asked,) = kind.__bases__
    hints, decided = get_type_hints(kind), {each.name: each for each in dataclasses.fields(kind)}
    for each in dataclasses.fields(asked):
        if each.default is None and type(None) not in get_args(hints[each.name]):
            assert decided[each.name].default is dataclasses.MISSING, each.name


@pytest.mark.parametrize("options", [{}, {"dict_size": 64}, {"activation": "l1", "group": "C4"}, {"init_from": "a"}])
def test_what_is_resolved_is_written_and_read_as_a_plain_config_was(options: dict[str, Any]) -> None:
    resolved = made(**options)
    written = json.loads(json.dumps(resolved.to_json()))
    assert ResolvedTrainConfig.from_json(written) == resolved
    plain_config = TrainConfig.from_json(written)
    assert list(plain_config.to_json().items()) == list(resolved.to_json().items()), "in the same order"
    assert plain_config.fingerprint() == resolved.fingerprint()
    assert resolved.differences(dataclasses.replace(resolved, seed=3)) == ["seed: 0, not 3"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"steps": None}, "steps: None found, expected a valid integer"),
        ({"tying": None}, "tying: None found, expected 'orbit' or 'none'"),
        ({"prototypes": None}, "prototypes: found None with tying orbit, expected their number"),
    ],
)
def test_a_file_that_leaves_something_open_is_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        ResolvedTrainConfig.from_json(made().to_json() | changes)


def test_what_an_earlier_version_trained_without_poses_is_read() -> None:
    written = made(dict_size=64, augment=False).to_json()
    assert not {"tying", "prototypes", "augment", "init_from"} & written.keys(), "what that version did not know"
    assert ResolvedTrainConfig.from_json(written).num_rows == 64
