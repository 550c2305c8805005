"""The pure heart of the harvest: one image and its centres in, group-transformed activations out.

Only the receptive field of the wanted unit is cut out, transformed and evaluated without padding: the same numbers as
transforming the whole image and running the whole network, for a small part of the work.

Letters: N centres, G group elements, C channels, H W pixels, W window side, S field side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import actions, backbones, transforms
from gc_core.actions import Action
from gc_core.backbones import AnyBackbone
from gc_core.config import HarvestConfig
from gc_core.groups import FiniteGroup, Group
from gc_core.transforms import Resampling

CROPS_PER_PASS = {"cpu": 128, "cuda": 8192}
"""Patches in one forward pass: small enough for a core's caches and its allocator, large enough for an accelerator."""


def load_backbone(config: HarvestConfig, device: str) -> AnyBackbone:
    """The config's network on a device, in the config's arithmetic.

    On CUDA this process's convolutions become deterministic, and those of float32 compute in float32, not in TF32.
    """
    dtype = arithmetic(config.dtype, device)
    if device == "cuda":
        torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    backbone = network_of(config, dtype).to(device)
    return backbone.to(memory_format=torch.channels_last) if device == "cuda" else backbone


def network_of(config: HarvestConfig, dtype: torch.dtype = torch.float32) -> AnyBackbone:
    """The config's network, on the CPU."""
    return backbones.load(
        config.backbone,
        layer=config.layer,
        weights=config.weights,
        preprocessing=config.preprocessing,
        input_px=config.input_px,
        position=config.position,
        dtype=dtype,
    )


def arithmetic(dtype: str, device: str) -> torch.dtype:
    """The type named; `auto` is float16 on CUDA and float32 on CPUs, whatever processor is met.

    On a card float16 is as fast as bfloat16 and eight times finer; its range is checked (`harvest.shard`). On CPUs
    bfloat16 is sometimes faster, but changes a block by 1 to 3%.
    """
    if dtype != "auto":
        return getattr(torch, dtype)
    return torch.float16 if device == "cuda" else torch.float32


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a harvest makes of each centre: which turned patches, out of how large a window."""

    group: FiniteGroup
    resampling: Resampling
    window_px: int
    """Side of the square of pixels around a centre (`field_window_px`)."""
    action: Action | None = None
    """How a group acts that is not of the plane."""

    @staticmethod
    def of(config: HarvestConfig, backbone: AnyBackbone) -> "Geometry":
        """The geometry that the config says, for this network's field."""
        resampling = Resampling(
            interpolation=config.interpolation,
            half_step=config.resample_all,
            disc_mask=config.disc_mask,
            disc_window=backbone.sees_disc,
        )
        if config.is_own_group:
            action = actions.named(config.group)
            return Geometry(action.group, resampling, action.window_px(backbone.receptive_field_px), action)
        group = config.parsed_group
        return Geometry(group, resampling, field_window_px(group, backbone, resampling))


def field_window_px(group: Group, backbone: AnyBackbone, resampling: Resampling | None = None) -> int:
    """Side of the square of pixels around a centre that its rotated fields are made from."""
    return transforms.window_px(backbone.receptive_field_px, group, resampling or Resampling())


def group_activations(
    image_CHW_uint8: NDArray[np.uint8],
    centres_N2: NDArray[np.int32],
    group: Group,
    backbone: AnyBackbone,
    *,
    resampling: Resampling | None = None,
) -> Tensor:
    """a(g.x) for every centre and group element; (N, G, C), float32 on the backbone's device (float64 if that has it).

    `centres_N2` are (y, x) pixels whose rotated fields lie inside the image.

    Raises:
        ValueError: a rotated field would leave the image.
    """
    side = field_window_px(group, backbone, resampling)
    windows = cut_windows(image_CHW_uint8, centres_N2, side)
    return windows_to_activations(windows, group, backbone, resampling)


