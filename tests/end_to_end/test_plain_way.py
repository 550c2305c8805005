"""What the harvest stores is what the slow, obvious way gives: rotate the whole image, run the whole network, read
the unit.

The plain way here shares no code with the harvest's: scipy resamples the whole image.

Letters: G group elements, C channels, H W pixels.
"""

import numpy as np
import pytest
import torch
from scipy import ndimage

from gc_core import backbones, manifest
from gc_core.backbones import Backbone
from gc_core.config import HarvestConfig
from gc_core.groups import Group
from gc_core.images import load
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from jobs.common.options import Workers
from jobs.harvest import run_harvest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

NUM_ROWS = 50
ELEMENTS_A_ROW = 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Built-in photographs under D_32, in float32."""
    run = RunFolder.at(str(tmp_path_factory.mktemp("run")))
    config = HarvestConfig(images="photographs", centres_per_image=8, dtype="float32")
    run_harvest(run, config, Workers())
    return run


def test_stored_blocks_are_those_of_the_rotated_photograph(run: RunFolder) -> None:
    store, backbone = open_store(run), backbones.load("googlenet")
    refs = manifest.refs_of(manifest.load_table(run.manifest))
    rng = np.random.default_rng(0)
    exact = _exact_elements(store.group)
    for row in rng.choice(store.num_rows, NUM_ROWS, replace=False):
        pixels_CHW = load(refs[store.image[row]], 256)
        stored_GC = store.read(row, row + 1)[0].astype(np.float64)
        for g in [rng.choice(exact), *rng.choice(store.group.order, ELEMENTS_A_ROW - 1, replace=False)]:
            plain_C = _plain_way(pixels_CHW, store.centre_yx[row], store.group, int(g), backbone)
            error = np.linalg.norm(stored_GC[g] - plain_C) / np.linalg.norm(plain_C)
            assert error < 1e-2
            if g in exact:  # float16 keeps 11 bits; below its normal range an absolute step is left
                np.testing.assert_allclose(stored_GC[g], plain_C, rtol=2**-10, atol=1e-4)


def test_another_element_gives_another_block(run: RunFolder) -> None:
    """The control: the comparison above would notice a wrong element."""
    store, backbone = open_store(run), backbones.load("googlenet")
    refs = manifest.refs_of(manifest.load_table(run.manifest))
    errors = []
    for row in range(8):
        plain_C = _plain_way(load(refs[store.image[row]], 256), store.centre_yx[row], store.group, 3, backbone)
        errors.append(np.linalg.norm(store.read(row, row + 1)[0, 4] - plain_C) / np.linalg.norm(plain_C))
    assert np.median(errors) > 2e-2


def test_centres_keep_the_rotated_field_inside_the_photograph(run: RunFolder) -> None:
    store, table = open_store(run), manifest.load_table(run.manifest)
    reach = np.ceil(store.attrs["receptive_field_px"] // 2 * np.sqrt(2))
    sides = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], 1)[store.image]
    assert (store.centre_yx >= reach).all()
    assert (store.centre_yx + reach < sides).all()


def _exact_elements(group: Group) -> np.ndarray:
    return np.flatnonzero((4 * group.turns) % group.n == 0)


def _plain_way(pixels_CHW: np.ndarray, centre_yx: np.ndarray, group: Group, g: int, backbone: Backbone) -> np.ndarray:
    """Put the centre pixel in the middle of a canvas on which a unit looks there, transform the canvas, run
    everything."""
    side = 2 * max(pixels_CHW.shape[1:]) + 1
    while (side // 2) not in backbone.unit_centres(side):
        side += 2
    top, left = side // 2 - centre_yx
    canvas = np.zeros((3, side, side))
    canvas[:, top : top + pixels_CHW.shape[1], left : left + pixels_CHW.shape[2]] = pixels_CHW
    rotated = _rotate(canvas, group, g)
    unit = int(np.flatnonzero(backbone.unit_centres(side) == side // 2)[0])
    with torch.inference_mode():
        return backbone.whole(torch.from_numpy(rotated).float()[None])[0, :, unit, unit].double().numpy()


def _rotate(canvas_CHW: np.ndarray, group: Group, g: int) -> np.ndarray:
    to_row_column = np.array([[0.0, -1.0], [1.0, 0.0]])  # (right, up) -> (row, column)
    matrix = to_row_column @ np.linalg.inv(group.matrices[g]) @ np.linalg.inv(to_row_column)
    middle = np.array([canvas_CHW.shape[1] // 2] * 2)
    return np.stack([ndimage.affine_transform(c, matrix, middle - matrix @ middle, order=1) for c in canvas_CHW])
