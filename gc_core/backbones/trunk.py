"""A network that stops at one of its layers, and the names of those that it has.

Letters: N images, C channels, H W pixels.
"""

from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from gc_core.backbones.networks import Network
from gc_core.backbones.traced import the_tensor


class Trunk(nn.Module):
    """A network that stops at one layer and puts out what that puts out."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self._hook = network.get_submodule(layer).register_forward_hook(_stop)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """The layer's output of images of the network's own scaling.

        Raises:
            ValueError: the layer puts out no tensor, or is never computed.
        """
        try:
            self.network(images_NCHW)
        except _Reached as reached:
            return the_tensor(reached.output)
        raise ValueError("is not computed for an image")

    def release(self) -> None:
        """Let the network run through again."""
        self._hook.remove()


class _Reached(BaseException):
    """Not an Exception: on its way it must not be taken for a fault of the network."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _stop(_module: nn.Module, _inputs: Any, output: Any) -> None:
    raise _Reached(output)


def layer_names(module: nn.Module) -> tuple[str, ...]:
    """Names of all modules but the network itself, and but what is TorchScript, which cannot be watched."""
    named = module.named_modules()
    return tuple(name for name, part in named if name and not isinstance(part, torch.jit.ScriptModule))


def check_layer(network: Network, layer: str | None) -> str:
    """The layer, or the network's default. Raises ValueError with near misses where there is none of that name."""
    names = layer_names(network.module)
    layer = layer or network.default_layer
    if layer in names:
        return layer
    if layer is None:
        raise ValueError(
            "--layer: name one of the network's modules; `python -m jobs.layers --backbone ...` lists them."
        )
    near = ", ".join(get_close_matches(layer, names, 5, 0.4)) or ", ".join(names[:5])
    raise ValueError(f"there is no layer {layer[:80]!r}; near it are {near}; `python -m jobs.layers` lists all.")
