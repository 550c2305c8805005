"""Small networks of every kind for tests of backbones, with random weights and norms that remember something."""

from collections.abc import Callable

import timm
import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import DenseNet, ResNet
from torchvision.models.resnet import Bottleneck
from torchvision.models.vgg import cfgs, make_layers

from gc_core.backbones.networks import Network
from gc_core.backbones.preprocessing import IMAGENET


class Odd(nn.Module):
    """Reflected borders, dilated, grouped and long kernels, a norm over channels, and work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")
        self.norm = nn.LocalResponseNorm(5)
        self.act = nn.ReLU(inplace=True)
        self.dilated = nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=4)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.wide = nn.Conv2d(8, 12, (1, 5), padding=(0, 2))
        self.last = nn.Conv2d(12, 12, (5, 1), padding=(2, 0), padding_mode="circular")

    def forward(self, images_NCHW: Tensor) -> Tensor:
        x = self.act(self.norm(self.first(images_NCHW)))
        return self.last(self.wide(self.pool(self.dilated(x) + x)))


def _torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None)


LOCAL: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "resnet": (_torchvision("resnet18"), "layer2.0"),
    "resnext": (lambda: ResNet(Bottleneck, [2, 1, 1, 1], groups=8, width_per_group=4), "layer1"),
    "densenet": (lambda: DenseNet(8, (3, 2), 16), "features.transition1"),
    "convnext": (lambda: timm.create_model("convnext_atto"), "stages.0"),
    "vgg": (lambda: make_layers(cfgs["A"], batch_norm=True), "9"),
    "squeezenet": (_torchvision("squeezenet1_1"), "features.4"),
    "regnet": (_torchvision("regnet_x_400mf"), "trunk_output.block2"),
    "shufflenet": (_torchvision("shufflenet_v2_x0_5"), "stage2.1"),
    "mobilenet v2": (_torchvision("mobilenet_v2"), "features.4"),
    "padded as TensorFlow does": (lambda: timm.create_model("tf_efficientnet_lite0"), "blocks.1"),
    "anti-aliased": (lambda: timm.create_model("resnetblur18"), "layer1"),
    "odd": (Odd, "last"),
    "patches": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), "patch_embed.proj"),
}
"""Networks with a layer whose units have a field."""

WHOLE: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "mobilenet v3": (_torchvision("mobilenet_v3_small"), "features.4", 64),
    "efficientnet": (_torchvision("efficientnet_b0"), "features.3", 64),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.InstanceNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1)),
        "3",
        32,
    ),
    "swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=56), "layers.1", 56),
    "vit": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), "blocks.1", 64),
    "registers": (lambda: timm.create_model("vit_small_patch14_reg4_dinov2", img_size=70), "blocks.1", 70),
    "pooled": (_torchvision("squeezenet1_1"), "classifier", 64),
}
"""Networks with a layer whose units see the whole image, and the side that it gets."""


def network(make: Callable[[], nn.Module], input_px: int = 224) -> Network:
    """The network in float64; a norm that remembers nothing but 0 and 1 would hide that it is left out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().double().eval().requires_grad_(False)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 2)
                part.weight.data.uniform_(0.5, 1.5)
                part.bias.data.normal_(0, 0.2)
            elif isinstance(getattr(part, "gamma", None), nn.Parameter):  # a scale of 1e-6 hides its branch
                part.gamma.data.uniform_(0.5, 1.5)
    return Network(module=module, scaling=IMAGENET, input_px=input_px)
