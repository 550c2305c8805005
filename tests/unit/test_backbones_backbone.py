"""The two evaluations of a trunk agree with each other, with the geometry, and with networks written by other hands."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from gc_core.backbones import NAMES, Backbone, load
from gc_core.backbones import backbone as backbone_module

LAYERS = {
    "googlenet": [
        "conv1.bn",
        "maxpool1",
        "conv3",
        "inception3a.branch3",
        "inception3a.branch4.0",
        "inception3a",
        "inception3b",
    ],
    "inceptionv1": [
        "conv2d0",
        "localresponsenorm0",
        "conv2d2_pre_relu",
        "mixed3a_5x5",
        "mixed3a_pool",
        "mixed3a",
        "mixed3b",
    ],
}
CASES = [(name, layer) for name in NAMES for layer in LAYERS[name]]


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@cache
def random_backbone(name: str, layer: str | None = None) -> Backbone:
    return load(name, layer=layer, weights="random:7", dtype=torch.float64)


def interior(backbone: Backbone, length_px: int) -> list[tuple[int, int]]:
    """(unit, centre) of the units whose field lies inside the axis."""
    half = backbone.receptive_field_px // 2
    centres = backbone.unit_centres(length_px).tolist()
    return [(unit, centre) for unit, centre in enumerate(centres) if half <= centre < length_px - half]


@pytest.mark.parametrize(("name", "layer"), CASES)
@pytest.mark.parametrize("size", [(107, 110), (104, 109)])
def test_unit_gives_the_numbers_of_whole(name: str, layer: str, size: tuple[int, int]) -> None:
    backbone = random_backbone(name, layer)
    image = pixels(1, 3, *size)
    maps = backbone.whole(image)
    half = backbone.receptive_field_px // 2
    rows, columns = interior(backbone, size[0])[-3:], interior(backbone, size[1])[:3]
    places = [(row, column) for row in rows for column in columns]
    patches = [image[0, :, y - half : y + half + 1, x - half : x + half + 1] for (_, y), (_, x) in places]
    expected = torch.stack([maps[0, :, i, j] for (i, _), (j, _) in places])
    assert maps.shape[1] == backbone.channels == expected.shape[1]
    assert expected.std() > 0.01
    torch.testing.assert_close(backbone.unit(torch.stack(patches)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "layer"), CASES)
@pytest.mark.parametrize("length_px", [100, 101, 102, 103])
def test_exactly_the_pixels_of_the_field_change_a_unit(name: str, layer: str, length_px: int) -> None:
    """Rows, then columns, around both edges of the field: one moves the unit exactly when it lies inside."""
    backbone = random_backbone(name, layer)
    units = interior(backbone, length_px)
    unit, centre = units[len(units) // 2]
    half, across_px = backbone.receptive_field_px // 2, 24  # any width that has units: its borders play no part
    lines = [centre + side * (half + step) for side in (-1, 1) for step in (-1, 0, 1, 2)]
    image = pixels(1, 3, length_px, across_px)
    repainted = image.repeat(len(lines), 1, 1, 1)
    repainted[torch.arange(len(lines)), :, lines] = pixels(len(lines), 3, across_px, seed=1)
    for axis in (2, 3):
        before, after = (backbone.whole(x if axis == 2 else x.mT) for x in (image, repainted))
        change = (after - before).select(axis, unit).abs().amax(dim=(1, 2))
        assert (change > 0).tolist() == [abs(line - centre) <= half for line in lines]


@pytest.mark.parametrize("size", [(32, 35), (41, 38), (47, 49)])
def test_inceptionv1_is_the_network_written_out_in_numpy(size: tuple[int, int]) -> None:
    backbone = random_backbone("inceptionv1")
    image = pixels(1, 3, *size)
    weights = {name: buffer.numpy() for name, buffer in backbone.named_buffers()}
    expected = numpy_inceptionv1(image[0].numpy(), weights)
    np.testing.assert_allclose(backbone.whole(image)[0].numpy(), expected, rtol=1e-9, atol=1e-9)


def numpy_inceptionv1(image: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """conv2d0 to mixed3b over one image (3, H, W), from the network's description rather than from our layers."""

    def conv(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        kernel = weights[f"{name}_weight"]
        windows = same_windows(x, kernel.shape[-1], stride, 0.0)
        return np.maximum(
            np.einsum("chwyx,ocyx->ohw", windows, kernel, optimize=True) + weights[f"{name}_bias"][:, None, None], 0
        )

    def pool(x: np.ndarray, stride: int) -> np.ndarray:
        return same_windows(x, 3, stride, -np.inf).max(axis=(-2, -1))

    def norm(x: np.ndarray) -> np.ndarray:
        sums = [np.sum(x[max(0, channel - 5) : channel + 6] ** 2, axis=0) for channel in range(len(x))]
        return x / np.sqrt(2 + 1e-4 * np.stack(sums))

    def mixed(x: np.ndarray, name: str) -> np.ndarray:
        three = conv(conv(x, f"{name}_3x3_bottleneck"), f"{name}_3x3")
        five = conv(conv(x, f"{name}_5x5_bottleneck"), f"{name}_5x5")
        return np.concatenate([conv(x, f"{name}_1x1"), three, five, conv(pool(x, 1), f"{name}_pool_reduce")])

    x = norm(pool(conv(image - 117, "conv2d0", 2), 2))
    x = pool(norm(conv(conv(x, "conv2d1"), "conv2d2")), 2)
    return mixed(mixed(x, "mixed3a"), "mixed3b")


def same_windows(x: np.ndarray, kernel: int, stride: int, value: float) -> np.ndarray:
    """(C, h, w, kernel, kernel) windows under TensorFlow's SAME, by the formula of its documentation."""
    widths = [(0, 0)]
    for length in x.shape[1:]:
        added = max(kernel - (stride if length % stride == 0 else length % stride), 0)
        widths.append((added // 2, added - added // 2))
    padded = np.pad(x, widths, constant_values=value)
    return sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]


@pytest.mark.parametrize("num_patches", [0, 1, 5])
def test_the_number_of_patches_computed_together_changes_nothing(
    num_patches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = random_backbone("googlenet", "inception3a")
    patches = pixels(num_patches, 3, 43, 43)
    together = backbone.unit(patches)
    monkeypatch.setattr(backbone_module, "CPU_PIXELS_AT_ONCE", 2 * 43 * 43)
    assert together.shape == (num_patches, 256)
    torch.testing.assert_close(backbone.unit(patches), together, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_fewer_digits_stay_near_float64(dtype: torch.dtype, tolerance: float) -> None:
    patches = pixels(8, 3, 59, 59)
    exact = load("googlenet", dtype=torch.float64).unit(patches)
    rounded = load("googlenet", dtype=dtype).unit(patches.float())
    assert rounded.dtype == dtype
    assert (rounded.double() - exact).norm() < tolerance * exact.norm()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_whole_numbers_of_pixels_may_come_in_any_type(dtype: torch.dtype) -> None:
    patches = pixels(2, 3, 59, 59).round()
    backbone = load("googlenet")
    torch.testing.assert_close(backbone.unit(patches.to(dtype)), backbone.unit(patches))


def test_a_backbone_is_frozen_moves_as_one_and_survives_pickling() -> None:
    backbone = load("googlenet").to(torch.float64)
    assert (backbone.dtype, backbone.device.type, backbone.training) == (torch.float64, "cpu", False)
    assert list(backbone.parameters()) == []
    assert not backbone.unit(pixels(1, 3, 59, 59)).requires_grad
    copy = pickle.loads(pickle.dumps(backbone))
    patches = pixels(2, 3, 59, 59)
    torch.testing.assert_close(copy.unit(patches), backbone.unit(patches), rtol=0, atol=0)
    assert (copy.name, copy.layer, copy.weights_sha256) == ("googlenet", "inception3b", backbone.weights_sha256)


def test_gradients_reach_the_pixels() -> None:
    """Feature images are made by climbing them."""
    patches = pixels(1, 3, 91, 91).requires_grad_()
    random_backbone("inceptionv1").unit(patches).sum().backward()
    assert patches.grad is not None
    assert patches.grad.count_nonzero() > 0.9 * patches.numel()


def test_random_weights_follow_from_their_seed() -> None:
    first, again, other = (load("inceptionv1", weights=f"random:{seed}") for seed in (3, 3, 4))
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert torch.equal(first.get_buffer("conv2d0_weight"), again.get_buffer("conv2d0_weight"))


def test_only_the_weights_that_a_layer_needs_are_kept() -> None:
    assert len(load("googlenet", layer="conv2").state_dict()) == 4


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ((1, 3, 58, 59), r"58 x 59 px, but a unit of googlenet inception3b sees 59 x 59"),
        ((3, 59, 59), r"\(3, 59, 59\), expected \(N, 3, height, width\)"),
        ((1, 1, 59, 59), r"\(1, 1, 59, 59\), expected \(N, 3, height, width\)"),
    ],
)
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        load("googlenet").unit(pixels(*shape))


def test_unknown_backbone_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"'resnet18'; perhaps torchvision:resnet18; expected one of googlenet,"):
        load("resnet18")


@pytest.mark.parametrize("seed", ["random:", "random:-1", "random:x"])
def test_random_weights_need_a_seed(seed: str) -> None:
    with pytest.raises(ValueError, match=r"expected random:SEED"):
        load("googlenet", weights=seed)
