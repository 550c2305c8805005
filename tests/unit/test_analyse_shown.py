"""Drawn stimuli through a real network: blocks as the group orders them, symmetries of weights seen from outside.

Letters: L elements under which stimuli are shown, G group elements, C channels, F features.
"""

import re
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups, harvest, symmetry, transforms
from gc_core.analyse import shown
from gc_core.backbones import Backbone
from gc_core.config import HarvestConfig
from gc_core.crosscoder import Crosscoder, CrosscoderShape
from gc_core.groups import Subgroup
from gc_core.images.catalogue import Stimulus, fixed_set
from gc_core.symmetry import translate
from support.random_crosscoders import random_crosscoder

CONFIG = HarvestConfig(layer="conv1", dtype="float32")
GROUP = groups.dihedral(4)
SUBGROUPS = GROUP.subgroups()


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return harvest.load_backbone(CONFIG, "cpu")


def first_of(kind: str, **parameters: float) -> Stimulus:
    return next(each for each in fixed_set() if each.kind == kind and parameters.items() <= each.parameters.items())


@pytest.mark.parametrize(
    ("stimulus", "same"),
    [
        (first_of("circle"), list(range(48))),
        (first_of("line"), [0, 12, 24, 36]),
        (first_of("curve"), [0, 24]),
        (first_of("edge"), [0, 24]),
        (first_of("spiral"), [0]),
        (first_of("grating", phase_deg=90), [0, 24]),
        (first_of("grating", phase_deg=180), [0, 12, 24, 36]),
    ],
    ids=lambda each: each.name if isinstance(each, Stimulus) else "",
)
def test_a_stimulus_own_symmetry_is_seen_in_its_pictures(stimulus: Stimulus, same: list[int]) -> None:
    assert np.flatnonzero(shown.same_as_first(shown.drawn(stimulus, GROUP, 59))).tolist() == same


def test_pictures_are_those_that_the_group_makes() -> None:
    images = shown.drawn(first_of("corner"), GROUP, 59)
    moved_G3SS = transforms.act(torch.from_numpy(images[:1]), GROUP, 59)[0].numpy()
    own_G = groups.embed(GROUP, symmetry.shown_group(GROUP))
    assert np.abs(moved_G3SS.astype(int) - images[own_G]).max() <= 1
    assert np.abs(moved_G3SS.astype(int) - images[own_G + 1]).max() > 200, "the control: turned by 15 degrees more"


def test_activations_are_the_network_s_own_and_corners_can_be_masked(backbone: Backbone) -> None:
    images = shown.drawn(first_of("edge"), GROUP, backbone.receptive_field_px)
    plain = shown.network_activations(images, backbone)
    with torch.no_grad():
        expected = backbone.unit(torch.from_numpy(images).float())
    torch.testing.assert_close(plain, expected)
    masked = shown.network_activations(images, backbone, disc_mask=True)
    assert (masked - plain).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["D_4", "C_3", "trivial"])
def test_every_response_is_the_code_of_the_blocks_of_that_picture(name: str) -> None:
    model = random_crosscoder(group=name, channels=5).float()
    wide = symmetry.shown_group(model.group)
    own_G = groups.embed(model.group, wide)
    acts_LC = torch.randn(wide.order, 5, generator=torch.Generator().manual_seed(0))
    found = shown.responses(model, acts_LC)
    for element in (0, 1, 7, wide.order - 1):
        blocks_GC = torch.stack([acts_LC[wide.cayley[g, element]] for g in own_G])
        torch.testing.assert_close(found[element], model.encode(blocks_GC[None])[0])


def planted(tying: Literal["orbit", "none"], channels: int) -> Crosscoder:
    """A crosscoder whose rows have each subgroup of the group in turn as their symmetry."""
    rows = len(SUBGROUPS)
    dict_size = rows * GROUP.order if tying == "orbit" else rows
    reads = tuple(range(GROUP.order))
    shape = CrosscoderShape(
        group=GROUP, channels=channels, dict_size=dict_size, reads=reads, activation="l1", k=4, tying=tying
    )
    model = Crosscoder.of(shape)
    free_FGC = torch.randn(model.W_enc.shape, generator=torch.Generator().manual_seed(0))
    made = [_averaged(each_GC, subgroup) for each_GC, subgroup in zip(free_FGC, SUBGROUPS, strict=True)]
    model.W_enc.data, model.W_dec.data = torch.stack(made), torch.stack(made)
    return model


def _averaged(row_GC: Tensor, subgroup: Subgroup) -> Tensor:
    changing_GC = row_GC - row_GC.mean(0)
    return torch.stack([translate(changing_GC[None], h, GROUP)[0] for h in subgroup.elements]).mean(0)


@pytest.mark.parametrize("tying", ["none", "orbit"])
def test_symmetries_of_weights_are_seen_from_outside(tying: Literal["orbit", "none"], backbone: Backbone) -> None:
    """Of rows with planted symmetries, through a real network, by drawings alone; the identity row is the control."""
    model = planted(tying, backbone.channels)
    similarity_FG = symmetry.tuned_similarity(shown.show(range(0, len(fixed_set()), 2), model, backbone))
    for row, subgroup in enumerate(SUBGROUPS[1:-1], start=1):
        assert similarity_FG[row, list(subgroup.elements)].min() > 0.98, subgroup
    assert np.nanmin(similarity_FG[0]) < 0.5
    own = np.nanmean(symmetry.similarity_over(similarity_FG[:-1], SUBGROUPS[:-1]))
    dealt = symmetry.dealt_similarity(similarity_FG[:-1], SUBGROUPS[:-1])
    assert dealt is not None
    assert own > 0.98 > dealt + 0.2


def test_parts_together_are_the_whole(backbone: Backbone) -> None:
    model = random_crosscoder(group="D_4", channels=backbone.channels).float()
    whole = shown.show(range(5), model, backbone)
    parts = symmetry.merged(shown.show(range(2), model, backbone), shown.show(range(2, 5), model, backbone))
    for name in ("largest_F", "stimulus_F", "curve_FL", "product_FG", "activity_FK"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), rtol=1e-6, err_msg=name)


def test_a_store_whose_network_is_at_hand_says_nothing(backbone: Backbone) -> None:
    attrs = {"config": CONFIG.to_json(), "weights_sha256": backbone.weights_sha256}
    assert shown.why_not_shown(attrs, GROUP) is None
    assert shown.network_of_store(attrs, "cpu").dtype == torch.float32


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ({"config": CONFIG.to_json(), "weights_sha256": "0" * 64}, r"other weights found \([0-9a-f]{8}\.\.\.\) than"),
        ({"config": replace(CONFIG, weights="/nowhere.pt").to_json()}, "cannot be loaded: /nowhere.pt: no such weight"),
        ({"config": replace(CONFIG, backbone="inceptionv1").to_json()}, "cannot be loaded: .*tensorflow_inception"),
        ({"config": {}}, "cannot be loaded: HarvestConfig"),
    ],
)
def test_a_store_whose_network_is_not_there_says_why_in_one_line(attrs: dict[str, object], reason: str) -> None:
    found = shown.why_not_shown(attrs, GROUP)
    assert found is not None
    assert "\n" not in found
    assert re.search(reason, found)
