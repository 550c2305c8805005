"""Traced networks on CUDA give the CPU's numbers, by their field, on a canvas and from a disc."""

import numpy as np
import pytest
import torch

from gc_core import groups, harvest, transforms
from gc_core.backbones import ModuleBackbone
from gc_core.backbones.layer_plan import Evaluation
from support.networks import LOCAL, WHOLE, network

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GROUP = groups.dihedral(8)
CASES: list[tuple[str, Evaluation]] = [("resnet", "auto"), ("resnet", "canvas"), ("odd", "auto"), ("vit", "auto")]


@pytest.mark.parametrize(("name", "evaluation"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float16, 0.02)])
def test_cuda_gives_the_numbers_of_the_cpu(
    name: str, evaluation: Evaluation, dtype: torch.dtype, tolerance: float
) -> None:
    make, layer, side_px = (*LOCAL[name], 224) if name in LOCAL else WHOLE[name]
    image = np.random.default_rng(0).integers(0, 256, (3, 240, 240), np.uint8)
    found = []
    for device, kind in (("cpu", torch.float64), ("cuda", dtype)):
        backbone = ModuleBackbone("test", network(make, side_px), layer=layer, dtype=kind, evaluation=evaluation)
        resampling = transforms.Resampling(disc_window=backbone.sees_disc)
        centres = np.array([(118, 121), (120, 119)], np.int32)
        acts = harvest.group_activations(image, centres, GROUP, backbone.to(device), resampling=resampling)
        assert acts.device.type == device
        found.append(acts.double().cpu())
    assert (found[1] - found[0]).norm() <= tolerance * found[0].norm()
