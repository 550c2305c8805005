"""A frozen trunk: pixels in, the activations of one layer out.

Letters: N images or patches, 3 RGB, H W pixels, R side of the receptive field, C channels, h w units.
"""

import numpy as np
import torch
from torch import Tensor, nn

from gc_core.backbones.forward import Kernel, with_padding, without_padding
from gc_core.backbones.geometry import axis_of, field_of
from gc_core.backbones.layers import convolutions, layer_names, layers_until, num_channels
from gc_core.backbones.weights import Trunk

CPU_PIXELS_AT_ONCE = 220_000
"""How much of the patches goes through the layers together on a CPU: of more, the maps fall out of its cache."""


class Backbone(nn.Module):
    """One layer of a network with fixed weights.

    Pixels are RGB floats in 0..255; the network's own preprocessing happens inside. Weights are buffers: `.to` moves
    them, nothing trains them. A pickled backbone carries its weights.
    """

    def __init__(self, name: str, trunk: Trunk, *, layer: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.name = name
        self.layer = layer
        self.layers = layer_names(trunk.layers)
        self.weights_sha256 = trunk.sha256
        self.preprocessing = trunk.preprocessing
        self._path = layers_until(trunk.layers, layer)
        field = field_of(self._path)
        self.channels = num_channels(self._path, 3)
        self.receptive_field_px = field.size_px
        self.stride_px = field.stride_px
        for conv, _ in convolutions(self._path, 3):
            weight, bias = trunk.kernels[conv.weights]
            # Channels last: convolutions of a few pixels and many channels run twice as fast on a CPU.
            weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
            self.register_buffer(_attribute(conv.weights, "weight"), weight)
            self.register_buffer(_attribute(conv.weights, "bias"), bias.to(dtype))
        # On the device, for making them there at each pass would wait for all that runs on an accelerator.
        mean_311, scale_311 = (
            torch.tensor(colour, dtype=torch.float64).view(3, 1, 1) for colour in (trunk.mean_RGB, trunk.scale_RGB)
        )
        self.register_buffer("_scale_311", scale_311, persistent=False)
        self.register_buffer("_offset_311", -mean_311 * scale_311, persistent=False)
        self.sees_disc = False
        """Whether units see the disc inside their patch alone; these see all of it."""
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are; pixels are brought there."""
        return next(self.buffers()).device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the weights and of the activations."""
        return next(self.buffers()).dtype

    def whole(self, pixels_N3HW: Tensor) -> Tensor:
        """The layer's map over whole images, (N, C, h, w), with the network's own padding at the borders."""
        self._check(pixels_N3HW)
        for length_px in pixels_N3HW.shape[-2:]:
            axis_of(self._path, length_px)  # an image too small for the network is refused by name
        return with_padding(self._path, self._laid_out(self.normalised(pixels_N3HW)), self._kernels())

    def unit(self, patches_N3RR: Tensor) -> Tensor:
        """Activations of the one unit at the centre of every patch, (N, C).

        R is `receptive_field_px`. The same numbers as `whole` gives at a unit whose field lies inside the image.
        """
        self._check(patches_N3RR)
        return self.unit_of_normalised(self.normalised(patches_N3RR))

    forward = unit

    def unit_of_normalised(self, patches_N3RR: Tensor) -> Tensor:
        """`unit` of patches that `normalised` made, or that were resampled from such pixels."""
        self._check(patches_N3RR)
        side_px = self.receptive_field_px
        if tuple(patches_N3RR.shape[-2:]) != (side_px, side_px):
            raise ValueError(
                f"patches have {patches_N3RR.shape[-2]} x {patches_N3RR.shape[-1]} px, but a unit of {self.name}"
                f" {self.layer} sees {side_px} x {side_px}; cut patches of that size."
            )
        on_cpu = self.device.type == "cpu"
        num_at_once = max(1, CPU_PIXELS_AT_ONCE // side_px**2 if on_cpu else len(patches_N3RR))
        kernels = self._kernels()
        acts_NC11 = [
            without_padding(self._path, self._laid_out(part_N3RR), kernels)
            for part_N3RR in patches_N3RR.split(num_at_once)
        ]
        return torch.cat(acts_NC11)[:, :, 0, 0]

    def normalised(self, pixels_N3HW: Tensor) -> Tensor:
        """What the first layer reads, in float32 (float64 of float64); 0 is the network's mean colour.

        Each channel is scaled and shifted, so resampling gives the same before and after; pixels are fewer before.
        """
        pixels_N3HW = pixels_N3HW.to(device=self.device, dtype=torch.promote_types(pixels_N3HW.dtype, torch.float32))
        scale_311, offset_311 = (self.get_buffer(name).to(pixels_N3HW.dtype) for name in ("_scale_311", "_offset_311"))
        return torch.addcmul(offset_311, pixels_N3HW, scale_311)

    def unit_centres(self, length_px: int) -> np.ndarray:
        """Pixel coordinates (int64) of the units' centres along an image axis of `length_px` pixels.

        A unit's field lies inside the image when centre - R // 2 >= 0 and centre + R // 2 < length_px.
        """
        axis = axis_of(self._path, length_px)
        return axis.first_px + axis.stride_px * np.arange(axis.num_units, dtype=np.int64)

    def _kernels(self) -> dict[str, Kernel]:
        buffers = dict(self.named_buffers())
        return {
            conv.weights: Kernel(buffers[_attribute(conv.weights, "weight")], buffers[_attribute(conv.weights, "bias")])
            for conv, _ in convolutions(self._path, 3)
        }

    def _laid_out(self, normalised_N3HW: Tensor) -> Tensor:
        """Cast to the weights' type, only now since a mean of 123.7 is coarse in bfloat16; channels last."""
        return normalised_N3HW.to(device=self.device, dtype=self.dtype, memory_format=torch.channels_last)

    def _check(self, pixels_N3HW: Tensor) -> None:
        if pixels_N3HW.ndim != 4 or pixels_N3HW.shape[1] != 3:
            raise ValueError(f"pixels have shape {tuple(pixels_N3HW.shape)}, expected (N, 3, height, width): RGB.")


def _attribute(name: str, part: str) -> str:
    return f"{name}.{part}".replace(".", "_")
