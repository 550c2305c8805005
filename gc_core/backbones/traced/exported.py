"""The operations of a network up to one layer, as torch.export writes them down: functional ATen operations.

Letters: N images, C channels, H W pixels.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

IMAGES = 2
"""Images that go through the network while it is written down; one could be mistaken for an axis of length one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Operations in order of computation, and the tensors that they read besides the image."""

    image: fx.Node
    outputs: Mapping[str, fx.Node]
    """Where each layer's output is computed."""
    nodes: tuple[fx.Node, ...]
    """Every operation, in order of computation."""
    tensors: Mapping[fx.Node, Tensor]
    """Weights, buffers and constants."""


def export(network: nn.Module, layers: Sequence[str], side_px: int, channels_in: int = 3) -> Exported:
    """Write down the network's operations for square images of `side_px`, with the outputs of these modules.

    Raises:
        ValueError: torch.export cannot follow the network, or a layer is not computed; with the reason.
    """
    images = blank_images(network, IMAGES, side_px, channels_in)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of libraries, about themselves
        try:
            program = torch.export.export(_Watched(network, layers), (images,), strict=False)
            program = program.run_decompositions({})  # in-place operations become functions of their inputs
        except Exception as error:
            raise ValueError(f"torch.export cannot follow the network ({_line(error)})") from error
    program.graph.eliminate_dead_code()
    return _of(program, layers)


def blank_images(network: nn.Module, number: int, side_px: int, channels_in: int) -> Tensor:
    """(number, channels_in, side, side) zeros of the type and on the device of the network's weights."""
    like = next((each for each in network.parameters() if each.is_floating_point()), torch.empty(0))
    return torch.zeros(number, channels_in, side_px, side_px, dtype=like.dtype, device=like.device)


@contextmanager
def watched(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Copies of what these modules put out, at each of their calls, while the network runs inside the block.

    A copy, because the next module may work in place (`nn.ReLU(inplace=True)`).
    """
    seen: dict[str, list[Any]] = {name: [] for name in layers}

    def hook(name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen[name].append(_copied(output))

        return keep

    handles = [network.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _copied(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, Mapping):
        return {key: _copied(each) for key, each in output.items()}
    return tuple(_copied(each) for each in output) if isinstance(output, list | tuple) else output


class _Watched(nn.Module):
    """The network, putting out what its layers put out."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self._layers = tuple(layers)

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        with watched(self.network, self._layers) as seen:
            self.network(images_NCHW)
        return [the_tensor(seen[name][0]) for name in self._layers]


def the_tensor(output: Any) -> Tensor:
    """A layer's output, or the one tensor in it.

    Raises:
        ValueError: there is none, or more than one.
    """
    if isinstance(output, Tensor):
        return output
    parts = (
        list(output.values()) if isinstance(output, Mapping) else list(output) if isinstance(output, Sequence) else []
    )
    tensors = [each for each in parts if isinstance(each, Tensor)]
    if len(tensors) != 1:
        raise ValueError(f"puts out a {type(output).__name__} with {len(tensors)} tensors, expected one tensor")
    return tensors[0]


def _of(program: torch.export.ExportedProgram, layers: Sequence[str]) -> Exported:
    signature, nodes = program.graph_signature, program.graph.nodes
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    tensors: dict[fx.Node, Tensor] = {}
    images: list[fx.Node] = []
    for node in nodes:
        if node.op == "placeholder":
            if node.name in names:
                tensors[node] = _tensor(program, names[node.name])
            elif node.name in constants:
                tensors[node] = _tensor(program, constants[node.name])
            else:
                images.append(node)
    (output,) = (node for node in nodes if node.op == "output")
    found = output.args[0]
    assert len(images) == 1, "the image is the only input"
    assert isinstance(found, Sequence), "a list of layers gives a list"
    return Exported(
        image=images[0],
        outputs={name: node for name, node in zip(layers, found, strict=True) if isinstance(node, fx.Node)},
        nodes=tuple(node for node in nodes if node.op == "call_function"),
        tensors=tensors,
    )


def _tensor(program: torch.export.ExportedProgram, name: str) -> Tensor:
    """Buffers that a network does not save are among the constants."""
    found = program.state_dict.get(name)
    tensor = program.constants[name] if found is None else found
    assert isinstance(tensor, Tensor), "weights are tensors"
    return tensor.detach()


def _line(error: Exception) -> str:
    """The first line of an error, for a message."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"
