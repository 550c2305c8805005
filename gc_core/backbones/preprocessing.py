"""How pixels are scaled for a GoogLeNet, told by its tensors: a file keeps no other trace of it.

torchvision's published weights want pixels in -1..1 (its `transform_input`), networks trained with torchvision's
recipes want ImageNet's mean and deviation. A batch norm remembers how much its convolution varied in training, and
natural images predict that for either scaling; the two predictions differ by a factor of five.

Letters: F filters of the first convolution, P numbers in a patch that one of them sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Order = Literal["RGB", "BGR"]

IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
COLOUR_CORRELATION = 0.9
DECAY_PER_PX = 0.05
"""Decay rate of the correlation of two pixels, exp(-0.05 distance), in photographs of about 256 px."""
TOLERANCE = 2.0
"""Largest factor between the median of what was remembered and what is predicted."""
MOST_SPREAD = 3.5
"""Largest factor between the quartiles over filters; those of networks that saw no images spread wider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """x = (pixel / 255 - mean) / std, for each colour."""

    name: str
    mean_RGB: tuple[float, float, float]
    std_RGB: tuple[float, float, float]
    told_by: str = ""
    """How it was found out."""
    order: Order = "RGB"
    """Order in which the network reads the colours; mean and deviation are of red, green and blue in any case."""

    def describe(self) -> str:
        """Describe it for people: the name, the numbers, and why."""
        numbers = f"(pixel / 255 - {_joined(self.mean_RGB)}) / {_joined(self.std_RGB)}"
        order = "" if self.order == "RGB" else f" as {self.order}"
        return f"{self.name}: {numbers}{order}; {self.told_by}"


IMAGENET = Scaling(name="imagenet", mean_RGB=(0.485, 0.456, 0.406), std_RGB=IMAGENET_STD_RGB)
ASSUMED = replace(IMAGENET, told_by="ASSUMED; set it with --preprocessing")
"""Of networks whose source says nothing."""
TRANSFORM_INPUT = Scaling(name="transform_input", mean_RGB=(0.5, 0.5, 0.5), std_RGB=(0.5, 0.5, 0.5))

NAMED = {
    "imagenet": IMAGENET,
    "transform_input": TRANSFORM_INPUT,
    "clip": Scaling(
        name="clip", mean_RGB=(0.48145466, 0.4578275, 0.40821073), std_RGB=(0.26862954, 0.26130258, 0.27577711)
    ),
    "unit": Scaling(name="unit", mean_RGB=(0.0, 0.0, 0.0), std_RGB=(1.0, 1.0, 1.0)),
    "bytes": Scaling(name="bytes", mean_RGB=(0.0, 0.0, 0.0), std_RGB=(1 / 255, 1 / 255, 1 / 255)),
}
"""What `--preprocessing` may be called; `unit` leaves pixels in 0..1, `bytes` in 0..255."""


def asked_for(option: str) -> Scaling | None:
    """The scaling that an option names: a name of `NAMED`, or MEAN/STD with one number or three (red, green, blue;
    pixels in 0..1), as `0.5/0.25` or `0.48,0.46,0.41/0.27,0.26,0.28`; with `/bgr` after either for networks that read
    blue first. None for `auto`.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if option == "auto":
        return None
    parts = option.lower().split("/")
    order: Order = "BGR" if parts[-1] == "bgr" else "RGB"
    if order == "BGR":
        parts.pop()
    told_by = "as the option says"
    if len(parts) == 1 and parts[0] in NAMED:
        return replace(NAMED[parts[0]], order=order, told_by=told_by)
    try:
        mean, std = (_numbers(part) for part in parts)
        if min(std) <= 0:
            raise ValueError("a deviation is not positive")
    except ValueError:
        raise ValueError(
            f"preprocessing: found {option[:80]!r}, expected auto, {', '.join(NAMED)}, or MEAN/STD of pixels in 0..1"
            " such as 0.5/0.25 or 0.48,0.46,0.41/0.27,0.26,0.28; and /bgr after it for networks that read blue first"
        ) from None
    return Scaling(name="own", mean_RGB=mean, std_RGB=std, order=order, told_by=told_by)


def _numbers(text: str) -> tuple[float, float, float]:
    numbers = [float(each) for each in text.split(",")]
    if len(numbers) not in (1, 3) or not np.isfinite(numbers).all():
        raise ValueError("expected one number or three")
    return numbers[0], numbers[len(numbers) // 2], numbers[-1]


def recognise(state: Mapping[str, Tensor], conv: str = "conv1") -> Scaling | None:
    """The scaling under which a network's first batch norm saw the variance that it remembers; None if neither fits."""
    weight = state[f"{conv}.conv.weight"].to(torch.float64)
    remembered_F = state[f"{conv}.bn.running_var"].to(torch.float64).numpy()
    for scaling in (IMAGENET, TRANSFORM_INPUT):
        log_F = np.log(remembered_F.clip(1e-30)) - np.log(_predicted(weight, scaling).clip(1e-30))
        low, middle, high = np.quantile(log_F, (0.25, 0.5, 0.75))
        if abs(middle) <= np.log(TOLERANCE) and high - low <= np.log(MOST_SPREAD):
            return scaling
    return None


def _predicted(weight_F3HW: Tensor, scaling: Scaling) -> np.ndarray:
    """(F,) variance of each filter's output over photographs."""
    filters, _, height, width = weight_F3HW.shape
    scaled_FP = (weight_F3HW / torch.tensor(scaling.std_RGB).view(1, 3, 1, 1)).reshape(filters, -1).numpy()
    return np.einsum("fp,pq,fq->f", scaled_FP, _covariance(height, width), scaled_FP)


def _covariance(height: int, width: int) -> np.ndarray:
    """(P, P) of a patch's pixels, in 0..1; colour by colour, then row by row."""
    std_3 = np.array(IMAGENET_STD_RGB)
    colours_33 = np.where(np.eye(3, dtype=bool), 1, COLOUR_CORRELATION) * np.outer(std_3, std_3)
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width])
    distance_px = np.hypot(y[:, None] - y, x[:, None] - x)
    return np.kron(colours_33, np.exp(-DECAY_PER_PX * distance_px))


def _joined(numbers: tuple[float, float, float]) -> str:
    return f"{numbers[0]:g}" if len(set(numbers)) == 1 else f"({', '.join(f'{number:g}' for number in numbers)})"
