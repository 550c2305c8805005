"""A training that begins with another crosscoder's weights in place of fresh ones (`init_from`)."""

import re
from dataclasses import replace

import torch

from gc_core.config import AnalyseConfig, ResolvedTrainConfig
from gc_core.crosscoder import Crosscoder, CrosscoderShape
from gc_core.initial import FirstSamples
from gc_core.io.run_folder import NAME
from gc_core.prototypes import MOST_FEATURES, family_prototypes
from gc_core.train.data import TrainingData
from gc_core.train.objective import shape_of
from gc_core.train.parts import rows_of_tensors

SAME = ("tying", "group", "channels", "dict_size", "reads", "activation", "invariant")
"""Of the shape; how many features are active may differ."""


def read_other(config: ResolvedTrainConfig, data: TrainingData) -> Crosscoder | None:
    """The crosscoder that a resolved config begins with, for this store's activations as they are scaled in training;
    None for fresh weights. An untied one may begin with the features of tied poses, and tied ones with an untied one's
    families, whatever its size, encoder and activation.

    Raises:
        ValueError: it is not there, or of another kind or size.
    """
    if config.init_from is None:
        return None
    named = re.fullmatch(NAME, config.init_from)
    url = data.store.run.crosscoder(config.init_from) if named else config.init_from
    model, wanted = Crosscoder.load(url), shape_of(config, data.channels)
    if wanted.tying == "none":
        model = model.materialised()
    differing = [
        f"{name} {found!r}, not {expected!r}"
        for name in _must_agree(model.shape, wanted)
        if (found := getattr(model.shape, name)) != (expected := getattr(wanted, name))
    ]
    if differing:
        raise ValueError(f"init_from: {url} has {'; '.join(differing)}; expected the same group, kind and size")
    if model.shape.tying != wanted.tying and model.shape.num_rows > MOST_FEATURES:
        found = f"{url} has {model.shape.num_rows:,} features, expected at most {MOST_FEATURES:,} to find families of"
        raise ValueError(f"init_from: {found}; begin with a smaller one, or without")
    model.fold_scale(1 / data.scale)
    return model


def along_families(first: FirstSamples, other: Crosscoder | None, config: ResolvedTrainConfig) -> FirstSamples:
    """What the first weights of a resolved config are made from, where it begins with another crosscoder: prototypes
    begin along the families of an untied one, the largest first; those that are left over along samples, as usual."""
    if other is None or other.shape.tying == config.tying:
        return first
    usual = AnalyseConfig().resolved(tied=False)
    found_PGC, _ = family_prototypes(
        other.W_dec.detach(),
        other.group,
        least_similarity=usual.family_similarity,
        invariant_share=usual.invariant_share,
    )
    return replace(first, directions_NGC=found_PGC)


def _must_agree(found: CrosscoderShape, wanted: CrosscoderShape) -> tuple[str, ...]:
    """Of the shapes; families of an untied dictionary become prototypes whatever else it is."""
    return ("group", "channels") if (found.tying, wanted.tying) == ("none", "orbit") else SAME


@torch.no_grad()
def begin_with(model: Crosscoder, other: Crosscoder | None) -> None:
    """Give a crosscoder, or the part of one that is here, the weights of another, if there is one of its kind."""
    if other is None or other.shape.tying != model.shape.tying:
        return
    model.load_state_dict(rows_of_tensors(other.state_dict(), slice(model.features.start, model.features.stop)))
