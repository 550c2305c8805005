"""Any network: a unit computed from its field, the network on a canvas, and the plain way give the same numbers.

The plain way is written here from the definitions, in float64, with scipy's interpolation and none of `transforms`:
turn the whole image, run the whole network, read the unit in the middle.

Letters: N images, C channels, G group elements, H W pixels, L frame side.
"""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from gc_core import groups, harvest, transforms
from gc_core.backbones import ModuleBackbone
from gc_core.backbones.layer_plan import Evaluation
from gc_core.backbones.networks import Network
from gc_core.backbones.preprocessing import IMAGENET, Scaling
from gc_core.backbones.reading import Position, Reading
from gc_core.backbones.traced import watched
from support.networks import LOCAL, WHOLE, network

GROUP = groups.dihedral(8)
TOLERANCE = 1e-9


@cache
def photograph_CHW(side_px: int = 240) -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.astronaut()[60 : 60 + side_px, 80 : 80 + side_px].transpose(2, 0, 1))


def in_double(
    found: Network, layer: str, evaluation: Evaluation = "auto", position: Position = "centre"
) -> ModuleBackbone:
    """The layer in float64, of a copy of the network: a backbone keeps its own module."""
    own = replace(found, module=copy.deepcopy(found.module))
    return ModuleBackbone("test", own, layer=layer, dtype=torch.float64, evaluation=evaluation, position=position)


def moved(image_CHW: NDArray[np.float64], centre: tuple[float, float], element: int, side: int) -> NDArray[np.float64]:
    """r^k, or mirror left-right and then r^k, about `centre` into the middle of a frame; outside the image is black."""
    angle = 2 * np.pi * (element % GROUP.n) / GROUP.n
    down, right = np.mgrid[:side, :side] - (side - 1) / 2
    up = -down
    from_right, from_up = right * np.cos(angle) + up * np.sin(angle), up * np.cos(angle) - right * np.sin(angle)
    if element >= GROUP.n:
        from_right = -from_right
    places = [centre[0] - from_up, centre[1] + from_right]
    return np.stack([ndimage.map_coordinates(channel, places, order=1) for channel in image_CHW])


