"""Weight files: where they are, whether they are intact, and what tensors they hold."""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from gc_core.backbones.forward import Kernel
from gc_core.backbones.layers import Layer, convolutions
from gc_core.io.damage import LIBRARY_ERRORS
from gc_core.io.location import local_path, scheme_of

RANDOM_PREFIX = "random:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """A network with its weights, ready to be evaluated."""

    layers: tuple[Layer, ...]
    kernels: Mapping[str, Kernel]
    mean_RGB: tuple[float, float, float]
    """Subtracted from pixels in 0..255 ..."""
    scale_RGB: tuple[float, float, float]
    """... whose difference is multiplied by this before the first layer."""
    sha256: str
    preprocessing: str = "the network's own"
    """Description for people: how pixels are scaled, and how that is known."""


def weight_file(weights: str) -> Path:
    """The file that a path or a file:// URL names. Raises ValueError when there is none, or for another scheme."""
    try:
        scheme = scheme_of(weights)
    except ValueError:  # brackets where a host would stand
        raise ValueError(f"{weights}: neither a path nor a file:// URL of weights; check it.") from None
    if scheme not in ("", "file"):
        raise ValueError(f"{weights}: weights are read from a path or a file:// URL; download the file first.")
    try:
        path = local_path(weights)
        is_file = path.is_file()
    except (ValueError, OSError) as error:  # an unknown user's `~`, or a name that no file can have
        raise ValueError(f"{weights[:200]}: no weight file can be here ({error}); check the path.") from None
    if not is_file:
        raise ValueError(f"{weights[:200]}: no such weight file, or not a regular file; check the path.")
    return path


def looks_like_state(content: bytes) -> bool:
    """Whether the bytes begin as safetensors (a JSON header) or torch files (a zip archive or a pickle) do."""
    return content[8:9] == b"{" or content[:2] == b"PK" or content[:1] == b"\x80"


def parse_state(content: bytes, origin: str) -> dict[str, Tensor]:
    """Named tensors of a safetensors file or a torch state dict (loaded without executing any of its code).

    Raises ValueError, with `origin` in its line, when the bytes are neither or are damaged.
    """
    try:
        if content[8:9] == b"{":
            return load_safetensors(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (*LIBRARY_ERRORS, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{origin}: neither a safetensors file nor a torch state dict of tensors alone, or damaged"
            f" ({type(error).__name__}); fetch it again or give another file."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError(f"{origin}: holds a {type(state).__name__}, expected a state dict (name -> tensor).")
    return dict(state)


def check_kernels(layers: tuple[Layer, ...], kernels: Mapping[str, Kernel], origin: str) -> None:
    """Raises ValueError at the first convolution whose weights have not the network's shape or are not finite."""
    for conv, channels_in in convolutions(layers, 3):
        expected = (conv.channels, channels_in, conv.kernel, conv.kernel)
        weight, bias = kernels[conv.weights]
        if tuple(weight.shape) != expected or tuple(bias.shape) != expected[:1]:
            raise ValueError(
                f"{origin}: {conv.weights} has weights {tuple(weight.shape)} and bias {tuple(bias.shape)}, expected"
                f" {expected} and {expected[:1]}; this file is for another network."
            )
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise ValueError(f"{origin}: {conv.weights} holds values that are not finite; fetch the file again.")


def seed_of(weights: str) -> int:
    """The number of `random:SEED`. Raises ValueError where it is none."""
    seed = weights.removeprefix(RANDOM_PREFIX)
    if not re.fullmatch("[0-9]{1,18}", seed):
        raise ValueError(
            f"weights {weights[:80]!r}: expected random:SEED with a whole number below 10^18, such as random:0."
        )
    return int(seed)


def random_kernels(layers: tuple[Layer, ...], weights: str) -> tuple[dict[str, Kernel], str]:
    """Kernels for `random:SEED` that keep the size of signals through ReLUs, and the SHA-256 that stands for them."""
    generator = torch.Generator().manual_seed(seed_of(weights))
    kernels = {}
    for conv, channels_in in convolutions(layers, 3):
        shape = (conv.channels, channels_in, conv.kernel, conv.kernel)
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        bias = torch.randn(conv.channels, generator=generator, dtype=torch.float64)
        kernels[conv.weights] = Kernel(weight * (2 / (channels_in * conv.kernel**2)) ** 0.5, 0.1 * bias)
    return kernels, sha256_of(*(part.numpy().tobytes() for kernel in kernels.values() for part in kernel))


def sha256_of(*parts: bytes) -> str:
    """Hexadecimal SHA-256 of the joined parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
