"""Images smaller than the field, such as CIFAR's of 32 pixels: left out, or enlarged where the option says so."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gc_core import groups, harvest, manifest, store
from gc_core.config import HarvestConfig
from gc_core.harvest.shard import harvest_shard
from gc_core.images import ImageError, decode, list_images, load
from gc_core.images.ref import Listed
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import resumable_index
from gc_core.manifest.resumable_index import InspectionSettings
from support.image_files import as_folder, encoded

SIDE_PX = 32
NOISE = np.random.default_rng(0).integers(0, 255, (8, SIDE_PX, SIDE_PX, 3), np.uint8)


def test_a_small_image_is_scaled_up_by_lanczos_and_others_are_as_without_the_option() -> None:
    small, large = encoded(NOISE[0]), encoded(np.zeros((100, 150, 3), np.uint8))
    with Image.open(io.BytesIO(small)) as image:
        expected = np.asarray(image.resize((96, 96), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(small, 96, enlarge=True), expected)
    assert decode(small, 96).shape == (3, SIDE_PX, SIDE_PX)
    np.testing.assert_array_equal(decode(large, 96, enlarge=True), decode(large, 96))
    np.testing.assert_array_equal(decode(small, SIDE_PX, enlarge=True), decode(small, SIDE_PX))


def test_a_thin_line_is_not_enlarged_to_a_huge_image() -> None:
    with pytest.raises(ImageError, match=r"^more than 100 megapixels \(2560000 x 256 px when enlarged\)$"):
        decode(encoded(np.zeros((1, 10_000), np.uint8)), 256, enlarge=True)


@pytest.mark.parametrize("enlarge", [False, True])
def test_images_of_32_pixels_become_a_store_with_the_option_and_are_too_small_without(
    tmp_path: Path, enlarge: bool
) -> None:
    folder = as_folder(tmp_path / "images", {f"{i}.png": encoded(NOISE[i]) for i in range(8)})
    config = HarvestConfig(
        images=str(folder), group="D4", resize_px=96, enlarge=enlarge, dtype="float32", centres_per_image=16
    )
    backbone, run = harvest.load_backbone(config, "cpu"), RunFolder.at(str(tmp_path / "run"))
    window_px = harvest.Geometry.of(config, backbone).window_px
    lens = InspectionSettings(resize_px=config.resize_px, window_px=window_px, enlarge=config.enlarge)
    listed = [Listed(ref=ref) for ref in list_images(config.images, stimulus_px=window_px, max_stimuli=1)]
    resumable_index.look_at_part(run.index, 0, listed, lens)
    table = manifest.complete(resumable_index.collect(run.index, 1), {})
    if not enlarge:
        assert set(table["status"].to_pylist()) == {"small"}
        with pytest.raises(ValueError, match=rf"smaller than the field \(32 x 32 px; .*{window_px} px; --enlarge"):
            harvest.plan_rows(config, table, backbone)
        return
    assert set(table["height"].to_pylist()) == {96}
    manifest.write(run.manifest, table)
    plan = harvest.plan_rows(config, table, backbone)
    harvest.create_store(run, config, plan, backbone)
    for shard in range(plan.num_shards):
        harvest_shard(
            run, harvest.shard_work(plan, table, shard), config, backbone, attempt="a", tick=lambda count: None
        )
    store.finish(run)
    opened = store.open_store(run)
    assert opened.num_rows == plan.num_rows == 128
    assert opened.attrs["resize"]["enlarge"] is True
    pixels_CHW = load(listed[0].ref, 96, key=table["key"][0].as_py(), enlarge=True)
    of_first = np.flatnonzero(opened.image == 0)
    acts = harvest.group_activations(pixels_CHW, opened.centre_yx[of_first], groups.parse("D4"), backbone)
    stored = opened.read(0, opened.num_rows)[of_first].astype(np.float32)
    np.testing.assert_allclose(stored, np.asarray(acts, np.float32), rtol=5e-3, atol=5e-3)
