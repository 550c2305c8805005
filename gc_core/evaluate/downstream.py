"""Loss recovered: what the rest of the network makes of reconstructions in place of the layer's activations.

    recovered = (L_ablated - L_reconstructed) / (L_ablated - L_original)

Ablated means: the mean activation in its place. At the border of an image units see padding, which no crosscoder was
trained on, so the same is measured with the border left as it is: the interior alone. With true labels L is the
cross-entropy; without, the divergence KL(original output || disturbed output), whose original value is zero. Loss
recovered: Bricken et al. 2023.

Letters: N images, B positions, C channels, F features, H W pixels, h w units, K classes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gc_core.crosscoder import Crosscoder
from gc_core.crosscoder.activation_functions import SparseCode

POSITIONS_AT_ONCE = 2048


class Trunk(Protocol):
    """The network up to the layer: `gc_core.backbones.Backbone`, or a user's own."""

    def whole(self, pixels_N3HW: Tensor, /) -> Tensor:
        """The layer's map, (N, C, h, w), of pixels in 0..255."""
        ...


@runtime_checkable
class Located(Protocol):
    """What a trunk knows of its units' fields, as `gc_core.backbones.Backbone` does: then the interior is known."""

    receptive_field_px: int

    def unit_centres(self, length_px: int, /) -> NDArray[np.int64]:
        """Pixel coordinates of the units' centres along an axis of an image."""
        ...


class Rest(Protocol):
    """The network after the layer: `gc_core.backbones.rest.load_rest`, or a user's own."""

    def __call__(self, map_NChw: Tensor, /) -> Tensor:
        """Logits, (N, K), of the layer's map."""
        ...


class Batch(NamedTuple):
    """Some images of one size."""

    pixels_N3HW: Tensor
    """RGB in 0..255."""
    label_N: Tensor | None
    """True classes, int64, where they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interior:
    """What replacing the layer does where no unit sees padding, the border left as it is."""

    share: float
    """Share of all positions, 0..1."""
    loss_reconstructed: float
    loss_ablated: float
    recovered: float | None
    """Share of the loss recovered, as in `Downstream`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downstream:
    """What replacing the layer does to the network's output; plain numbers, fit for JSON."""

    num_images: int
    loss: Literal["cross_entropy", "kl_to_original"]
    """Which loss the figures below are, in nats, mean over images."""
    loss_original: float
    loss_reconstructed: float
    loss_ablated: float
    recovered: float | None
    """1: as good as the layer itself; 0: no better than its mean; None where ablation does not change the loss."""
    same_top1_reconstructed: float
    """Share of images whose first answer is the undisturbed network's."""
    same_top1_ablated: float
    interior: Interior | None
    """None where the trunk does not know its units' fields, or no unit's lies inside an image."""


def measure_downstream(
    model: Crosscoder, trunk: Trunk, rest: Rest, batches: Iterable[Batch], mean_C: Tensor
) -> Downstream:
    """Run the rest of the network on the layer's own map, on its reconstruction, and on `mean_C` at every position.

    Raises:
        ValueError: the crosscoder's code cannot be computed from untransformed images alone, or there is no image.
    """
    refuse_other_readers(model)
    return measure_replacements(lambda map_NChw: reconstructed_map(model, map_NChw), trunk, rest, batches, mean_C)


@torch.no_grad()
def measure_replacements(
    replace: Callable[[Tensor], Tensor], trunk: Trunk, rest: Rest, batches: Iterable[Batch], mean_C: Tensor
) -> Downstream:
    """Measure like `measure_downstream` anything that turns a map (N, C, h, w) into another."""
    sums: Counter[str] = Counter()
    labelled = False
    for batch in batches:
        sums.update(_sums(replace, trunk, rest, batch, mean_C))
        labelled = batch.label_N is not None
    if not sums["images"]:
        found = "downstream: no usable image found, expected at least one of 224 px or more each way"
        raise ValueError(f"{found}; name others with --images")
    mean = {name: total / sums["images"] for name, total in sums.items()}
    return Downstream(
        num_images=int(sums["images"]),
        loss="cross_entropy" if labelled else "kl_to_original",
        loss_original=mean["original"],
        loss_reconstructed=mean["reconstructed"],
        loss_ablated=mean["ablated"],
        recovered=_recovered(mean["original"], mean["reconstructed"], mean["ablated"]),
        same_top1_reconstructed=mean["same reconstructed"],
        same_top1_ablated=mean["same ablated"],
        interior=_interior(mean) if mean["positions inside"] else None,
    )


def refuse_other_readers(model: Crosscoder) -> None:
    """ValueError unless the encoder reads the identity block alone."""
    if model.shape.reads != (0,):
        raise ValueError(
            "downstream: an encoder that reads transformed blocks found, expected one that reads the identity block "
            "alone: in the running network every position has only its untransformed activation; train with "
            "--encoder-reads identity"
        )


