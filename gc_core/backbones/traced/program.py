"""One unit of a layer computed from its field alone, with no padding and no position that nobody reads.

Letters: N patches, C channels, H W positions, R side of the field.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from gc_core.backbones.traced.exported import Exported
from gc_core.backbones.traced.operations import POINT, Step, aten, batch_norm
from gc_core.backbones.traced.reach import Interval, Reach


class Program(nn.Module):
    """The operations up to the layer, each cut down to what one unit reads.

    Every map holds the rows and columns that the unit needs of it; a reader that needs fewer takes its own part. So a
    padded convolution is computed where it reads no padding, and a skip connection loses the rim that the
    convolutions beside it lose. Batch norms become part of the convolutions before them.
    """

    def __init__(self, exported: Exported, reach: Reach) -> None:
        super().__init__()
        assert not reach.mixes, "a unit that depends on the whole image has no field"
        tensors = dict(exported.tensors)
        self._steps = tuple(_folded(reach.steps, tensors, reach.output))
        self._reach = reach
        self._names: dict[fx.Node, str] = {}
        for node in dict.fromkeys(node for step in self._steps for node in _inputs(step)):
            if node in tensors:
                self._names[node] = f"tensor_{len(self._names)}"
                self.register_buffer(self._names[node], _channels_last(tensors[node]), persistent=False)
        last = {node: step.node for step in self._steps for node in _inputs(step) if node not in self._names}
        self._done_with = {
            step.node: [node for node in _inputs(step) if last.get(node) is step.node] for step in self._steps
        }

    def forward(self, patches_NCRR: Tensor) -> Tensor:
        """(N, C) activations of the unit that depends on these patches: `Reach.rows` by `Reach.columns` pixels."""
        values: dict[fx.Node, Any] = {node: self.get_buffer(name) for node, name in self._names.items()}
        values[self._reach.image] = patches_NCRR
        for step in self._steps:
            read = self._reader(step, values)
            values[step.node] = step.target(*fx.map_arg(step.args, read), **fx.map_arg(dict(step.kwargs), read))
            for node in self._done_with[step.node]:
                values.pop(node, None)
        output = self._reach.output
        down, across = self._reach.axes[output] or (2, 3)
        return values[output].narrow(down, 0, 1).narrow(across, 0, 1).flatten(1)

    def _reader(self, step: Step, values: Mapping[fx.Node, Any]) -> Callable[[fx.Node], Any]:
        """What a step reads of each of its inputs: the positions under its windows."""

        def read(node: fx.Node) -> Any:
            axes, windows = self._reach.axes.get(node), step.windows.get(node)
            if windows is None or axes is None:
                return values[node]
            wanted = self._reach.needs[step.node]
            value = values[node]
            for axis, window, held, of in zip(axes, windows, self._reach.needs[node], wanted, strict=True):
                value = _cut(value, axis, held, window.reads(*of))
            return value

        return read


def _cut(value: Any, axis: int, held: Interval, wanted: Interval) -> Any:
    """The wanted positions of those that are held."""
    if held == wanted:
        return value
    if isinstance(value, Sequence):
        return [_cut(each, axis, held, wanted) for each in value]
    return value.narrow(axis, wanted[0] - held[0], wanted[1] - wanted[0] + 1)


def _inputs(step: Step) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg((step.args, dict(step.kwargs)), lambda node: found.append(node))
    return found


def _channels_last(tensor: Tensor) -> Tensor:
    """Convolutions of a few pixels and many channels run twice as fast on a CPU."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor.contiguous()


def _folded(steps: Sequence[Step], tensors: dict[fx.Node, Tensor], output: fx.Node) -> list[Step]:
    """The steps with each batch norm in the convolution before it, where nothing else reads that; `tensors` gains the
    new weights."""
    readers: dict[fx.Node, list[Step]] = {}
    for step in steps:
        for node in _inputs(step):
            readers.setdefault(node, []).append(step)
    folded: list[Step] = []
    for step in steps:
        convolution = folded[-1] if folded else None
        follows = convolution is not None and step.target is batch_norm and step.args[0] is convolution.node
        if (
            convolution is None
            or not follows
            or convolution.target is not aten.conv2d.default
            or len(readers[convolution.node]) > 1
            or convolution.node is output
        ):
            folded.append(step)
        else:
            folded[-1] = replace(convolution, args=_scaled(convolution, step, tensors))
            folded.append(
                replace(step, target=_alone, args=(convolution.node,), kwargs={}, windows={convolution.node: POINT})
            )
    return folded


def _alone(map_NCHW: Tensor) -> tuple[Tensor]:
    """What is left of a batch norm whose convolution does its work."""
    return (map_NCHW,)


def _scaled(convolution: Step, norm: Step, tensors: dict[fx.Node, Tensor]) -> tuple[Any, ...]:
    """The convolution's arguments with the norm's gain and shift, which are computed in float64."""
    weight, bias = convolution.args[1], convolution.args[2]
    gain, shift, mean, variance = (None if node is None else tensors[node].double() for node in norm.args[1:5])
    assert mean is not None, "batch norm remembers a mean"
    assert variance is not None, "and a variance"
    scale = (variance + norm.args[6]).rsqrt() * (1 if gain is None else gain)
    before = 0 if bias is None else tensors[bias].double()
    after = (before - mean) * scale + (0 if shift is None else shift)
    old = tensors[weight]
    new = fx.Graph()
    folded = new.placeholder(f"{weight.name}_folded"), new.placeholder(f"{weight.name}_shift")
    tensors[folded[0]] = (old.double() * scale.view(-1, 1, 1, 1)).to(old.dtype)
    tensors[folded[1]] = after.to(old.dtype)
    return (convolution.args[0], *folded, *convolution.args[3:])
