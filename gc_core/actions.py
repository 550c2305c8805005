"""What the elements of a group do to images, for groups that their users define.

A harvest with `--group package.module:function` calls that function, which gives an `Action`. Law: what g does to what
h made of an image is what the product `cayley[g, h]` makes of it.

Letters: N windows, G group elements, W window side, S field side (both odd, pixels).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gc_core import transforms
from gc_core.groups import FiniteGroup, Group, TableGroup, direct_product
from gc_core.own_code import called
from gc_core.transforms import Resampling

TRIED_PX, TRIED = 9, 4
"""Side and number of the random images on which an action is tried."""
NEAR = 0.05
"""Grey levels by which an image may miss what the law says: rounding."""


def _as_large(field_px: int) -> int:
    return field_px


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A group and how it acts on the squares of pixels that a unit sees."""

    group: TableGroup
    act: Callable[[Tensor, int], Tensor]
    """From windows (N, 3, W, W), float, grey levels 0 to 255, and the field's side S, to patches (N, G, 3, S, S)."""
    window_px: Callable[[int], int] = _as_large
    """From S to W, at least S and odd: more where patches need pixels from beyond the field, as rotated ones do."""


def named(text: str) -> Action:
    """The action that the function of `package.module:function` gives, which is found from the current folder too.

    This runs code: only for what a person named on a command line.

    Raises:
        ValueError: there is no such function, it fails, or what it gives is no action.
    """
    return _named(text)


@lru_cache(maxsize=8)
def _named(text: str) -> Action:
    found = called(text, "group")
    if not isinstance(found, Action) or not isinstance(found.group, TableGroup):
        raise ValueError(
            f"group: {text} gave {type(found).__name__}, expected a gc_core.actions.Action of a TableGroup"
        )
    check(found, text)
    return found


def check(action: Action, name: str) -> None:
    """Try an action on random images: shapes, the identity, and the law, where patches need no pixels from beyond.

    Raises:
        ValueError: it is not what it should be; or the group has too many subgroups to analyse.
    """
    action.group.subgroups()
    side, order = action.window_px(TRIED_PX), action.group.order
    if side < TRIED_PX or side % 2 == 0:
        raise ValueError(f"group: {name} asks for windows of {side} px for {TRIED_PX} px, expected odd and as large")
    images = torch.rand(TRIED, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    found = action.act(images, TRIED_PX)
    expected = (TRIED, order, 3, TRIED_PX, TRIED_PX)
    if tuple(found.shape) != expected:
        raise ValueError(
            f"group: {name} gave patches of shape {tuple(found.shape)}, expected {expected} (N, G, 3, S, S)"
        )
    margin = (side - TRIED_PX) // 2
    if not _near(found[:, 0], images[..., margin : margin + TRIED_PX, margin : margin + TRIED_PX]):
        raise ValueError(f"group: {name} changes images by the identity, element 0; expected the middle of the window")
    if side == TRIED_PX:
        _check_law(action, found, name)


def plane(group: Group) -> Callable[[Tensor, int], Tensor]:
    """`act` of a group of the plane, to build others with; its windows have `plane_window_px`."""

    def act(windows_N3WW: Tensor, field_px: int) -> Tensor:
        return transforms.act(windows_N3WW, group, field_px)

    return act


def plane_window_px(group: Group) -> Callable[[int], int]:
    """`window_px` of a group of the plane."""
    return lambda field_px: transforms.window_px(field_px, group, Resampling())


def with_colours(group: Group, colours: FiniteGroup, recolour: Callable[[Tensor], Tensor]) -> Action:
    """Rotations and mirrors together with a group that acts on each pixel's colour, their direct product.

    `recolour` goes from patches (N, 3, S, S) to (N, K, 3, S, S), K the colours' elements.
    """
    turn = plane(group)

    def act(windows_N3WW: Tensor, field_px: int) -> Tensor:
        turned = turn(windows_N3WW, field_px)
        both = recolour(turned.flatten(0, 1))  # a turn and a change of colour may be done in either order
        return both.unflatten(0, turned.shape[:2]).flatten(1, 2)

    return Action(group=direct_product(group, colours), act=act, window_px=plane_window_px(group))


def _check_law(action: Action, found_NG3SS: Tensor, name: str) -> None:
    for h in range(action.group.order):
        again_NG3SS = action.act(found_NG3SS[:, h].contiguous(), TRIED_PX)
        expected = found_NG3SS[:, torch.from_numpy(action.group.cayley[:, h])]
        for g in range(action.group.order):
            if not _near(again_NG3SS[:, g], expected[:, g]):
                one, other = action.group.labels[g], action.group.labels[h]
                said = f"{one} after {other} is not their product"
                raise ValueError(f"group: {name} is no action of {action.group.name}: {said}")


def _near(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= NEAR)
