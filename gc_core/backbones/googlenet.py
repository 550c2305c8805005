"""torchvision's GoogLeNet, conv1 to inception3b, as layers; batch norms become part of the convolutions.

Its "5x5" branch is 3x3, as torchvision's is: the field is 59 px where the published InceptionV1 has 91.
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from gc_core.backbones.forward import Kernel
from gc_core.backbones.layers import Block, Conv, Layer, MaxPool, Relu, centred, convolutions, rounded_up
from gc_core.backbones.preprocessing import IMAGENET, TRANSFORM_INPUT, Scaling, asked_for, recognise
from gc_core.backbones.weights import (
    RANDOM_PREFIX,
    Trunk,
    check_kernels,
    parse_state,
    random_kernels,
    sha256_of,
    weight_file,
)

DEFAULT_LAYER = "inception3b"

BUNDLED_FILE = "googlenet-trunk-distilled.safetensors"
BUNDLED_SHA256 = "7f8527bb4cc3e3955b74b551d223919f47aebfeb6e031e2c31dd93cf0628be54"
PUBLISHED_SHA256_START = "1378be20"  # what torchvision puts into the file's name and checks after a download

BATCH_NORM_EPSILON = 1e-3


def googlenet_layers() -> tuple[Layer, ...]:
    """conv1 to inception3b. `NAME` is the output after the ReLU, `NAME.bn` the one before it."""
    return (
        *_conv("conv1", 64, kernel=7, stride=2),
        MaxPool(name="maxpool1", kernel=3, stride=2, border=rounded_up),
        *_conv("conv2", 64),
        *_conv("conv3", 192, kernel=3),
        MaxPool(name="maxpool2", kernel=3, stride=2, border=rounded_up),
        _inception("inception3a", 64, (96, 128), (16, 32), 32),
        _inception("inception3b", 128, (128, 192), (32, 96), 64),
    )


def load_googlenet(weights: str, preprocessing: str = "auto") -> Trunk:
    """The trunk with weights "bundled", "torchvision", "random:SEED", or those of a file (path or file:// URL).

    Raises ValueError in one line when they cannot be had, are damaged, or belong to another network.
    """
    if weights.startswith(RANDOM_PREFIX):
        told = asked_for(preprocessing) or replace(IMAGENET, told_by="random weights")
        return _trunk(*random_kernels(googlenet_layers(), weights), told)
    return trunk_of(content_of(weights), weights, preprocessing)


def trunk_of(content: bytes, weights: str, preprocessing: str = "auto") -> Trunk:
    """The trunk in the bytes of a weight file that was asked for as `weights`; ValueError as `load_googlenet`."""
    layers, sha256 = googlenet_layers(), sha256_of(content)
    if weights == "bundled" and sha256 != BUNDLED_SHA256:
        raise ValueError(f"{BUNDLED_FILE}: SHA-256 is {sha256}, expected {BUNDLED_SHA256}; reinstall the package.")
    state = parse_state(content, weights)
    kernels = _fold_all(layers, state, weights)
    check_kernels(layers, kernels, weights)
    return _trunk(kernels, sha256, asked_for(preprocessing) or _told_by_file(state, sha256))


def content_of(weights: str) -> bytes:
    """The bytes of the weight file that "bundled", "torchvision", a path or a file:// URL names."""
    if weights == "bundled":
        return (files("gc_core.backbones") / "data" / BUNDLED_FILE).read_bytes()
    if weights == "torchvision":
        return _download()
    return weight_file(weights).read_bytes()


def fold_batch_norm(state: Mapping[str, Tensor], name: str) -> Kernel:
    """Convolution `name.conv` and batch norm `name.bn` of a torchvision state dict as one convolution, in float64."""
    gain, shift, mean, variance = (
        state[f"{name}.bn.{part}"].to(torch.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / torch.sqrt(variance + BATCH_NORM_EPSILON)
    weight = state[f"{name}.conv.weight"].to(torch.float64)
    return Kernel(weight * scale[:, None, None, None], shift - mean * scale)


def _told_by_file(state: Mapping[str, Tensor], sha256: str) -> Scaling:
    """What the file itself says."""
    if sha256 == BUNDLED_SHA256:
        return replace(IMAGENET, told_by="the bundled file")
    if sha256.startswith(PUBLISHED_SHA256_START):  # from Google's network
        return replace(TRANSFORM_INPUT, told_by="torchvision's published file")
    if scaling := recognise(state):
        return replace(scaling, told_by="told by the variance that conv1's batch norm remembers")
    return replace(IMAGENET, told_by="ASSUMED, since the tensors do not tell; set it with --preprocessing")


def _trunk(kernels: dict[str, Kernel], sha256: str, scaling: Scaling) -> Trunk:
    (red, green, blue), std_RGB = scaling.mean_RGB, scaling.std_RGB
    return Trunk(
        layers=googlenet_layers(),
        kernels=kernels,
        mean_RGB=(255 * red, 255 * green, 255 * blue),
        scale_RGB=(1 / (255 * std_RGB[0]), 1 / (255 * std_RGB[1]), 1 / (255 * std_RGB[2])),
        sha256=sha256,
        preprocessing=scaling.describe(),
    )


def _fold_all(layers: tuple[Layer, ...], state: Mapping[str, Tensor], origin: str) -> dict[str, Kernel]:
    try:
        return {conv.weights: fold_batch_norm(state, conv.weights) for conv, _ in convolutions(layers, 3)}
    except KeyError as missing:
        raise ValueError(
            f"{origin}: has no {missing.args[0]}, expected torchvision's parameter names from conv1 to inception3b."
        ) from missing


def _download() -> bytes:
    """torchvision's published file, from torch's cache folder or from the network into it."""
    from torchvision.models import GoogLeNet_Weights

    url = GoogLeNet_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=PUBLISHED_SHA256_START, progress=False)
        content = path.read_bytes()
    except (OSError, RuntimeError) as error:  # no network; RuntimeError is torch's word for a wrong hash
        raise ValueError(
            f"{url}: could not be downloaded ({error}). Save that file elsewhere and give its path as weights,"
            ' or use weights="bundled", which needs no network.'
        ) from error
    if not sha256_of(content).startswith(PUBLISHED_SHA256_START):
        raise ValueError(
            f"{path}: SHA-256 does not start with {PUBLISHED_SHA256_START}; delete the file and try again."
        )
    return content


def _conv(
    name: str, channels: int, *, kernel: int = 1, stride: int = 1, output: str | None = None
) -> tuple[Layer, ...]:
    return (
        Conv(name=f"{name}.bn", weights=name, channels=channels, kernel=kernel, stride=stride, border=centred),
        Relu(name=output or name),
    )


def _inception(name: str, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> Block:
    return Block(
        name=name,
        branches=(
            _conv(f"{name}.branch1", one),
            (
                *_conv(f"{name}.branch2.0", three[0]),
                *_conv(f"{name}.branch2.1", three[1], kernel=3, output=f"{name}.branch2"),
            ),
            (
                *_conv(f"{name}.branch3.0", five[0]),
                *_conv(f"{name}.branch3.1", five[1], kernel=3, output=f"{name}.branch3"),
            ),
            (
                MaxPool(name=f"{name}.branch4.0", kernel=3, stride=1, border=centred),
                *_conv(f"{name}.branch4.1", pool, output=f"{name}.branch4"),
            ),
        ),
    )
