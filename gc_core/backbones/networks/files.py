"""Networks in files of their own: `file.pt2` (torch.export) and `file.pt` (TorchScript).

Neither is allowed to bring a pickle: of an exported file every tensor that is stored as one is refused unless torch's
restricted reader takes it.
"""

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gc_core.backbones.networks.network import Network
from gc_core.backbones.preprocessing import ASSUMED
from gc_core.backbones.weights import weight_file
from gc_core.io.damage import LIBRARY_ERRORS


def load(name: str, weights: str | None) -> Network:
    """The network in a file, with the weights that it holds.

    Raises:
        ValueError: there is no such file, it is damaged or of another kind, or `weights` are given.
    """
    if weights is not None:
        raise ValueError(f"weights {weights[:80]!r}: {name} holds its own; leave --weights out.")
    path = weight_file(name)
    if path.suffix.lower() == ".pt":
        return Network(module=_Script(_script(path)), scaling=ASSUMED)
    module, batch, channels_in, side_px = _exported(path)
    return Network(module=module, scaling=ASSUMED, fixed_batch=batch, channels_in=channels_in, input_px=side_px)


class _Script(nn.Module):
    """A TorchScript network, whose inner modules call no hooks: what it puts out is its one layer."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script, self.output = script, nn.Identity()

    def forward(self, images_NCHW: Tensor) -> Any:
        return self.output(self.script(images_NCHW))


def _script(path: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch tells everyone that TorchScript is old
            return torch.jit.load(str(path), map_location="cpu")
    except (OSError, *LIBRARY_ERRORS) as error:
        raise ValueError(
            f"{path}: no TorchScript network, or damaged ({_line(error)}); save it with torch.jit.save, or, to name its"
            " inner layers, with torch.export.save as .pt2."
        ) from error


def _exported(path: Path) -> tuple[nn.Module, int | None, int, int]:
    """The network, and the images that it takes: how many together (None for any number), channels, side."""
    refuse_pickles(path)
    try:
        program = torch.export.load(str(path))
        module = torch.export.unflatten(program)
    except (OSError, *LIBRARY_ERRORS) as error:
        raise ValueError(
            f"{path}: no network saved by torch.export, or damaged ({_line(error)}); save it with torch.export.save."
        ) from error
    (image,) = [
        each.meta["val"]
        for each in program.graph.nodes
        if each.op == "placeholder" and each.name in program.graph_signature.user_inputs
    ]
    batch, channels_in, side_px = image.shape[0], int(image.shape[1]), int(image.shape[2])
    return module, batch if isinstance(batch, int) else None, channels_in, side_px


def refuse_pickles(path: Path) -> None:
    """Raises ValueError where reading the file could run code that it brings."""
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in archive.namelist():
                if name.endswith(".json") and "config" in name:
                    _refuse_pickled_tensors(json.loads(archive.read(name)))
                elif name.endswith(".pt"):
                    torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
    except (OSError, *LIBRARY_ERRORS) as error:
        raise ValueError(
            f"{path}: not read, since it is damaged or holds a pickle ({_line(error)}); save it anew with"
            " torch.export.save."
        ) from error


def _refuse_pickled_tensors(config: Any) -> None:
    entries = config.get("config", {}) if isinstance(config, dict) else {}
    pickled = [name for name, entry in entries.items() if isinstance(entry, dict) and entry.get("use_pickle")]
    if pickled:
        raise ValueError(f"{pickled[0]} is stored as a pickle")


def _line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:120]}" if text else type(error).__name__
