"""Which layers a network has, and how each would be harvested: one look at the whole network.

Letters: N images, C channels, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from gc_core.backbones.networks import Network
from gc_core.backbones.reading import Layout, layout_of, local_reading
from gc_core.backbones.traced import (
    Exported,
    NotLocalError,
    Reach,
    analyse,
    ancestors,
    blank_images,
    export,
    the_tensor,
    watched,
)
from gc_core.backbones.traced.operations import aten
from gc_core.backbones.trunk import layer_names


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer of a network."""

    name: str
    kind: str
    """Class of the module."""
    channels: int
    units: str
    """How many there are on the network's own input: `28 x 28`, `14 x 14 tokens`, or `1` of the whole image."""
    stride_px: int | None
    """None where units have no places."""
    field_px: int | None
    """Side of what one unit sees; None for the whole input."""
    why: str
    """Why it sees the whole input; empty where it does not."""
    mflop: float | None
    """Million operations for one unit of one transformed image, of convolutions and matrix products alone; None where
    operations are not known."""


def layer_table(network: Network, *, input_px: int | None = None) -> tuple[list[LayerRow], list[str]]:
    """A row for every module whose output has units, in order of the modules; and the names of those left out, which
    are computed never or more than once for an image, or put out something else.

    Raises:
        ValueError: the network takes no such image.
    """
    side_px = input_px or network.input_px
    layouts = _layouts(network, side_px)
    try:
        exported = export(network.module, list(layouts), side_px, network.channels_in)
    except ValueError as error:
        rows = [_unknown(network, name, layout, str(error)) for name, layout in layouts.items()]
    else:
        rows = [_row(network, exported, name, layout, side_px) for name, layout in layouts.items()]
    return rows, [name for name in layer_names(network.module) if name not in layouts]


def _layouts(network: Network, side_px: int) -> dict[str, Layout]:
    names = layer_names(network.module)
    images = blank_images(network.module, network.fixed_batch or 1, side_px, network.channels_in)
    with torch.no_grad(), watched(network.module, names) as seen:
        network.module(images)
    layouts = {}
    for name, outputs in seen.items():
        if len(outputs) == 1:
            try:
                layouts[name] = layout_of(the_tensor(outputs[0]))
            except ValueError:  # left out, and told as such
                continue
    return layouts


def _row(network: Network, exported: Exported, name: str, layout: Layout, side_px: int) -> LayerRow:
    try:
        reach = analyse(exported, name)
    except NotLocalError as error:
        return _unknown(network, name, layout, str(error), _mflop_of_all(exported, name))
    reading = local_reading(reach.rows, reach.columns, reach.stride_px, side_px)
    is_local = not reach.mixes and reading.patch_px <= side_px
    why = "" if is_local else reach.mixes or f"it would see {reading.patch_px} px"
    return LayerRow(
        name=name, kind=type(network.module.get_submodule(name)).__name__, channels=layout.channels,
        units=_units(layout), stride_px=reach.stride_px, field_px=reading.patch_px if is_local else None, why=why,
        mflop=_mflop_of_unit(reach) if is_local else _mflop_of_all(exported, name),
    )  # fmt: skip


def _unknown(network: Network, name: str, layout: Layout, why: str, mflop: float | None = None) -> LayerRow:
    side = network.input_px // layout.grid[0] if layout.kind != "vector" else None
    return LayerRow(
        name=name, kind=type(network.module.get_submodule(name)).__name__, channels=layout.channels,
        units=_units(layout), stride_px=side, field_px=None, why=why, mflop=mflop,
    )  # fmt: skip


def _units(layout: Layout) -> str:
    if layout.kind == "vector":
        return "1"
    return f"{layout.grid[0]} x {layout.grid[1]}{' tokens' if layout.kind == 'tokens' else ''}"


def _mflop_of_unit(reach: Reach) -> float:
    """What the program of one unit multiplies: of each map the positions that the unit needs."""
    total = 0.0
    for step in reach.steps:
        if step.node in reach.needs and (per_position := _flop_per_position(step.node)):
            (top, bottom), (left, right) = reach.needs[step.node]
            total += per_position * (bottom - top + 1) * (right - left + 1)
    return total / 1e6


def _mflop_of_all(exported: Exported, name: str) -> float:
    """What one image costs up to the layer, all positions computed."""
    wanted = ancestors(exported.outputs[name])
    return sum(_flop(node) for node in exported.nodes if node in wanted) / 1e6


def _flop_per_position(node: fx.Node) -> float:
    shape = _shape(node)
    at = shape[2:] if node.target in (aten.conv2d.default, aten.conv2d.padding) else shape[1:-1]
    return _flop(node) / max(1, torch.Size(at).numel())


def _flop(node: fx.Node) -> float:
    """Multiplications and additions for one image."""
    shape = _shape(node)
    if node.target in (aten.conv2d.default, aten.conv2d.padding, aten.linear.default):
        weight = _shape(node.args[1])
        return 2 * torch.Size(shape[1:]).numel() * torch.Size(weight[1:]).numel()
    if node.target in (aten.matmul.default, aten.bmm.default):
        return 2 * torch.Size(shape[1:]).numel() * _shape(node.args[0])[-1]
    if node.target is aten.scaled_dot_product_attention.default:
        query, key = _shape(node.args[0]), _shape(node.args[1])
        return 4 * torch.Size(query[1:]).numel() * key[-2]
    return 0


def _shape(node: object) -> Sequence[int]:
    assert isinstance(node, fx.Node), "tensors are what operations put out"
    value = node.meta["val"]
    return tuple(value.shape) if isinstance(value, Tensor) else ()
