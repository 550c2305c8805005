"""Frozen image networks whose activations are studied: `load(name)` gives one layer of one of them."""

import torch

from gc_core.backbones.backbone import Backbone
from gc_core.backbones.googlenet import DEFAULT_LAYER as GOOGLENET_LAYER
from gc_core.backbones.googlenet import load_googlenet
from gc_core.backbones.inceptionv1 import DEFAULT_LAYER as INCEPTIONV1_LAYER
from gc_core.backbones.inceptionv1 import load_inceptionv1
from gc_core.backbones.preprocessing import Preprocessing

NAMES = ("googlenet", "inceptionv1")

__all__ = ["NAMES", "Backbone", "load"]


def load(
    name: str,
    *,
    layer: str | None = None,
    weights: str | None = None,
    preprocessing: Preprocessing = "auto",
    dtype: torch.dtype = torch.float32,
) -> Backbone:
    """Layer `layer` of network `name`, frozen, on the CPU.

    - "googlenet" (default layer inception3b): torchvision's GoogLeNet. weights: "bundled" (the default; a stand-in
      trained for this project, see docs/model-card.md), "torchvision" (the published ones, downloaded on first use),
      or a safetensors file or state dict under torchvision's names. preprocessing: "imagenet", "transform_input"
      (pixels in -1..1, as torchvision's published weights want them), or "auto": what the tensors tell.
    - "inceptionv1" (default layer mixed3b): the network of Lucid. weights: the frozen graph
      `tensorflow_inception_graph.pb`, or a state dict (names in `gc_core.backbones.inceptionv1`). There is no default.

    Files are given as a path or a file:// URL. "random:SEED" gives either network random weights, for tests and
    benchmarks. Raises ValueError, in one line, for unknown names and for weights that are missing or damaged.
    """
    if name == "googlenet":
        trunk, default_layer = load_googlenet("bundled" if weights is None else weights, preprocessing), GOOGLENET_LAYER
    elif name == "inceptionv1":
        if preprocessing != "auto":
            raise ValueError(f"preprocessing: found {preprocessing!r}, expected auto: inceptionv1 has one of its own")
        trunk, default_layer = load_inceptionv1(weights), INCEPTIONV1_LAYER
    else:
        raise ValueError(f"there is no backbone {name!r}; expected one of {', '.join(NAMES)}.")
    return Backbone(name, trunk, layer=layer or default_layer, dtype=dtype)
