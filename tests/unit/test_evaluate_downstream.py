"""Loss recovered is one for an exact reconstruction, zero for the mean, and the split network is the whole network.

Letters: N images, C channels, H W pixels, h w units, K classes.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import googlenet

from gc_core import backbones, groups
from gc_core.backbones.rest import load_rest
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.evaluate import Batch, mean_activation, measure_downstream
from gc_core.evaluate.downstream import measure_replacements, reconstructed_map

IMAGENET_MEAN, IMAGENET_STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
NUM_CLASSES = 7


def whole_network() -> nn.Module:
    """Random weights and batch norms that keep signals alive to the end, where the answers differ by image."""
    generator = torch.Generator().manual_seed(0)
    network = googlenet(weights=None, num_classes=NUM_CLASSES, aux_logits=False, init_weights=False).eval()
    state = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = tensor
        elif tensor.ndim > 1:
            state[name] = torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5
        else:
            spread = 0.8 + 0.4 * torch.rand(tensor.shape, generator=generator)
            state[name] = spread if name.endswith(("bn.weight", "running_var")) else 0.1 * spread - 0.1
    network.load_state_dict(state)
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "googlenet.safetensors"
    save_file(whole_network().state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    """Smooth random images of 96 px."""
    coarse = torch.rand((4, 3, 6, 6), generator=torch.Generator().manual_seed(1)) * 255
    pixels_N3HW = nn.functional.interpolate(coarse, size=(96, 96), mode="bilinear")
    return [Batch(pixels_N3HW[:3], None), Batch(pixels_N3HW[3:], None)]


def with_labels(batches: list[Batch]) -> list[Batch]:
    return [Batch(pixels_N3HW, torch.arange(len(pixels_N3HW))) for pixels_N3HW, _ in batches]


def exact_autoencoder(channels: int) -> GroupCrosscoder:
    """Codes are the channels themselves, none of which is negative after a ReLU; the second block is other things."""
    shape = CrosscoderShape(
        group=groups.parse("C_2"), channels=channels, dict_size=channels, reads=(0,), activation="l1", k=1
    )
    model = GroupCrosscoder(shape)
    with torch.no_grad():
        model.W_enc[:, 0] = torch.eye(channels)
        model.W_dec[:, 0] = torch.eye(channels)
        model.W_dec[:, 1] = 5
    return model


@pytest.mark.parametrize("layer", ["maxpool2", "inception3a", "inception3b"])
def test_the_split_network_gives_torchvisions_own_logits(weights: str, batches: list[Batch], layer: str) -> None:
    trunk = backbones.load("googlenet", layer=layer, weights=weights)
    pixels_N3HW = batches[0].pixels_N3HW
    normalised = (pixels_N3HW / 255 - IMAGENET_MEAN[:, None, None]) / IMAGENET_STD[:, None, None]
    with torch.no_grad():
        expected = whole_network()(normalised)
    assert (expected.std(0) > 1e-3).all()
    torch.testing.assert_close(load_rest(weights, trunk)(trunk.whole(pixels_N3HW)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("labelled", [False, True])
def test_an_exact_reconstruction_recovers_all_and_the_mean_nothing(
    weights: str, batches: list[Batch], labelled: bool
) -> None:
    trunk = backbones.load("googlenet", weights=weights)
    rest, images = load_rest(weights, trunk), with_labels(batches) if labelled else batches
    mean_C = mean_activation(trunk, images)
    exact = measure_downstream(exact_autoencoder(480), trunk, rest, images, mean_C)
    assert exact.loss == ("cross_entropy" if labelled else "kl_to_original")
    assert exact.num_images == 4
    assert exact.recovered == pytest.approx(1, abs=1e-5)
    assert exact.same_top1_reconstructed == 1
    assert exact.loss_ablated != pytest.approx(exact.loss_original, abs=1e-3)
    constant = exact_autoencoder(480)
    with torch.no_grad():
        constant.W_dec.zero_()
        constant.b_dec[0] = mean_C
    found = measure_downstream(constant, trunk, rest, images, mean_C)
    assert found.recovered == pytest.approx(0, abs=1e-5)
    assert found.loss_reconstructed == pytest.approx(exact.loss_ablated, rel=1e-5)


class FirstChannel:
    """A trunk whose map is the image, and a rest whose logits are the mean of each channel: all by hand."""

    def whole(self, pixels_N3HW: Tensor) -> Tensor:
        return pixels_N3HW

    def __call__(self, map_NChw: Tensor) -> Tensor:
        return map_NChw.mean((2, 3))


def test_losses_are_those_of_the_definition() -> None:
    network, label_N = FirstChannel(), torch.tensor([2, 0])
    pixels_N3HW = torch.rand((2, 3, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean_C = torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64)

    def cross_entropy(logits_NK: Tensor) -> float:
        return float(-logits_NK.softmax(1).log()[torch.arange(2), label_N].mean())

    original, halved = pixels_N3HW.mean((2, 3)), pixels_N3HW.mean((2, 3)) / 2
    ablated = mean_C.expand(2, 3)
    found = measure_replacements(lambda map_NChw: map_NChw / 2, network, network, [Batch(pixels_N3HW, label_N)], mean_C)
    losses = [cross_entropy(logits) for logits in (original, halved, ablated)]
    assert [found.loss_original, found.loss_reconstructed, found.loss_ablated] == pytest.approx(losses, rel=1e-12)
    assert found.recovered == pytest.approx((losses[2] - losses[1]) / (losses[2] - losses[0]), rel=1e-9)
    without = measure_replacements(lambda map_NChw: map_NChw / 2, network, network, [Batch(pixels_N3HW, None)], mean_C)
    divergence = [
        float((original.softmax(1) * (original.softmax(1) / q.softmax(1)).log()).sum(1).mean())
        for q in (halved, ablated)
    ]
    assert [without.loss_reconstructed, without.loss_ablated] == pytest.approx(divergence, rel=1e-9)
    assert without.recovered == pytest.approx(1 - divergence[0] / divergence[1], rel=1e-9)
    assert without.loss_original == 0
    assert without.same_top1_reconstructed == 1


class Padded(FirstChannel):
    """Fields of three pixels: the outermost units see padding."""

    receptive_field_px = 3

    def unit_centres(self, length_px: int) -> NDArray[np.int64]:
        return np.arange(length_px)


def test_the_interior_is_where_no_unit_sees_padding() -> None:
    network = Padded()
    pixels_N3HW = torch.rand((2, 3, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch, mean_C = Batch(pixels_N3HW, None), torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64)

    def halved_outside(map_NChw: Tensor) -> Tensor:
        halved = map_NChw / 2
        halved[:, :, 1:-1, 1:-1] = map_NChw[:, :, 1:-1, 1:-1]
        return halved

    spoilt_border = measure_replacements(halved_outside, network, network, [batch], mean_C)
    assert spoilt_border.interior is not None
    assert spoilt_border.interior.share == pytest.approx(3 * 4 / 30)
    assert spoilt_border.interior.recovered == pytest.approx(1)
    assert spoilt_border.recovered is not None
    assert spoilt_border.recovered < 0.999, "the control: all positions together notice"
    narrow = Batch(pixels_N3HW[..., :2], None)
    nothing_left = measure_replacements(lambda same: same, network, network, [narrow], mean_C)
    assert nothing_left.interior is None


def test_the_interior_of_the_real_trunk_is_where_its_fields_fit(weights: str, batches: list[Batch]) -> None:
    trunk = backbones.load("googlenet", weights=weights)
    rest, mean_C = load_rest(weights, trunk), mean_activation(trunk, batches)
    found = measure_downstream(exact_autoencoder(480), trunk, rest, batches, mean_C).interior
    assert found is not None
    centres = trunk.unit_centres(96)
    inside = ((centres >= 29) & (centres <= 66)).sum()
    assert found.share == pytest.approx((inside / len(centres)) ** 2)
    assert found.recovered == pytest.approx(1, abs=1e-3), "of a small loss: one position is inside"


def test_where_ablation_does_no_harm_nothing_can_be_recovered() -> None:
    map_NChw = torch.ones((2, 3, 4, 4))
    network, batch = FirstChannel(), Batch(map_NChw, None)
    found = measure_replacements(lambda same: same, network, network, [batch], torch.ones(3))
    assert found.recovered is None
    assert (found.loss_ablated, found.same_top1_ablated) == (0, 1)


def test_the_mean_is_over_all_positions_of_all_images() -> None:
    pixels_N3HW = torch.rand((5, 3, 4, 4), dtype=torch.float64)
    batches = [Batch(pixels_N3HW[:3], None), Batch(pixels_N3HW[3:], None)]
    torch.testing.assert_close(mean_activation(FirstChannel(), batches), pixels_N3HW.mean((0, 2, 3)))


def test_every_position_is_reconstructed_by_itself() -> None:
    model = exact_autoencoder(6)
    model.b_dec.data[0] = torch.arange(6.0)
    map_NChw = torch.rand((2, 6, 3, 4))
    torch.testing.assert_close(reconstructed_map(model, map_NChw), map_NChw + torch.arange(6.0)[:, None, None])


def test_an_encoder_that_reads_transformed_blocks_is_refused() -> None:
    shape = CrosscoderShape(group=groups.parse("C_2"), channels=3, dict_size=4, reads=(0, 1), activation="l1", k=1)
    with pytest.raises(ValueError, match="every position has only its untransformed activation; train with"):
        measure_downstream(GroupCrosscoder(shape), FirstChannel(), FirstChannel(), [], torch.zeros(3))


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no usable image found, expected at least one"):
        measure_downstream(exact_autoencoder(3), FirstChannel(), FirstChannel(), [], torch.zeros(3))


def test_a_classifier_of_another_trunk_is_refused(weights: str) -> None:
    with pytest.raises(ValueError, match="its layers up to inception3b differ from those that were harvested"):
        load_rest(weights, backbones.load("googlenet"))


def test_a_trunk_without_the_rest_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bundled: no fc.weight found, expected a whole torchvision GoogLeNet"):
        load_rest("bundled", backbones.load("googlenet"))


def test_a_damaged_classifier_is_refused_in_one_line(weights: str, tmp_path: Path) -> None:
    state = whole_network().state_dict()
    del state["inception5b.branch1.conv.weight"]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="not the weights of torchvision's GoogLeNet") as caught:
        load_rest(str(tmp_path / "cut.safetensors"), backbones.load("googlenet", weights=weights))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "layer"), [("inceptionv1", "mixed3b"), ("googlenet", "inception3b.branch2"), ("googlenet", "conv1.bn")]
)
def test_a_layer_that_no_classifier_continues_is_refused(name: str, layer: str) -> None:
    with pytest.raises(ValueError, match=f"layer {layer} of {name} found, expected googlenet and one of"):
        load_rest("bundled", backbones.load(name, layer=layer, weights="random:0"))
