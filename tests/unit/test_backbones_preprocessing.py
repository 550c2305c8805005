"""A network sees its pixels scaled as it was trained, whatever file its tensors are saved in.

Letters: N images, H W pixels.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import googlenet
from torchvision.models.feature_extraction import create_feature_extractor

from gc_core import backbones, harvest
from gc_core.backbones.googlenet import content_of
from gc_core.backbones.preprocessing import IMAGENET, TRANSFORM_INPUT, recognise
from gc_core.backbones.weights import parse_state
from gc_core.config import HarvestConfig

State = dict[str, Tensor]


def bundled() -> State:
    """Trained on ImageNet's mean and deviation."""
    return parse_state(content_of("bundled"), "bundled")


def wanting(name: str) -> State:
    """The bundled trunk, or one that gives the same numbers for pixels in -1..1 (but at borders)."""
    state = bundled()
    if name == "transform_input":
        weight = state["conv1.conv.weight"]
        slope, shift = (
            torch.tensor(values).view(1, 3, 1, 1)
            for values in (
                [0.5 / std for std in IMAGENET.std_RGB],
                [(0.5 - m) / s for m, s in zip(IMAGENET.mean_RGB, IMAGENET.std_RGB, strict=True)],
            )
        )
        state["conv1.conv.weight"] = weight * slope
        state["conv1.bn.running_mean"] = state["conv1.bn.running_mean"] - (weight * shift).sum((1, 2, 3))
    return state


SAVE: dict[str, Callable[[State, Path], None]] = {
    "a.pth": torch.save,
    "a.safetensors": save_file,
    "half.safetensors": lambda state, path: save_file({k: v.half().contiguous() for k, v in state.items()}, path),
}


@pytest.mark.parametrize("name", ["imagenet", "transform_input"])
@pytest.mark.parametrize("file", SAVE)
def test_weights_saved_again_see_the_pixels_that_they_were_trained_on(name: str, file: str, tmp_path: Path) -> None:
    SAVE[file](wanting(name), tmp_path / file)
    network = backbones.load("googlenet", weights=str(tmp_path / file))
    assert network.preprocessing.startswith(f"{name}: (pixel / 255 - ")
    assert "told by the variance" in network.preprocessing
    side_px = network.receptive_field_px
    patches = 255 * torch.rand(4, 3, side_px, side_px, generator=torch.Generator().manual_seed(0))
    expected = backbones.load("googlenet").unit(patches)
    torch.testing.assert_close(network.unit(patches), expected, atol=0.02 * float(expected.max()), rtol=0.02)


@pytest.mark.parametrize("transform_input", [False, True])
def test_the_option_gives_what_torchvision_gives(transform_input: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=transform_input).eval()
    torch.save(network.state_dict(), tmp_path / "a.pth")
    pixels_N3HW = 255 * torch.rand(2, 3, 224, 224)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET.mean_RGB, IMAGENET.std_RGB))
    with torch.no_grad():
        expected = create_feature_extractor(network, {"inception3b": "x"})((pixels_N3HW / 255 - mean) / std)["x"]
    found = backbones.load(
        "googlenet",
        weights=str(tmp_path / "a.pth"),
        preprocessing="transform_input" if transform_input else "imagenet",
    )
    assert "as the option says" in found.preprocessing
    torch.testing.assert_close(found.whole(pixels_N3HW), expected, atol=1e-3 * float(expected.max()), rtol=1e-3)


def test_tensors_that_do_not_tell_are_assumed_and_said_to_be(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = googlenet(weights=None, aux_logits=False, init_weights=False).state_dict()
    state["conv1.bn.running_var"].uniform_(0.5, 1.5)
    assert recognise(state) is None
    torch.save(state, tmp_path / "a.pth")
    said = backbones.load("googlenet", weights=str(tmp_path / "a.pth")).preprocessing
    assert said.startswith("imagenet: ")
    assert "ASSUMED" in said
    assert "--preprocessing" in said


@pytest.mark.parametrize("factor", [1 / 16, 16])
def test_a_variance_of_neither_scaling_is_not_recognised(factor: float) -> None:
    state = bundled()
    assert recognise(state) == IMAGENET
    assert recognise(wanting("transform_input")) == TRANSFORM_INPUT
    state["conv1.bn.running_var"] = state["conv1.bn.running_var"] * factor
    assert recognise(state) is None


def test_a_harvest_stores_what_was_used_and_its_option_decides(tmp_path: Path) -> None:
    save_file(wanting("transform_input"), tmp_path / "a.safetensors")
    config = HarvestConfig(weights=str(tmp_path / "a.safetensors"), preprocessing="imagenet")
    assert harvest.network_of(config).preprocessing.startswith("imagenet: ")
    assert load_file(tmp_path / "a.safetensors").keys() == bundled().keys()


def test_another_network_has_a_preprocessing_of_its_own() -> None:
    with pytest.raises(ValueError, match="expected auto: inceptionv1 has one of its own"):
        backbones.load("inceptionv1", weights="random:0", preprocessing="imagenet")
