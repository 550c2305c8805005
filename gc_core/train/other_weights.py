"""A training that begins with another crosscoder's weights in place of fresh ones (`init_from`)."""

import re
from dataclasses import replace

import torch
from torch import Tensor

from gc_core.config import AnalyseConfig, ResolvedTrainConfig
from gc_core.crosscoder import Crosscoder, CrosscoderShape, read_shape
from gc_core.crosscoder.initialise import FirstSamples, match_size
from gc_core.io.location import Location
from gc_core.io.run_folder import NAME
from gc_core.parallel.sharded_state import rows_of_tensors
from gc_core.train.building import shape_of
from gc_core.train.data import TrainingData
from gc_core.train.prototypes import MOST_FEATURES, family_prototypes

SAME = ("tying", "group", "channels", "dict_size", "reads", "activation", "invariant")
"""Fields of the shape that must be equal; how many features are active may differ."""


def check_other(config: ResolvedTrainConfig, data: TrainingData) -> None:
    """Refuse a resolved config whose other crosscoder is not there, or does not fit; its weights are not read.

    Raises:
        ValueError: as `read_other`.
    """
    if config.init_from is not None:
        where = _location_of(config.init_from, data)
        _refuse_misfit(config, read_shape(where), where, data)


def read_other(config: ResolvedTrainConfig, data: TrainingData) -> Crosscoder | None:
    """The crosscoder that a resolved config begins with, for this store's activations as they are scaled in training;
    None for fresh weights. An untied one may begin with the features of tied poses, and tied ones with an untied one's
    families, whatever its size, encoder and activation.

    Raises:
        ValueError: it is not there, or of another kind or size.
    """
    if config.init_from is None:
        return None
    where = _location_of(config.init_from, data)
    model = Crosscoder.load(where)  # mapped: nothing of its weights is read yet
    _refuse_misfit(config, model.shape, where, data)
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


@torch.no_grad()
def begin_with(model: Crosscoder, other: Crosscoder | None, acts_BGC: Tensor) -> None:
    """Give a crosscoder, or the part of one that is here, the weights of another, if there is one whose features it can
    have.

    An untied one that begins with tied poses takes several poses of one prototype among its k, which say nearly the
    same: its encoder is scaled so that the reconstructions of samples (B, G, C) are as long as they should be.
    """
    if other is None or (model.shape.tying, other.shape.tying) == ("orbit", "none"):
        return
    is_same_kind = other.shape.tying == model.shape.tying
    weights = (other if is_same_kind else other.materialised()).state_dict()
    model.load_state_dict(rows_of_tensors(weights, slice(model.features.start, model.features.stop)))
    if not is_same_kind:
        match_size(model, acts_BGC, model.b_dec.detach())


def _refuse_misfit(config: ResolvedTrainConfig, shape: CrosscoderShape, where: Location, data: TrainingData) -> None:
    wanted = shape_of(config, data.channels).as_record()
    _refuse_families(config, shape, where)
    is_untied = shape.tying == "orbit" and config.tying == "none"
    offered = (replace(shape, tying="none", poses=1, invariant=0) if is_untied else shape).as_record()
    names = ("group", "channels") if (shape.tying, config.tying) == ("none", "orbit") else SAME
    differing = [
        f"{name} {theirs!r}, not {mine!r}" for name in names if (theirs := offered[name]) != (mine := wanted[name])
    ]
    if differing:
        raise ValueError(f"init_from: {where} has {'; '.join(differing)}; expected the same group, kind and size")


def _refuse_families(config: ResolvedTrainConfig, shape: CrosscoderShape, where: Location) -> None:
    """ValueError where families would have to be found among too many features, or would not be used."""
    if (shape.tying, config.tying) != ("none", "orbit"):
        return
    if shape.num_rows > MOST_FEATURES:
        too_many = f"{where} has {shape.num_rows:,} features, expected at most {MOST_FEATURES:,} to find families of"
        raise ValueError(f"init_from: {too_many}; begin with a smaller one, or without")
    if config.init != "data":
        raise ValueError(
            f"init: found {config.init} with families to begin along, expected data; leave one of them out"
        )


def _location_of(init_from: str, data: TrainingData) -> Location:
    return data.store.run.crosscoder(init_from) if re.fullmatch(NAME, init_from) else Location.parse(init_from)
