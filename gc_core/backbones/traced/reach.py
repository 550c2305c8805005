"""Where the units of a layer look: field, stride and centre, followed back from one unit to the pixels.

Positions are counted without borders: unit 0 of a layer is the first of its map, and pixel 0 the first of the image;
what a padded convolution reads beyond the border has negative numbers. So the pixels that unit 0 depends on say both
how large the field is and where it lies.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from gc_core.backbones.traced.exported import Exported
from gc_core.backbones.traced.operations import Axes, NotLocalError, Step, step_of

Interval = tuple[int, int]
"""First and last position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What one unit of a layer depends on."""

    steps: tuple[Step, ...]
    """The operations that lead to it, in order of computation."""
    needs: Mapping[fx.Node, tuple[Interval, Interval]]
    """Rows and columns of each map that unit 0 reads; those of the image are pixels."""
    stride_px: int
    mixes: str
    """Why it depends on the whole image, in words; empty where its field says all."""
    axes: Mapping[fx.Node, Axes | None]
    """Height and width in each map."""
    image: fx.Node
    output: fx.Node

    @property
    def rows(self) -> Interval:
        """Pixel rows that unit 0 depends on."""
        return self.needs[self.image][0]

    @property
    def columns(self) -> Interval:
        """Pixel columns that unit 0 depends on."""
        return self.needs[self.image][1]


def analyse(exported: Exported, layer: str) -> Reach:
    """Follow one unit of the layer back to the pixels.

    Raises:
        NotLocalError: an operation on the way moves or mixes positions in a way that is not known; says which.
    """
    output = exported.outputs[layer]
    wanted = ancestors(output)
    axes: dict[fx.Node, Axes | None] = dict.fromkeys(exported.tensors)
    axes[exported.image] = (2, 3)
    steps: list[Step] = []
    for node in exported.nodes:
        if node in wanted:
            steps.append(step_of(node, axes))
            axes[node] = steps[-1].axes
    if axes[output] is None:
        raise NotLocalError("the layer has no positions: what it puts out is of the whole image")
    needs = _needs(steps, output)
    if exported.image not in needs:
        raise NotLocalError("the layer does not depend on the image")
    return Reach(
        steps=tuple(steps),
        needs=needs,
        stride_px=_stride(steps, exported.image, output),
        mixes=next((step.mixes for step in steps if step.mixes), ""),
        axes=axes,
        image=exported.image,
        output=output,
    )


def ancestors(output: fx.Node) -> set[fx.Node]:
    """Everything that a node is computed from, and itself."""
    found, left = set(), [output]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found


def _needs(steps: list[Step], output: fx.Node) -> dict[fx.Node, tuple[Interval, Interval]]:
    """From the last step back: each input is needed where any of its readers looks."""
    needs: dict[fx.Node, tuple[Interval, Interval]] = {output: ((0, 0), (0, 0))}
    for step in reversed(steps):
        if step.node not in needs:
            continue  # it leads to the layer only through something of the whole image
        rows, columns = needs[step.node]
        for source, (down, across) in step.windows.items():
            read = down.reads(*rows), across.reads(*columns)
            known = needs.get(source, read)
            needs[source] = _union(read[0], known[0]), _union(read[1], known[1])
    return needs


def _union(one: Interval, other: Interval) -> Interval:
    return min(one[0], other[0]), max(one[1], other[1])


def _stride(steps: list[Step], image: fx.Node, output: fx.Node) -> int:
    """Pixels from one unit to the next, the same down and across."""
    strides: dict[fx.Node, tuple[int, int]] = {image: (1, 1)}
    for step in steps:
        found = {
            (strides[source][0] * down.stride, strides[source][1] * across.stride)
            for source, (down, across) in step.windows.items()
            if source in strides
        }
        if len(found) > 1:
            raise NotLocalError(f"{step.node.name} joins maps of different strides")
        if found:
            strides[step.node] = found.pop()
    down_px, across_px = strides[output]
    if down_px != across_px:
        raise NotLocalError(f"units are {down_px} px apart down the image and {across_px} px across")
    return down_px