def cut_windows(image_CHW: NDArray[np.uint8], centres_N2: NDArray[np.int32], side_px: int) -> Tensor:
    """(N, 3, W, W) uint8 squares of original pixels around each centre.

    A square of an even side has the centre as the lower right of the four pixels in its middle.

    Raises:
        ValueError: a square would leave the image.
    """
    half = side_px // 2
    _, height, width = image_CHW.shape
    inside = (centres_N2 >= half).all() and (centres_N2 - half + side_px <= np.array([height, width])).all()
    if not inside:
        found = f"a field of {side_px} px leaves the {width} x {height} px image"
        raise ValueError(f"centres: {found}; keep {half} px from its borders")
    cuts = [image_CHW[:, y - half : y - half + side_px, x - half : x - half + side_px] for y, x in centres_N2]
    return torch.from_numpy(np.stack(cuts)) if cuts else torch.empty(0, 3, side_px, side_px, dtype=torch.uint8)


def group_of(config: HarvestConfig) -> FiniteGroup:
    """The config's group."""
    return actions.named(config.group).group if config.is_own_group else config.parsed_group


def windows_per_pass(group: FiniteGroup, backbone: AnyBackbone) -> int:
    """How many windows fill one forward pass on the backbone's device."""
    return max(1, CROPS_PER_PASS[backbone.device.type] // group.order)


def evaluated(windows_N3WW: Tensor, geometry: Geometry, backbone: AnyBackbone) -> Tensor:
    """(N, G, C) activations of windows already cut out. On an accelerator it returns before the work is done."""
    if geometry.action is not None:
        return _acted_on(windows_N3WW, geometry.action, backbone, disc_mask=geometry.resampling.disc_mask)
    assert isinstance(geometry.group, Group), "another group comes with its action"
    return windows_to_activations(windows_N3WW, geometry.group, backbone, geometry.resampling)


@torch.inference_mode()
def _acted_on(windows_N3WW: Tensor, action: Action, backbone: AnyBackbone, *, disc_mask: bool) -> Tensor:
    """Pixels are scaled as the network reads them after the action, which is on grey levels."""
    dtype, side = torch.promote_types(backbone.dtype, torch.float32), backbone.receptive_field_px
    parts = [torch.empty(0, action.group.order, backbone.channels, device=backbone.device, dtype=dtype)]
    for windows in windows_N3WW.split(windows_per_pass(action.group, backbone)):
        if len(windows):
            patches = backbone.normalised(action.act(_on(backbone.device, windows).to(dtype), side).flatten(0, 1))
            masked = patches * transforms.disc(side).to(patches) if disc_mask else patches
            units = backbone.unit_of_normalised(masked.to(backbone.dtype))
            parts.append(units.to(dtype).reshape(len(windows), action.group.order, backbone.channels))
    return torch.cat(parts)


@torch.inference_mode()
def windows_to_activations(
    windows_N3WW: Tensor, group: Group, backbone: AnyBackbone, resampling: Resampling | None = None
) -> Tensor:
    """`group_activations` for windows already cut out. On an accelerator it returns before the work is done."""
    dtype = torch.promote_types(backbone.dtype, torch.float32)  # half precision pixels would round the interpolation
    parts = [torch.empty(0, group.order, backbone.channels, device=backbone.device, dtype=dtype)]
    for windows in windows_N3WW.split(windows_per_pass(group, backbone)):
        if len(windows):
            original = backbone.normalised(_on(backbone.device, windows).to(dtype))
            patches = transforms.act(original, group, backbone.receptive_field_px, resampling, dtype=backbone.dtype)
            units = backbone.unit_of_normalised(patches.flatten(0, 1))
            parts.append(units.to(dtype).reshape(len(windows), group.order, backbone.channels))
    return torch.cat(parts)


def _on(device: torch.device, windows: Tensor) -> Tensor:
    """Move windows to the device; from pinned memory the copy runs beside the computation."""
    return windows if device.type == "cpu" else windows.pin_memory().to(device, non_blocking=True)
