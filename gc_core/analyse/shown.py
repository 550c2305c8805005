"""Drawn stimuli through the store's own network and a crosscoder: what each feature responds to, at which angles.

Letters: L elements under which stimuli are shown, G group elements, C channels, F features, S patch side.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups, harvest, transforms
from gc_core.backbones import AnyBackbone
from gc_core.backbones.networks import runs_code
from gc_core.config import HarvestConfig
from gc_core.crosscoder import Crosscoder
from gc_core.groups import FiniteGroup, Group, of_the_plane
from gc_core.images.catalogue import Stimulus, fixed_set
from gc_core.ingest import is_ingested
from gc_core.symmetry import Tuning, merged, shown_group, tuning_of

SAME_LEVELS = 2
"""Grey levels by which a picture may differ and be called the same: what rounding leaves."""
SAMPLES_AT_ONCE = 64


def why_not_shown(attrs: Mapping[str, Any], group: FiniteGroup) -> str | None:
    """Why stimuli cannot be shown, under such a group, to the network of a store with these attributes, in one line;
    None if they can."""
    if group.kind not in ("trivial", "cyclic", "dihedral"):
        return f"stimuli can be turned and mirrored, and {group.name} does other things"
    if is_ingested(attrs):
        return "the activations were computed elsewhere, so the network is not known"
    try:
        config = _config(attrs)
        if runs_code(config.backbone):
            return f"the network is what {config.backbone} returns, code that is not run because a store names it"
        found = harvest.network_of(config).weights_sha256
    except (ValueError, OSError) as error:
        return " ".join(f"the network cannot be loaded: {error}".split())
    stored = attrs.get("weights_sha256", found)
    return None if found == stored else f"other weights found ({found:.8}...) than those of the store ({stored:.8}...)"


def network_of_store(attrs: Mapping[str, Any], device: str) -> AnyBackbone:
    """The network of a store with these attributes, in float32 wherever it runs."""
    return harvest.load_backbone(_config(attrs), device)


def show(some: range, model: Crosscoder, backbone: AnyBackbone, *, disc_mask: bool = False) -> Tuning:
    """Show some stimuli of the fixed set, at least one, to the network, and its activations to the crosscoder."""
    stimuli = fixed_set()
    group, kinds = of_the_plane(model.group), list(dict.fromkeys(each.kind for each in stimuli))

    def one(number: int) -> Tuning:
        images_L3SS = drawn(stimuli[number], group, backbone.receptive_field_px)
        acts_LC = network_activations(images_L3SS, backbone, disc_mask=disc_mask)
        return tuning_of(
            responses(model, acts_LC.to(model.W_dec.device)).cpu().numpy().T,
            group,
            stimulus=number,
            kind=kinds.index(stimuli[number].kind),
            num_kinds=len(kinds),
            same_L=same_as_first(images_L3SS),
        )

    return reduce(merged, map(one, some))


def drawn(stimulus: Stimulus, group: Group, side_px: int) -> NDArray[np.uint8]:
    """(L, 3, S, S) the stimulus under every element of `shown_group(group)`, each drawn anew."""
    shown = shown_group(group)
    turns = zip(360.0 * shown.turns / shown.n, shown.mirrored, strict=True)
    return np.stack([stimulus.drawn(float(angle), bool(mirrored), side_px) for angle, mirrored in turns])


def same_as_first(images_L3SS: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(L,) which are the picture that the first one is, but for rounding."""
    apart = np.abs(images_L3SS.astype(np.int16) - images_L3SS[0].astype(np.int16))
    return apart.max((1, 2, 3)) <= SAME_LEVELS


@torch.inference_mode()
def network_activations(images_L3SS: NDArray[np.uint8], backbone: AnyBackbone, *, disc_mask: bool = False) -> Tensor:
    """(L, C) float32 activations of the unit that sees each picture whole."""
    parts = list[Tensor]()
    for images in torch.from_numpy(images_L3SS).split(SAMPLES_AT_ONCE):
        pixels = backbone.normalised(images.to(backbone.device).float())
        if disc_mask:
            pixels = pixels * transforms.disc(backbone.receptive_field_px).to(pixels)
        parts.append(backbone.unit_of_normalised(pixels.to(backbone.dtype)).float())
    return torch.cat(parts)


@torch.no_grad()
def responses(model: Crosscoder, acts_LC: Tensor) -> Tensor:
    """(L, F) responses to a picture under every element of `shown_group`, of which these are the activations.

    The blocks of the picture under l are its activations under g l. Responses are codes, `encode`; of a prototype in
    tied poses what it has in its own pose where the prototype is active in any: in the code itself another pose would
    stand in its place, as soon as that fits better.
    """
    shown = shown_group(of_the_plane(model.group))
    own_G = torch.from_numpy(groups.embed(model.group, shown))
    block_LG = torch.from_numpy(shown.cayley)[own_G].T.to(acts_LC.device)
    return torch.cat([_response(model, acts_LC[some]) for some in block_LG.split(SAMPLES_AT_ONCE)])


def _response(model: Crosscoder, acts_BGC: Tensor) -> Tensor:
    if model.shape.tying != "orbit":
        return model.encode(acts_BGC)
    code = model.code(acts_BGC)
    active_BP = torch.zeros(len(acts_BGC), len(model.b_enc), device=acts_BGC.device)
    active_BP.scatter_reduce_(1, code.index_BK, (code.value_BK > 0).float(), "amax")
    own_BP = (acts_BGC - model.b_dec).flatten(1) @ model.W_enc.flatten(1).T + model.b_enc
    return own_BP.relu() * active_BP


def _config(attrs: Mapping[str, Any]) -> HarvestConfig:
    return replace(HarvestConfig.from_json(attrs["config"]), dtype="float32")
