"""The harvest on a CUDA device gives what it gives on the CPU.

Letters: N centres or rows, G group elements, C channels.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gc_core import groups, harvest, manifest, store
from gc_core.config import HarvestConfig
from gc_core.images import list_images, load
from gc_core.io.run_folder import RunFolder
from gc_core.transforms import Resampling

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]

D32 = groups.dihedral(32)
CENTRES = np.array([[128, 128], [90, 140], [151, 77]], np.int32)


@cache
def photograph_CHW() -> NDArray[np.uint8]:
    return load(list_images("photographs", stimulus_px=1, max_stimuli=1)[0], 256)


def blocks_NGC(device: str, backbone: str, dtype: str, resampling: Resampling) -> torch.Tensor:
    weights = "random:0" if backbone == "inceptionv1" else None
    loaded = harvest.load_backbone(HarvestConfig(backbone=backbone, weights=weights, dtype=dtype), device)
    return harvest.group_activations(photograph_CHW(), CENTRES, D32, loaded, resampling=resampling).cpu()


@pytest.mark.parametrize("backbone", ["googlenet", "inceptionv1"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("control", [False, True])
def test_float32_blocks_are_those_of_the_cpu(backbone: str, interpolation: str, control: bool) -> None:
    resampling = Resampling(interpolation=interpolation, half_step=control, disc_mask=control)
    found, expected = (blocks_NGC(device, backbone, "float32", resampling) for device in ("cuda", "cpu"))
    assert ((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max() < 1e-4


@pytest.mark.parametrize("backbone", ["googlenet", "inceptionv1"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_blocks_point_the_same_way(backbone: str, dtype: str) -> None:
    found, expected = (
        blocks_NGC("cuda", backbone, dtype, Resampling()),
        blocks_NGC("cpu", backbone, "float32", Resampling()),
    )
    assert torch.cosine_similarity(found, expected, dim=-1).median() >= 0.9995


def test_a_shard_is_that_of_the_cpu_and_the_same_again(tmp_path: Path) -> None:
    """In several passes of the network, so that copies run beside the computation."""
    config = HarvestConfig(images="photographs", centres_per_image=40, dtype="float32", shard_rows=512)
    on = {device: harvest.load_backbone(config, device) for device in ("cuda", "cpu")}
    window_px = harvest.Geometry.of(config, on["cpu"]).window_px
    refs = list_images("photographs", stimulus_px=window_px, max_stimuli=1)
    table = manifest.build(
        [manifest.inspect(ref, manifest.InspectionSettings(resize_px=256, window_px=window_px)) for ref in refs], {}
    )
    plan = harvest.plan_rows(config, table, on["cpu"])
    work = harvest.shard_work(plan, table, 0)
    first, again = (harvest.compute_shard(work, config, on["cuda"], tick=lambda rows: None) for _ in range(2))
    for name in store.ARRAYS:
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()

    few = np.arange(0, 512, 64)
    for row in few:
        pixels_CHW, centre = load(refs[first.image[row]], 256), first.centre_yx[row][None]
        expected_GC = harvest.group_activations(pixels_CHW, centre, D32, on["cpu"])[0].numpy()
        found_GC = first.activations[row].astype(np.float32)
        assert (np.linalg.norm(found_GC - expected_GC, axis=-1) / np.linalg.norm(expected_GC, axis=-1)).max() < 1e-3

    run = RunFolder.at(str(tmp_path))
    harvest.create_store(run, config, plan, on["cpu"])
    commit = harvest.Pipeline(run, config, on["cuda"], attempt="gpu").harvest(work, tick=lambda rows: None)
    assert commit.num_rows == 512
