"""Which pixels a unit depends on, found by trying: a pixel that is not a number makes every number that depends on it
none either, whatever the weights are.

Letters: N images, C channels, H W pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Unit = Callable[[Tensor], Tensor]
"""Images (N, C, H, H) in, activations of one unit (N, channels) out; in float64, so that no fast algorithm for
convolutions spreads what is not a number to its neighbours."""

Interval = tuple[int, int]


def depends(unit: Unit, canvases_NCHH: Tensor) -> list[bool]:
    """Which canvases hold something that the unit depends on where they are not numbers."""
    with torch.no_grad():
        return unit(canvases_NCHH).flatten(1).isnan().any(1).tolist()


def sees_just(unit: Unit, canvas_px: int, rows: Interval, columns: Interval, channels_in: int) -> bool:
    """Whether the unit depends on the outermost rows and columns of this rectangle, and on nothing outside."""
    inside = torch.zeros(canvas_px, canvas_px, dtype=torch.bool)
    inside[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    number = torch.arange(canvas_px)
    lines = [inside & (number == row)[:, None] for row in rows] + [inside & (number == column) for column in columns]
    canvases = _canvases([~inside, *lines], channels_in)
    return depends(unit, canvases) == [False, True, True, True, True]


def sees_border(unit: Unit, canvas_px: int, channels_in: int) -> bool:
    """Whether the unit depends on the outermost pixels of the canvas."""
    border = torch.ones(canvas_px, canvas_px, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    return depends(unit, _canvases([border], channels_in))[0]


def find(unit: Unit, canvas_px: int, channels_in: int) -> tuple[Interval, Interval]:
    """Rows and columns of the smallest rectangle that the unit depends on, by bisection.

    Raises:
        ValueError: it depends on nothing.
    """
    if not depends(unit, _canvases([torch.ones(canvas_px, canvas_px, dtype=torch.bool)], channels_in))[0]:
        raise ValueError("depends on no pixel of the image")
    number = torch.arange(canvas_px)

    def reached(marked: Callable[[int], Tensor]) -> int:
        """The least n such that the unit depends on what is marked up to n."""
        low, high = 0, canvas_px - 1
        while low < high:
            middle = (low + high) // 2
            if depends(unit, _canvases([marked(middle)], channels_in))[0]:
                high = middle
            else:
                low = middle + 1
        return low

    def bands(at_rows: bool) -> Interval:
        def band(chosen: Tensor) -> Tensor:
            return chosen[:, None].expand(-1, canvas_px) if at_rows else chosen.expand(canvas_px, -1)

        first = reached(lambda last: band(number <= last))
        return first, canvas_px - 1 - reached(lambda last: band(number >= canvas_px - 1 - last))

    return bands(True), bands(False)


def _canvases(marked: list[Tensor], channels_in: int) -> Tensor:
    """Some numbers, and none where marked."""
    generator = torch.Generator().manual_seed(0)
    side = marked[0].shape[0]
    canvas_CHH = torch.randn(channels_in, side, side, generator=generator, dtype=torch.float64)
    return torch.stack([canvas_CHH.masked_fill(each, float("nan")) for each in marked])