def plain_way(image_CHW: NDArray[np.uint8], pixel: tuple[int, int], backbone: ModuleBackbone, reach_px: int) -> Tensor:
    """(G, C) of whole turned images in frames that reach at least so far around the centre."""
    even = 1 - backbone.receptive_field_px % 2
    centre = pixel[0] - even / 2, pixel[1] - even / 2
    side = next(
        side
        for side in range(reach_px + 1 - even + reach_px % 2, 10 * reach_px, 2)
        if side % 2 != even and side // 2 in backbone.unit_centres(side)
    )
    unit = backbone.unit_centres(side).tolist().index(side // 2)
    frames = [moved(image_CHW.astype(np.float64), centre, element, side) for element in range(GROUP.order)]
    return torch.stack([backbone.whole(torch.from_numpy(frame)[None])[0, :, unit, unit] for frame in frames])


@pytest.mark.parametrize("name", LOCAL)
def test_a_field_a_canvas_and_the_plain_way_agree(name: str) -> None:
    make, layer = LOCAL[name]
    found = network(make, 64 if name == "patches" else 224)
    program, canvas = in_double(found, layer), in_double(found, layer, "canvas")
    assert program.program is not None, program.evaluation
    assert canvas.program is None
    image, pixel = photograph_CHW(), (118, 121)
    by_program, by_canvas = (
        harvest.group_activations(image, np.array([pixel], np.int32), GROUP, each)[0] for each in (program, canvas)
    )
    size = float(by_program.abs().max())
    assert by_program.std() > 1e-3 * size, "the numbers say something"
    torch.testing.assert_close(by_canvas, by_program, rtol=0, atol=TOLERANCE * size)
    if name != "patches":  # that network takes one size of images, and no frame of it has a unit in the middle
        reach_px = harvest.field_window_px(GROUP, program)
        plain = plain_way(image, pixel, program, reach_px)
        torch.testing.assert_close(plain, by_program, rtol=0, atol=TOLERANCE * size)
        assert (plain.roll(1, 0) - by_program).abs().max() > 1e-3 * size, "the control: another element differs"


@pytest.mark.parametrize("name", WHOLE)
def test_a_unit_that_sees_everything_is_read_from_a_turned_disc(name: str) -> None:
    make, layer, side_px = WHOLE[name]
    found = network(make, side_px)
    backbone = in_double(found, layer)
    assert backbone.sees_disc
    assert backbone.program is None
    image, even = photograph_CHW(), 1 - backbone.receptive_field_px % 2
    pixel = (118, 121)
    acts_GC = harvest.group_activations(
        image, np.array([pixel], np.int32), GROUP, backbone, resampling=transforms.Resampling(disc_window=True)
    )[0]
    centre = pixel[0] - even / 2, pixel[1] - even / 2
    module = copy.deepcopy(found.module).double()
    expected = []
    for element in range(GROUP.order):
        turned_CSS = moved(image.astype(np.float64), centre, element, backbone.receptive_field_px)
        expected.append(unit_in_canvas(module, layer, turned_CSS, backbone.reading))
    size = float(acts_GC.abs().max())
    torch.testing.assert_close(torch.stack(expected), acts_GC, rtol=0, atol=TOLERANCE * size)
    assert (acts_GC - acts_GC.roll(1, 0)).abs().max() > 1e-5 * size


def unit_in_canvas(module: nn.Module, layer: str, picture_CSS: NDArray[np.float64], reading: Reading) -> Tensor:
    """(C,) of the whole network for a disc of the picture on a canvas of the mean colour, from the definitions."""
    mean, std = (
        torch.tensor(each, dtype=torch.float64).view(3, 1, 1) for each in (IMAGENET.mean_RGB, IMAGENET.std_RGB)
    )
    length, side = picture_CSS.shape[1], reading.canvas_px
    at, unit = reading.offset_px, reading.unit
    offset = np.arange(length) - (length - 1) / 2
    disc = torch.from_numpy(np.hypot(offset[:, None], offset) <= length / 2)
    canvas = torch.zeros(1, 3, side, side, dtype=torch.float64)
    inside = (torch.from_numpy(picture_CSS) / 255 - mean) / std * disc
    canvas[0, :, at[0] : at[0] + length, at[1] : at[1] + length] = inside
    with torch.no_grad(), watched(module, [layer]) as seen:
        module(canvas)
    output = seen[layer][0][0]
    if output.ndim == 1:
        return output
    if output.ndim == 2:
        grid = int(len(output) ** 0.5)
        return output[len(output) - grid**2 + unit[0] * grid + unit[1]]
    return output[unit[0], unit[1]] if output.shape[0] == output.shape[1] else output[:, unit[0], unit[1]]


def test_a_quarter_turn_permutes_the_tokens_of_a_symmetrised_transformer() -> None:
    """Where patches are embedded alike however they are turned, and places are told apart by nothing, a turn about a
    token's centre moves every token of the disc to where its patch went, and leaves the token in the middle."""
    make, layer, side_px = WHOLE["vit"]
    found = network(make, side_px)
    kernel = found.module.get_submodule("patch_embed.proj").weight
    kernel.data = sum(kernel.data.rot90(turns, (2, 3)) for turns in range(4)) / 4
    found.module.get_parameter("pos_embed").data[:] = found.module.get_parameter("pos_embed").data[:, :1]
    backbone = in_double(found, layer)
    reading = backbone.reading
    (top, left), length = reading.offset_px, reading.patch_px
    patch = torch.from_numpy(photograph_CHW(240)[None, :, 50 : 50 + length, 60 : 60 + length]).double()
    picture = backbone.normalised(patch) * transforms.disc(length)
    tokens = []
    for turns in (0, 1):
        canvas = torch.zeros(1, 3, side_px, side_px, dtype=torch.float64)
        canvas[:, :, top : top + length, left : left + length] = picture.rot90(turns, (2, 3))
        with torch.no_grad():
            tokens.append(backbone.trunk(canvas)[0, 1:].unflatten(0, (4, 4)))
    row, column = reading.unit
    assert (row, column) == (2, 2)
    torch.testing.assert_close(tokens[1][1:, 1:], tokens[0][1:, 1:].rot90(1, (0, 1)), rtol=0, atol=1e-9)
    torch.testing.assert_close(tokens[1][2, 2], tokens[0][2, 2], rtol=0, atol=1e-9)
    assert (tokens[1][1:, 1:] - tokens[0][1:, 1:]).abs().max() > 1e-3, "the control: tokens did move"


def test_the_mean_position_reads_all_units() -> None:
    make, layer, side_px = WHOLE["mobilenet v3"]
    found = network(make, side_px)
    backbone = in_double(found, layer, position="mean")
    assert backbone.receptive_field_px == side_px
    patch = torch.from_numpy(photograph_CHW(side_px)[None]).double()
    module = copy.deepcopy(found.module).double()
    disc = transforms.disc(side_px)
    with torch.no_grad(), watched(module, [layer]) as seen:
        module(backbone.normalised(patch) * disc)
    torch.testing.assert_close(backbone.unit(patch), seen[layer][0].mean((2, 3)), rtol=0, atol=1e-12)


def test_a_grey_network_reads_luma_and_a_blue_first_network_reversed_colours() -> None:
    pixels = torch.from_numpy(photograph_CHW(40)[None]).double()
    grey = Network(module=nn.Sequential(nn.Conv2d(1, 4, 3)), scaling=IMAGENET, channels_in=1, input_px=32)
    luma = (0.299 * pixels[:, 0] + 0.587 * pixels[:, 1] + 0.114 * pixels[:, 2])[:, None]
    expected = (luma / 255 - IMAGENET.mean_RGB[0]) / IMAGENET.std_RGB[0]
    torch.testing.assert_close(in_double(grey, "0").normalised(pixels), expected)
    bgr = Scaling(name="bgr", mean_RGB=(0.1, 0.2, 0.3), std_RGB=(1.0, 2.0, 3.0), order="BGR")
    colour = Network(module=nn.Sequential(nn.Conv2d(3, 4, 3)), scaling=bgr, input_px=32)
    blue = in_double(colour, "0").normalised(pixels)[:, 0]
    torch.testing.assert_close(blue, (pixels[:, 2] / 255 - 0.3) / 3)
