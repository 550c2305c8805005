"""The plain way that the harvest is compared with: turn the whole image, run the whole network, read one unit.

It shares no code with the harvest: its own grid, its own mirrors, the network with its own padding.

Letters: N images, G group elements, C channels, L side of the square image.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gc_core.backbones import AnyBackbone
from gc_core.groups import Group

IMAGES_AT_ONCE = {"cpu": 1, "cuda": 64}
"""The fastest of 1, 2, 4, 8 and 16 on a CPU, whose caches hold the maps of one image."""


def image_side_px(backbone: AnyBackbone, at_most: int) -> int:
    """The largest odd side at whose centre pixel a unit of the layer looks."""
    fitting = (side for side in range(at_most, 0, -1) if side % 2 and side // 2 in backbone.unit_centres(side))
    return next(fitting)


@torch.inference_mode()
def plain_activations(image_3LL: Tensor, group: Group, backbone: AnyBackbone) -> Tensor:
    """(G, C) blocks of the centre pixel of a square image, float32."""
    dtype, side = torch.promote_types(backbone.dtype, torch.float32), image_3LL.shape[-1]
    unit = backbone.unit_centres(side).tolist().index(side // 2)
    image_3LL = image_3LL.to(backbone.device, dtype)
    blocks: list[Tensor] = []
    for elements in torch.arange(group.order).split(IMAGES_AT_ONCE[backbone.device.type]):
        turned = torch.stack([turn(image_3LL, group, int(g)) for g in elements])
        blocks.append(backbone.whole(turned)[:, :, unit, unit].to(dtype))
    return torch.cat(blocks)


def turn(image_3LL: Tensor, group: Group, element: int) -> Tensor:
    """g.x of a whole image: mirrored, if the element mirrors, then turned anticlockwise, bilinearly."""
    mirrored, turns = element >= group.n, element % group.n
    image_3LL = image_3LL.flip(-1) if mirrored else image_3LL
    if 4 * turns % group.n == 0:
        return image_3LL.rot90(4 * turns // group.n, (-2, -1))
    cos, sin = np.cos(2 * np.pi * turns / group.n), np.sin(2 * np.pi * turns / group.n)
    inverse_23 = image_3LL.new_tensor([[cos, -sin, 0], [sin, cos, 0]])  # rows grow downward
    grid_1LL2 = F.affine_grid(inverse_23[None], [1, *image_3LL.shape], align_corners=True)
    return F.grid_sample(image_3LL[None], grid_1LL2, align_corners=True)[0]
