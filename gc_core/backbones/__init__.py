"""Frozen image networks whose activations are studied: `load(name)` gives one layer of one of them."""

import torch

from gc_core.backbones.backbone import Backbone
from gc_core.backbones.googlenet import DEFAULT_LAYER as GOOGLENET_LAYER
from gc_core.backbones.googlenet import load_googlenet
from gc_core.backbones.inceptionv1 import DEFAULT_LAYER as INCEPTIONV1_LAYER
from gc_core.backbones.inceptionv1 import load_inceptionv1
from gc_core.backbones.module_backbone import ModuleBackbone
from gc_core.backbones.networks import load_network
from gc_core.backbones.preprocessing import asked_for
from gc_core.backbones.reading import Position

NAMES = ("googlenet", "inceptionv1")
"""Networks whose layers are written down by hand."""

AnyBackbone = Backbone | ModuleBackbone

__all__ = ["NAMES", "AnyBackbone", "Backbone", "ModuleBackbone", "load"]


def load(
    name: str,
    *,
    layer: str | None = None,
    weights: str | None = None,
    preprocessing: str = "auto",
    input_px: int | None = None,
    position: Position = "centre",
    dtype: torch.dtype = torch.float32,
) -> AnyBackbone:
    """Layer `layer` of network `name`, frozen, on the CPU.

    - "googlenet" (default layer inception3b): torchvision's GoogLeNet. weights: "bundled" (the default; a stand-in
      trained for this project, see docs/model-card.md), "torchvision" (the published ones, downloaded on first use),
      or a safetensors file or state dict under torchvision's names. preprocessing: "auto" is what the tensors tell.
    - "inceptionv1" (default layer mixed3b): the network of Lucid. weights: the frozen graph
      `tensorflow_inception_graph.pb`, or a state dict (names in `gc_core.backbones.inceptionv1`). There is no default.
    - any other that `gc_core.backbones.networks` finds: `torchvision:resnet50`, `timm:NAME`, `hf:NAME`,
      `efficientnet-lite0`, `package.module:function`, `file.pt2`. Every module of theirs is a layer. `input_px` is the
      side of the image that the network is given where a unit sees all of it (None for what its source says), and
      `position` "mean" reads the mean over all units there.

    Files are given as a path or a file:// URL. "random:SEED" gives any network random weights, as a control.
    `preprocessing` is described at `gc_core.backbones.preprocessing.asked_for`.

    Raises ValueError, in one line, for unknown names and for weights that are missing or damaged.
    """
    if name in NAMES and (input_px is not None or position != "centre"):
        raise ValueError(f"{name}: its units have fields of their own; leave out input_px and position")
    if name == "googlenet":
        trunk, default_layer = load_googlenet("bundled" if weights is None else weights, preprocessing), GOOGLENET_LAYER
    elif name == "inceptionv1":
        if preprocessing != "auto":
            raise ValueError(f"preprocessing: found {preprocessing!r}, expected auto: inceptionv1 has one of its own")
        trunk, default_layer = load_inceptionv1(weights), INCEPTIONV1_LAYER
    else:
        return ModuleBackbone(
            name,
            load_network(name, weights),
            layer=layer,
            scaling=asked_for(preprocessing),
            input_px=input_px,
            position=position,
            dtype=dtype,
        )
    return Backbone(name, trunk, layer=layer or default_layer, dtype=dtype)
