"""Configs: to JSON and back, a fingerprint of every field, and refusals that say what was found and expected."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.config import AnalyseConfig, Config, HarvestConfig, TrainConfig

OTHER_VALUES: dict[type[Config], dict[str, Any]] = {
    HarvestConfig: {
        "images": "/images",
        "image_key": "jpg",
        "max_images": 7,
        "max_bad_fraction": 0.5,
        "group": "C8",
        "backbone": "inceptionv1",
        "layer": "mixed3a",
        "preprocessing": "imagenet",
        "input_px": 224,
        "position": "mean",
        "weights": "/w.pb",
        "resize_px": 128,
        "enlarge": True,
        "interpolation": "bicubic",
        "resample_all": True,
        "disc_mask": True,
        "centres": "activation",
        "min_distance_px": 5,
        "centres_per_image": 3,
        "max_stimuli": 5,
        "dtype": "float32",
        "shard_rows": 256,
        "compression": "lz4",
        "seed": 1,
    },
    TrainConfig: {
        "group": "C4",
        "tying": "orbit",
        "prototypes": 48,
        "poses": 2,
        "invariant_prototypes": 5,
        "dict_size": 64,
        "encoder_reads": "all",
        "activation": "l1",
        "k": 3,
        "matryoshka": "2",
        "l1_coefficient": 0.0,
        "jumprelu_coefficient": 2.0,
        "tanh_scale": 2.0,
        "bandwidth": 1.0,
        "pre_coefficient": 0.0,
        "norm_over": "blocks",
        "l1_warmup_share": 0.5,
        "aux_k": 0,
        "dead_after_samples": 9,
        "augment": False,
        "init": "transpose",
        "bias_init": "zero",
        "init_from": "topk-64",
        "steps": 10,
        "steps_before": 5,
        "batch": 64,
        "accumulate": 2,
        "blocks_per_step": 3,
        "dtype": "bfloat16",
        "optimiser": "lazy",
        "optimiser_state": "bfloat16",
        "learning_rate": 1e-3,
        "lr_warmup_share": 0.0,
        "lr_decay": "cosine",
        "lr_decay_share": 1.0,
        "clip_norm": 0.0,
        "average_decay": 0.5,
        "lanes": 4,
        "buffer_rows": 100,
        "checkpoint_every": 3,
        "seed": 2,
    },
    AnalyseConfig: {
        "family_similarity": 0.6,
        "symmetry_threshold": 0.1,
        "invariant_share": 1.0,
        "false_discoveries": 0.2,
        "surrogates": 19,
        "seed": 2,
        "neighbours": 100,
        "top_examples": 3,
        "stimuli": False,
    },
}
KINDS = list(OTHER_VALUES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_comes_back_from_json(kind: type[Config]) -> None:
    for config in (kind(), kind(**OTHER_VALUES[kind])):
        assert kind.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_changes_the_fingerprint_and_is_named_as_a_difference(kind: type[Config]) -> None:
    assert OTHER_VALUES[kind].keys() == {field.name for field in dataclasses.fields(kind)}
    plain = kind()
    assert plain.fingerprint() == kind().fingerprint()
    assert plain.differences(kind()) == []
    for name, value in OTHER_VALUES[kind].items():
        other = kind.from_json(plain.to_json() | {name: value})
        assert other.fingerprint() != plain.fingerprint(), name
        assert plain.differences(other) == [f"{name}: {getattr(plain, name)!r}, not {value!r}"]


def test_a_field_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^HarvestConfig: unknown fields \['colour'\] found, expected some of"):
        HarvestConfig.from_json(HarvestConfig().to_json() | {"colour": "red"})


def test_a_field_that_a_version_did_not_know_means_what_that_version_did() -> None:
    """Not the new default: `augment` came later, and is on now."""
    before = {name: value for name, value in TrainConfig(k=3).to_json().items() if name != "augment"}
    assert TrainConfig.from_json(before) == TrainConfig(k=3, augment=False)
    assert TrainConfig(k=3, augment=False).to_json() == before, "so its identity stays what it was"


def test_a_field_that_every_version_wrote_is_missed() -> None:
    written = TrainConfig().to_json()
    del written["k"]
    with pytest.raises(ValueError, match=r"^TrainConfig: no k found, written by a version that did not know them"):
        TrainConfig.from_json(written)


@pytest.mark.parametrize("kind", KINDS)
def test_the_meaning_of_earlier_versions_is_a_value_that_the_field_takes(kind: type[Config]) -> None:
    assert kind.LATER.keys() <= {field.name for field in dataclasses.fields(kind)}
    kind(**kind.LATER)


@pytest.mark.parametrize(("name", "value"), [("k", "3"), ("k", 3.5), ("k", None), ("augment", 1), ("activation", 3)])
def test_a_value_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^TrainConfig: {name}: {value!r} found, expected "):
        TrainConfig.from_json(TrainConfig().to_json() | {name: value})


@pytest.mark.parametrize(
    ("kind", "values", "line"),
    [
        (HarvestConfig, {"group": "E8"}, "E8"),
        (HarvestConfig, {"interpolation": "cubic"}, "interpolation: found 'cubic', expected one of bilinear, bicubic"),
        (HarvestConfig, {"centres": "random"}, "centres: found 'random', expected one of uniform, grid, centre"),
        (HarvestConfig, {"dtype": "int8"}, "dtype: found 'int8'"),
        (HarvestConfig, {"seed": -1}, "seed: found -1, expected at least 0"),
        (HarvestConfig, {"resize_px": 0}, "resize_px: found 0, expected at least 1"),
        (HarvestConfig, {"max_bad_fraction": 1.5}, "max_bad_fraction: found 1.5, expected 0 to 1"),
        (HarvestConfig, {"min_distance_px": 0}, "min_distance_px: found 0, expected at least 1"),
        (HarvestConfig, {"resample_all": True, "group": "D4"}, "resample_all: every element of D_4 is exact"),
        (HarvestConfig, {"max_images": 0}, "max_images: found 0, expected at least 1"),
        (HarvestConfig, {"centres_per_image": 0}, "centres_per_image: found 0"),
        (HarvestConfig, {"max_stimuli": 0}, "max_stimuli: found 0"),
        (HarvestConfig, {"shard_rows": 100}, "shard_rows: found 100, expected a positive multiple of 128"),
        (HarvestConfig, {"shard_rows": 0}, "shard_rows: found 0"),
        (TrainConfig, {"group": "E8"}, "E8"),
        (TrainConfig, {"encoder_reads": "some"}, "encoder_reads: found 'some', expected identity, all, or different"),
        (TrainConfig, {"encoder_reads": "0,0"}, "encoder_reads: found '0,0', expected identity, all, or different"),
        (TrainConfig, {"matryoshka": "8,x"}, "matryoshka: found '8,x', expected different whole numbers"),
        (TrainConfig, {"matryoshka": "0"}, "matryoshka: found '0', expected sizes of at least 1"),
        (
            TrainConfig,
            {"activation": "relu"},
            "activation: found 'relu', expected one of topk, batchtopk, jumprelu, l1",
        ),
        (TrainConfig, {"average_decay": 1.0}, "average_decay: found 1.0, expected less than 1"),
        (TrainConfig, {"bandwidth": 0.0}, "bandwidth: found 0.0, expected more than 0"),
        (TrainConfig, {"blocks_per_step": 0}, "blocks_per_step: found 0, expected at least 1"),
        (TrainConfig, {"batch": 64, "accumulate": 3}, r"a multiple of lanes \(8\) times accumulate \(3\)"),
        (TrainConfig, {"k": 0}, "k: found 0, expected at least 1"),
        (TrainConfig, {"dict_size": 8, "k": 9}, r"k: found 9, expected at most dict_size \(8\)"),
        (TrainConfig, {"batch": 100, "lanes": 8}, r"batch: found 100, expected a multiple of lanes \(8\)"),
        (TrainConfig, {"steps": 0}, "steps: found 0"),
        (TrainConfig, {"aux_k": -1}, "aux_k: found -1"),
        (TrainConfig, {"l1_warmup_share": 1.5}, "l1_warmup_share: found 1.5, expected 0 to 1"),
        (TrainConfig, {"l1_coefficient": -1.0}, "l1_coefficient: found -1.0"),
        (TrainConfig, {"learning_rate": 0.0}, "learning_rate: found 0.0"),
        (TrainConfig, {"learning_rate": float("nan")}, "learning_rate: found nan"),
        (AnalyseConfig, {"family_similarity": float("nan")}, "family_similarity: found nan, expected 0 to 1"),
        (AnalyseConfig, {"top_examples": 0}, "top_examples: found 0"),
        (AnalyseConfig, {"neighbours": 0}, "neighbours: found 0, expected at least 1"),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_name(kind: type[Config], values: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        kind(**values)
    with pytest.raises(ValueError, match=line.partition(":")[0]):
        kind.from_json(kind().to_json() | json.loads(json.dumps(values)))


@given(st.integers(0, 2**40))
def test_any_seed_from_zero_is_kept(seed: int) -> None:
    assert HarvestConfig.from_json(HarvestConfig(seed=seed).to_json()).seed == seed


def test_configs_cannot_be_changed() -> None:
    name = "seed"
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(HarvestConfig(), name, 1)


@pytest.mark.parametrize(("reads", "elements"), [("identity", (0,)), ("all", (0, 1, 2, 3)), ("3,1", (3, 1))])
def test_the_encoder_reads_the_elements_named(reads: str, elements: tuple[int, ...]) -> None:
    assert TrainConfig(encoder_reads=reads).elements_read(4) == elements


def test_elements_outside_the_group_are_refused() -> None:
    with pytest.raises(ValueError, match="encoder_reads: found element 4, expected 0 to 3"):
        TrainConfig(encoder_reads="0,4").elements_read(4)


@pytest.mark.parametrize(
    ("matryoshka", "sizes"), [("1", (100,)), ("3", (25, 50, 100)), ("7,30", (7, 30, 100)), ("100,5", (5, 100))]
)
def test_nested_sizes_end_with_the_whole_dictionary(matryoshka: str, sizes: tuple[int, ...]) -> None:
    assert TrainConfig(matryoshka=matryoshka).prefix_sizes(100) == sizes


@pytest.mark.parametrize(("matryoshka", "line"), [("8", "found 8 halvings"), ("5,101", "found 101 features")])
def test_nested_sizes_beyond_the_dictionary_are_refused(matryoshka: str, line: str) -> None:
    with pytest.raises(ValueError, match=f"matryoshka: {line}"):
        TrainConfig(matryoshka=matryoshka).prefix_sizes(100)
