"""The rest of torchvision's GoogLeNet: from the map of a trunk's layer to the logits of 1,000 (or other) classes.

Letters: N images, C channels, h w units, K classes.
"""

import torch
from torch import Tensor, nn
from torchvision.models import googlenet

from gc_core.backbones.backbone import Backbone
from gc_core.backbones.googlenet import content_of, trunk_of
from gc_core.backbones.weights import parse_state

MODULES = (
    *("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3"),
    *("inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4"),
    *("inception5a", "inception5b", "avgpool"),
)
"""torchvision's, in order of computation; `fc` comes last."""


def load_rest(weights: str, backbone: Backbone) -> nn.Module:
    """The layers after `backbone.layer`, frozen: a map (N, C, h, w) in, logits (N, K) out.

    weights: a whole torchvision GoogLeNet, as "torchvision" (the published one, downloaded on first use) or a file
    (safetensors or state dict; path or file:// URL). Its trunk must be the backbone's.

    Raises:
        ValueError: the weights cannot be had, are of another network, or of another trunk than the backbone's; or the
            layer is not one that all later ones read.
    """
    if backbone.name != "googlenet" or backbone.layer not in MODULES:
        raise ValueError(
            f"classifier: layer {backbone.layer} of {backbone.name} found, expected googlenet and one of "
            f"{', '.join(name for name in MODULES if name in backbone.layers)}; give a network of your own to "
            "gc_core.evaluate.measure_downstream"
        )
    content = content_of(weights)
    _refuse_other_trunk(Backbone("googlenet", trunk_of(content, weights), layer=backbone.layer), backbone, weights)
    network = _network(parse_state(content, weights), weights)
    after = MODULES[MODULES.index(backbone.layer) + 1 :]
    layers = [network.get_submodule(name) for name in after]
    return nn.Sequential(*layers, nn.Flatten(1), network.get_submodule("fc")).eval().requires_grad_(False)


def _network(state: dict[str, Tensor], origin: str) -> nn.Module:
    """The auxiliary classifiers, which only training needs, are left out."""
    state = {name: tensor for name, tensor in state.items() if not name.startswith("aux")}
    if "fc.weight" not in state:
        raise ValueError(
            f"{origin}: no fc.weight found, expected a whole torchvision GoogLeNet, not its trunk; name such a file, "
            "or `torchvision` to download one"
        )
    network = googlenet(weights=None, num_classes=len(state["fc.weight"]), aux_logits=False, init_weights=False)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{origin}: not the weights of torchvision's GoogLeNet ({reason[:200]})") from error
    return network


def _refuse_other_trunk(trunk: Backbone, expected: Backbone, origin: str) -> None:
    theirs = dict(trunk.named_buffers())
    kernels = [(name, mine) for name, mine in expected.named_buffers() if not name.startswith("_")]
    if not all(torch.equal(mine.cpu(), theirs[name].to(mine.dtype)) for name, mine in kernels):
        raise ValueError(
            f"{origin}: its layers up to {expected.layer} differ from those that were harvested (weights "
            f"{expected.weights_sha256[:8]}), so the rest would misread the reconstructions; name that "
            "network's file"
        )
