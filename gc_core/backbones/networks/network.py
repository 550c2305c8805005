"""A network as its source gives it: the module, and how its source says that pixels are to be prepared.

Letters: C channels.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gc_core.backbones.preprocessing import Scaling
from gc_core.backbones.weights import parse_state, seed_of, weight_file

SHOWN = 4
"""Names in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network before one of its layers is chosen."""

    module: nn.Module
    scaling: Scaling
    """How its pixels are scaled, as far as its source says."""
    input_px: int = 224
    """Side of the images that it was made for."""
    channels_in: int = 3
    """1 for a network of grey images."""
    default_layer: str | None = None
    fixed_batch: int | None = None
    """How many images must go through together; None for any number."""


@contextmanager
def seeded(weights: str) -> Iterator[None]:
    """Random numbers of this `random:SEED` while the block runs. Raises ValueError where it is no such text."""
    seed = seed_of(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def read_weights(module: nn.Module, weights: str) -> None:
    """Put the tensors of a safetensors file or state dict into the network.

    Raises ValueError in one line where keys or shapes do not fit, naming some of them, both ways.
    """
    fill(module, parse_state(weight_file(weights).read_bytes(), weights), weights)


def fill(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Put these tensors into the network; errors as `read_weights`."""
    wanted = module.state_dict()
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unknown:
        raise ValueError(
            f"{origin}: does not fit the network: {_some(missing)} missing in the file, {_some(unknown)} unknown to the"
            " network; give the weights of this very network."
        )
    wrong = [
        f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if state[name].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(f"{origin}: does not fit the network: {_some(wrong)} of another shape.")
    module.load_state_dict(dict(state))


def reinitialise(module: nn.Module, weights: str) -> None:
    """Draw every module's weights anew from `random:SEED`, as its own `reset_parameters` does."""
    with seeded(weights):
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()


def sha256_of_state(module: nn.Module) -> str:
    """Hexadecimal SHA-256 of names, types, shapes and bytes of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _some(names: Iterable[str]) -> str:
    names = list(names)
    if not names:
        return "none"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
