"""One layer of any torch network, frozen: pixels in, activations of one unit out.

Letters: N images or patches, C channels of the image (RGB, or grey), H W pixels, S side of the patch, h w units.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gc_core.backbones.backbone import CPU_PIXELS_AT_ONCE
from gc_core.backbones.layer_plan import RUNNING_ERRORS, Evaluation, plan_layer
from gc_core.backbones.networks import Network
from gc_core.backbones.networks.network import sha256_of_state
from gc_core.backbones.preprocessing import Scaling
from gc_core.backbones.reading import Position, Reading, as_map, layout_of, on_canvas, unit_of
from gc_core.backbones.trunk import Trunk, check_layer, layer_names
from gc_core.transforms import disc

LUMA_RGB = (0.299, 0.587, 0.114)
"""How much of each colour a grey image has (ITU-R BT.601, as Pillow's mode L)."""


class ModuleBackbone(nn.Module):
    """One layer of a network with fixed weights; the interface of `gc_core.backbones.Backbone`.

    Pixels are RGB floats in 0..255; the network's own preprocessing happens inside.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        *,
        layer: str | None = None,
        scaling: Scaling | None = None,
        input_px: int | None = None,
        position: Position = "centre",
        dtype: torch.dtype = torch.float32,
        evaluation: Evaluation = "auto",
    ) -> None:
        """Raises ValueError, in one line, where the layer cannot be read."""
        super().__init__()
        self.name = name
        self.layers = layer_names(network.module)
        self.layer = check_layer(network, layer)
        self.weights_sha256 = sha256_of_state(network.module)
        scaling = scaling or network.scaling
        self.preprocessing = scaling.describe()
        if any(each.dtype in (torch.float16, torch.bfloat16) for each in network.module.parameters()):
            network.module.float()  # on CPUs not every operation knows them; what is computed in is `dtype`
        self._input_px = input_px or network.input_px
        try:
            self._plan = plan_layer(
                network, self.layer, input_px=self._input_px, position=position, evaluation=evaluation
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        self.channels = self._plan.layout.channels
        self.receptive_field_px = self._plan.reading.patch_px
        self.stride_px = self._plan.stride_px
        self.sees_disc = self._plan.reading.whole_input
        self._batch, self._order, self._channels_in = network.fixed_batch, scaling.order, network.channels_in
        self._dtype = dtype
        self._units_of: dict[int, int] = {}  # along an axis of so many pixels
        self.trunk = Trunk(network.module, self.layer).to(dtype)
        self.program = None if self._plan.program is None else self._plan.program.to(dtype)
        mean, scale = _per_channel(scaling, network.channels_in)
        self.register_buffer("_scale_C11", scale, persistent=False)
        self.register_buffer("_offset_C11", -mean * scale, persistent=False)
        self.register_buffer("_disc_SS", disc(self.receptive_field_px), persistent=False)
        self.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are; pixels are brought there."""
        return self.get_buffer("_scale_C11").device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the weights and of the activations."""
        return self._dtype

    @property
    def reading(self) -> Reading:
        """Where patches lie on the network's canvas, and which unit is read."""
        return self._plan.reading

    @property
    def evaluation(self) -> str:
        """How a unit is computed, in words, and why not faster."""
        plan = self._plan
        if plan.program is not None:
            return f"field of {plan.reading.patch_px} px, computed without padding"
        kind = "the whole input" if plan.reading.whole_input else f"field of {plan.reading.patch_px} px"
        return f"{kind}, on a canvas of {plan.reading.canvas_px} px ({plan.why})"

    def whole(self, pixels_N3HW: Tensor) -> Tensor:
        """The layer's map over whole images, (N, C, h, w), with the network's own padding at the borders.

        Images get a rim of the mean colour below and on the right, less than a stride wide, so that a network whose
        padding depends on the size pads before them as at the size that it was made for.

        Raises:
            ValueError: the network takes no images of this size.
        """
        images_NCHW = self.normalised(pixels_N3HW)
        if not self.sees_disc:
            below, right = ((self._input_px - length_px) % self.stride_px for length_px in images_NCHW.shape[-2:])
            images_NCHW = F.pad(images_NCHW, (0, right, 0, below))
        try:
            output = torch.cat([self._layer_of(part) for part in images_NCHW.split(1)])
        except RUNNING_ERRORS as error:
            height, width = pixels_N3HW.shape[-2:]
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            raise ValueError(f"{self.name}: cannot take a {width} x {height} px image ({reason})") from error
        axes = self._plan.layout.axes if output.ndim == 4 else None
        return as_map(output, layout_of(output, axes))

    def unit(self, patches_N3SS: Tensor) -> Tensor:
        """Activations of the one unit at the centre of every patch, (N, channels); S is `receptive_field_px`."""
        return self.unit_of_normalised(self.normalised(patches_N3SS))

    forward = unit

    def unit_of_normalised(self, patches_NCSS: Tensor) -> Tensor:
        """`unit` of patches that `normalised` made, or that were resampled from such pixels."""
        side_px = self.receptive_field_px
        if tuple(patches_NCSS.shape[1:]) != (self._channels_in, side_px, side_px):
            raise ValueError(
                f"patches have shape {tuple(patches_NCSS.shape)}, but a unit of {self.name} {self.layer} sees"
                f" {self._channels_in} x {side_px} x {side_px}; cut patches of that size."
            )
        on_cpu = self.device.type == "cpu"
        at_once = max(1, CPU_PIXELS_AT_ONCE // side_px**2 if on_cpu else len(patches_NCSS))
        return torch.cat([self._units(part) for part in patches_NCSS.split(at_once)])

    def normalised(self, pixels_N3HW: Tensor) -> Tensor:
        """What the first layer reads, in float32 (float64 of float64), (N, C, H, W); 0 is the network's mean colour."""
        if pixels_N3HW.ndim != 4 or pixels_N3HW.shape[1] != 3:
            raise ValueError(f"pixels have shape {tuple(pixels_N3HW.shape)}, expected (N, 3, height, width): RGB.")
        pixels_N3HW = pixels_N3HW.to(device=self.device, dtype=torch.promote_types(pixels_N3HW.dtype, torch.float32))
        scale_C11, offset_C11 = (self.get_buffer(name).to(pixels_N3HW.dtype) for name in ("_scale_C11", "_offset_C11"))
        if self._channels_in == 1:
            luma_3 = pixels_N3HW.new_tensor(LUMA_RGB)
            pixels_N3HW = torch.einsum("nchw,c->nhw", pixels_N3HW, luma_3)[:, None]
        scaled_NCHW = torch.addcmul(offset_C11, pixels_N3HW, scale_C11)
        return scaled_NCHW.flip(1) if self._order == "BGR" else scaled_NCHW

    def unit_centres(self, length_px: int) -> np.ndarray:
        """Pixel coordinates (int64) of the units' centres along an image axis of `length_px` pixels; where a field has
        an even side, of the lower right of the four pixels in its middle.

        Raises:
            ValueError: units depend on the whole image, or the network takes no such image.
        """
        if self.sees_disc:
            raise ValueError(
                f"{self.name} {self.layer}: a unit sees the whole image, so that there are none to choose from; take"
                " other --centres than `activation`"
            )
        return self._plan.first_px + self.stride_px * np.arange(self._units_along(length_px), dtype=np.int64)

    def _units_along(self, length_px: int) -> int:
        if length_px not in self._units_of:
            with torch.inference_mode():
                self._units_of[length_px] = self.whole(torch.zeros(1, 3, length_px, length_px)).shape[-1]
        return self._units_of[length_px]

    def _units(self, patches_NCSS: Tensor) -> Tensor:
        """(N, channels), computed together."""
        plan = self._plan
        if plan.reading.whole_input:
            patches_NCSS = patches_NCSS * self.get_buffer("_disc_SS")
        if self.program is not None:
            return self.program(self._laid_out(patches_NCSS[:, :, plan.part[0], plan.part[1]]))
        output = self._layer_of(on_canvas(patches_NCSS, plan.reading))
        return unit_of(output, plan.layout, plan.reading)

    def _layer_of(self, images_NCHW: Tensor) -> Tensor:
        """The layer's output; images go through in batches of the one size that the network takes, if it has one."""
        images_NCHW = self._laid_out(images_NCHW)
        if self._batch is None:
            return self.trunk(images_NCHW)
        parts = []
        for part in images_NCHW.split(self._batch):
            missing = self._batch - len(part)
            full = torch.cat([part, part[:1].expand(missing, -1, -1, -1)]) if missing else part
            parts.append(self.trunk(full)[: len(part)])
        return torch.cat(parts)

    def _laid_out(self, normalised_NCHW: Tensor) -> Tensor:
        """Cast to the weights' type, only now since large means are coarse in half precision; channels last."""
        return normalised_NCHW.to(device=self.device, dtype=self.dtype).contiguous(memory_format=torch.channels_last)


def _per_channel(scaling: Scaling, channels_in: int) -> tuple[Tensor, Tensor]:
    """(C, 1, 1) mean of pixels in 0..255 and what their difference is multiplied by."""
    mean, std = (torch.tensor(each[:channels_in], dtype=torch.float64) for each in (scaling.mean_RGB, scaling.std_RGB))
    return 255 * mean.view(-1, 1, 1), (1 / (255 * std)).view(-1, 1, 1)
