"""The harvest on a pretended card: all tensors meet there, and the numbers are those of the CPU.

Letters: N centres, G group elements, C channels.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from gc_core import groups, harvest, manifest, store, transforms
from gc_core.backbones import ModuleBackbone
from gc_core.backbones.layer_plan import Evaluation
from gc_core.config import HarvestConfig
from gc_core.harvest import load_backbone
from gc_core.images import list_images
from gc_core.transforms import Resampling
from support.networks import LOCAL, network
from support.pretended_card import CARD, PretendedCard, on_host

D8 = groups.dihedral(8)
CENTRES = np.array([[128, 128], [90, 140], [151, 77]], np.int32)
CASES: list[tuple[str, Evaluation]] = [("resnet", "auto"), ("resnet", "canvas"), ("odd", "auto")]


@pytest.fixture(autouse=True)
def _settings_of_cudnn() -> Iterator[None]:
    """Loading a network for a card sets them for the process."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.allow_tf32
    yield
    cudnn.deterministic, cudnn.allow_tf32 = before


@cache
def image_CHW() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 256, 256), np.uint8)


def blocks_NGC(device: str, backbone: str, resampling: Resampling, dtype: str = "float32") -> torch.Tensor:
    weights = "random:0" if backbone == "inceptionv1" else None
    loaded = load_backbone(HarvestConfig(backbone=backbone, weights=weights, dtype=dtype), device)
    return harvest.group_activations(image_CHW(), CENTRES, D8, loaded, resampling=resampling)


@pytest.mark.parametrize("backbone", ["googlenet", "inceptionv1"])
@pytest.mark.parametrize("control", [False, True])
def test_blocks_are_those_of_the_cpu(backbone: str, control: bool) -> None:
    resampling = Resampling(interpolation="bicubic" if control else "bilinear", half_step=control, disc_mask=control)
    expected = blocks_NGC("cpu", backbone, resampling)
    with PretendedCard()():
        found = on_host(blocks_NGC("cuda", backbone, resampling))
        assert found.dtype == torch.float32
    assert ((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max() < 1e-4


def test_a_pass_waits_for_nothing_once_its_tables_are_made() -> None:
    with PretendedCard()() as card:
        backbone = load_backbone(HarvestConfig(dtype="float32"), "cuda")
        for _ in range(2):
            card.waits.clear()
            harvest.group_activations(image_CHW(), CENTRES, D8, backbone)
        assert not card.waits


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_half_precision_comes_back_as_float32(dtype: str) -> None:
    expected = blocks_NGC("cpu", "googlenet", Resampling())
    with PretendedCard()():
        found = on_host(blocks_NGC("cuda", "googlenet", Resampling(), dtype))
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found, expected, dim=-1).median() >= 0.9995


@pytest.mark.parametrize(("name", "evaluation"), CASES)
def test_traced_networks(name: str, evaluation: Evaluation) -> None:
    make, layer = LOCAL[name]
    centres = np.array([(118, 121)], np.int32)

    def activations(device: str) -> torch.Tensor:
        backbone = ModuleBackbone("test", network(make), layer=layer, evaluation=evaluation)
        resampling = transforms.Resampling(disc_window=backbone.sees_disc)
        return harvest.group_activations(image_CHW(), centres, D8, backbone.to(device), resampling=resampling)

    expected = activations("cpu")
    with PretendedCard()():
        found = activations("cuda")
        assert found.device == CARD
    assert (on_host(found) - expected).norm() <= 1e-4 * expected.norm()


def shard(device: str) -> store.ShardArrays:
    """The first shard of two images, of several passes on a CPU."""
    config = HarvestConfig(images="photographs", centres_per_image=60, dtype="float32", shard_rows=128, group="D8")
    backbone = load_backbone(config, "cpu")
    window_px = harvest.Geometry.of(config, backbone).window_px
    settings = manifest.InspectionSettings(resize_px=256, window_px=window_px)
    refs = list_images("photographs", stimulus_px=window_px, max_stimuli=1)[:2]
    table = manifest.build([manifest.inspect(ref, settings) for ref in refs], {})
    work = harvest.shard_work(harvest.plan_rows(config, table, backbone), table, 0)
    return harvest.compute_shard(work, config, load_backbone(config, device), tick=lambda rows: None)


def test_a_shard_is_that_of_the_cpu() -> None:
    expected = shard("cpu")
    with PretendedCard()():
        found = shard("cuda")
    np.testing.assert_array_equal(found.centre_yx, expected.centre_yx)
    np.testing.assert_allclose(found.activations, expected.activations, rtol=2e-3, atol=1e-3)