@torch.no_grad()
def mean_activation(trunk: Trunk, batches: Iterable[Batch]) -> Tensor:
    """(C,) mean of the layer over all positions of all images, float64, on the CPU."""
    total_C, count = torch.zeros(()), 0
    for pixels_N3HW, _ in batches:
        map_NChw = trunk.whole(pixels_N3HW)
        total_C = total_C + map_NChw.sum((0, 2, 3), dtype=torch.float64).cpu()
        count += map_NChw[:, 0].numel()
    return total_C / max(1, count)


def reconstructed_map(model: Crosscoder, map_NChw: Tensor) -> Tensor:
    """The crosscoder's identity block in place of the activation at every position; computed where the crosscoder is,
    given back where the map is."""
    num_images, channels, height, width = map_NChw.shape
    acts_B1C = map_NChw.permute(0, 2, 3, 1).reshape(-1, 1, channels).to(model.W_dec.device)
    identity = torch.zeros(1, dtype=torch.int64, device=acts_B1C.device)
    parts = [_identity_block(model, part_B1C, identity) for part_B1C in acts_B1C.split(POSITIONS_AT_ONCE)]
    replaced = torch.cat(parts).view(num_images, height, width, channels).permute(0, 3, 1, 2)
    return replaced.contiguous().to(map_NChw.device)


def _identity_block(model: Crosscoder, acts_B1C: Tensor, identity: Tensor) -> Tensor:
    """(B, 1, C) at a cost that follows the active features where these are few."""
    z_BF = model.encode(acts_B1C)
    if model.shape.activation not in ("topk", "batchtopk"):
        return model.decode(z_BF, blocks=identity)
    most = max(1, int((z_BF > 0).sum(1).max()))
    return model.decode_sparse(SparseCode(*z_BF.topk(most, dim=1)), blocks=identity)


def _sums(
    replace: Callable[[Tensor], Tensor], trunk: Trunk, rest: Rest, batch: Batch, mean_C: Tensor
) -> dict[str, float]:
    """Sums over the images of one batch: losses, equal answers, and numbers of positions."""
    map_NChw = trunk.whole(batch.pixels_N3HW)
    replaced_NChw, mean_NChw = replace(map_NChw), mean_C.to(map_NChw)[:, None, None].expand_as(map_NChw)
    inside_hw = _inside(trunk, batch.pixels_N3HW, map_NChw)
    own_NK = rest(map_NChw.clone())  # a layer may begin with an operation in place
    logits_NK = {"original": own_NK, "reconstructed": rest(replaced_NChw), "ablated": rest(mean_NChw.clone())}
    if inside_hw.any():
        logits_NK["inside reconstructed"] = rest(torch.where(inside_hw, replaced_NChw, map_NChw))
        logits_NK["inside ablated"] = rest(torch.where(inside_hw, mean_NChw, map_NChw))
    losses = {name: float(_loss(each_NK, own_NK, batch.label_N)) for name, each_NK in logits_NK.items()}
    same = {f"same {name}": float(_same_top1(each_NK, own_NK)) for name, each_NK in logits_NK.items()}
    positions = {"positions": inside_hw.numel(), "positions inside": int(inside_hw.sum())}
    num_images = len(map_NChw)
    return {"images": num_images, **losses, **same, **{name: n * num_images for name, n in positions.items()}}


def _inside(trunk: Trunk, pixels_N3HW: Tensor, map_NChw: Tensor) -> Tensor:
    """(h, w) bool: units whose field lies inside the image; none where that is not known."""
    if not isinstance(trunk, Located):
        return torch.zeros(map_NChw.shape[-2:], dtype=torch.bool, device=map_NChw.device)
    reach_px = trunk.receptive_field_px // 2
    rows_h, columns_w = (
        torch.from_numpy((centres - reach_px >= 0) & (centres + reach_px < length_px)).to(map_NChw.device)
        for length_px in pixels_N3HW.shape[-2:]
        for centres in [trunk.unit_centres(length_px)]
    )
    return rows_h[:, None] & columns_w


def _interior(mean: Mapping[str, float]) -> Interior:
    reconstructed, ablated = mean["inside reconstructed"], mean["inside ablated"]
    return Interior(
        share=mean["positions inside"] / mean["positions"],
        loss_reconstructed=reconstructed,
        loss_ablated=ablated,
        recovered=_recovered(mean["original"], reconstructed, ablated),
    )


def _recovered(original: float, reconstructed: float, ablated: float) -> float | None:
    return (ablated - reconstructed) / (ablated - original) if ablated != original else None


def _loss(logits_NK: Tensor, own_NK: Tensor, label_N: Tensor | None) -> Tensor:
    """Summed over images."""
    if label_N is not None:
        return F.cross_entropy(logits_NK, label_N.to(logits_NK.device), reduction="sum")
    log_own_NK = own_NK.log_softmax(1)
    return F.kl_div(logits_NK.log_softmax(1), log_own_NK, reduction="sum", log_target=True)


def _same_top1(logits_NK: Tensor, own_NK: Tensor) -> Tensor:
    return (logits_NK.argmax(1) == own_NK.argmax(1)).sum()
