"""From images to shards: centres, plans, and shards that any worker computes alike.

Letters: N rows, G group elements, C channels, H W pixels.
"""

import dataclasses
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from gc_core import __version__, groups, harvest, manifest, store
from gc_core.backbones import AnyBackbone, ModuleBackbone
from gc_core.backbones.networks import Network
from gc_core.backbones.preprocessing import NAMED
from gc_core.config import HarvestConfig
from gc_core.harvest.centres import capacity
from gc_core.images import list_images, load
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import ImageRecord
from gc_core.store import ShardArrays
from gc_core.store.shards import ShardPlan

CONFIG = HarvestConfig(
    group="D8", layer="maxpool1", resize_px=64, centres_per_image=100, shard_rows=128, dtype="float32", seed=5
)
NAMES = ["astronaut.png", "coffee.png", "chelsea.png", "moon.png"]


@cache
def backbone() -> AnyBackbone:
    return harvest.load_backbone(CONFIG, "cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs, small, as files."""
    folder = tmp_path_factory.mktemp("images")
    for ref in list_images("photographs", stimulus_px=1, max_stimuli=1):
        if ref.name in NAMES:
            Image.fromarray(load(ref, 80).transpose(1, 2, 0)).save(folder / ref.name)
    return folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A harvest of a folder, ready to compute."""

    config: HarvestConfig
    table: pa.Table
    plan: ShardPlan

    def work(self, shard: int) -> harvest.ShardWork:
        return harvest.shard_work(self.plan, self.table, shard)

    def compute(self, shard: int) -> ShardArrays:
        return harvest.compute_shard(self.work(shard), self.config, backbone(), tick=lambda rows: None)


def planned(folder: Path | str, **changes: object) -> Planned:
    config = dataclasses.replace(CONFIG, images=str(folder), **changes)
    window_px = harvest.Geometry.of(config, backbone()).window_px
    refs = list_images(config.images, stimulus_px=window_px, max_stimuli=config.max_stimuli)
    records = [
        manifest.inspect(ref, manifest.InspectionSettings(resize_px=config.resize_px, window_px=window_px))
        for ref in refs
    ]
    table = manifest.build(records, {})
    return Planned(config=config, table=table, plan=harvest.plan_rows(config, table, backbone()))


def together(run: Planned) -> ShardArrays:
    """All shards end to end."""
    parts = [run.compute(shard) for shard in range(run.plan.num_shards)]
    return ShardArrays(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in store.ARRAYS})


# Plans.


def test_the_plan_names_every_image_that_can_be_used(images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "more"))
    (folder / "page.jpg").write_bytes(b"<html>")
    Image.new("RGB", (5, 5)).save(folder / "small.png")
    run = planned(folder)
    taken = {image.image: image for shard in range(run.plan.num_shards) for image in run.work(shard).images}
    names = {run.table["url"][image].as_py().rpartition("/")[2] for image in taken}
    assert names == set(NAMES)
    assert run.plan.num_rows == 400
    assert all(image.total == 100 for image in taken.values())


def test_totals_are_those_of_the_whole_run_in_every_shard(images: Path) -> None:
    run = planned(images, centres_per_image=333)
    counted: dict[int, int] = {}
    totals: dict[int, set[int]] = {}
    for shard in range(run.plan.num_shards):
        work = run.work(shard)
        assert work.num_rows == len(run.plan.rows(shard))
        for image in work.images:
            assert image.first == counted.get(image.image, 0)
            counted[image.image] = image.first + image.count
            totals.setdefault(image.image, set()).add(image.total)
    assert totals == {image: {count} for image, count in counted.items()}
    assert any(len(run.work(s).images) > 1 for s in range(run.plan.num_shards))


@pytest.mark.parametrize("centres", ["uniform", "activation"])
def test_no_usable_image_is_one_clear_line(tmp_path: Path, centres: str) -> None:
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    Image.new("RGB", (5, 5)).save(tmp_path / "small.png")
    with pytest.raises(
        ValueError, match=r"none of 2 images can be used \((1 bad, 1 small|1 small, 1 bad); for example: "
    ):
        planned(tmp_path, centres=centres)


def test_images_without_room_for_a_unit_are_one_clear_line(tmp_path: Path) -> None:
    """The field fits in one place, and no unit of the layer looks there."""
    window = harvest.field_window_px(groups.parse("D8"), backbone())
    by_strength = dataclasses.replace(CONFIG, centres="activation")
    assert capacity(by_strength, window, window, window, backbone()) == 0
    Image.new("RGB", (window, window)).save(tmp_path / "tight.png")
    assert planned(tmp_path).plan.num_rows == 1
    with pytest.raises(ValueError, match=r"none of 1 images can be used"):
        planned(tmp_path, centres="activation")


def test_the_store_says_where_its_numbers_come_from(images: Path, tmp_path: Path) -> None:
    run, at = planned(images), RunFolder.at(str(tmp_path / "run"))
    harvest.create_store(at, run.config, run.plan, backbone())
    for shard in range(run.plan.num_shards):
        harvest.harvest_shard(at, run.work(shard), run.config, backbone(), attempt="a", tick=lambda rows: None)
    mean = store.finish(at)
    attrs = store.open_store(at).attrs
    assert attrs == {
        "format_version": 2,
        "group": {"kind": "dihedral", "n": 8},
        "backbone": "googlenet",
        "layer": "maxpool1",
        "receptive_field_px": 11,
        "weights_sha256": backbone().weights_sha256,
        "preprocessing": backbone().preprocessing,
        "resize": {"shorter_side_px": 64, "kernel": "lanczos", "enlarge": False, "jpeg_draft_factor": 2},
        "rotation": {"kernel": "bilinear", "antialias": False, "disc_mask": False, "first_turned_by_steps": 0.0},
        "sampling": {"centres": "uniform", "centres_per_image": 100, "min_distance_px": 1},
        "seed": 5,
        "mean_squared_block_norm": mean,
        "config": run.config.to_json(),
        "config_hash": run.config.fingerprint(),
        "code_version": __version__,
        "num_rows": 400,
        "shard_rows": 128,
    }
    expected = together(run)
    held_out_N = manifest.held_out(run.table)[expected.image]
    assert held_out_N.tolist() == [False] * 300 + [True] * 100
    np.testing.assert_array_equal(store.open_store(at).read(0, 400), expected.activations)
    np.testing.assert_array_equal(store.open_store(at).image, expected.image)
    np.testing.assert_array_equal(store.open_store(at).centre_yx, expected.centre_yx)


# Shards.


def test_a_row_holds_what_group_activations_gives_for_its_image_and_centre(images: Path) -> None:
    run = planned(images)
    shard, group, ticks = run.compute(1), groups.parse("D8"), []
    refs = manifest.refs_of(run.table)
    for image in np.unique(shard.image):
        rows = np.flatnonzero(shard.image == image)
        pixels_CHW = load(refs[image], 64)
        expected_NGC = harvest.group_activations(pixels_CHW, shard.centre_yx[rows], group, backbone()).half().numpy()
        np.testing.assert_allclose(shard.activations[rows], expected_NGC, rtol=2e-3, atol=1e-4)
    harvest.compute_shard(run.work(1), run.config, backbone(), tick=ticks.append)
    assert sum(ticks) == 128
    assert len(ticks) > 1


@pytest.mark.parametrize("centres", ["uniform", "grid", "activation"])
def test_any_worker_at_any_attempt_computes_the_same_bytes(images: Path, centres: str) -> None:
    run, again = planned(images, centres=centres), planned(images, centres=centres)
    for name in store.ARRAYS:
        first, second = getattr(run.compute(2), name), getattr(again.compute(2), name)
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("centres", ["uniform", "grid", "activation"])
def test_an_image_split_over_shards_gives_each_centre_exactly_once(images: Path, centres: str) -> None:
    run = planned(images, centres=centres)
    assert any(image.first for shard in range(run.plan.num_shards) for image in run.work(shard).images)
    split = together(run)
    whole = together(planned(images, centres=centres, shard_rows=512))
    for image in range(4):
        found = {tuple(c) for c in split.centre_yx[split.image == image].tolist()}
        assert len(found) == (split.image == image).sum() == 100
        assert found == {tuple(c) for c in whole.centre_yx[whole.image == image].tolist()}


@pytest.mark.parametrize("centres", ["uniform", "grid", "activation"])
def test_the_minimum_distance_holds_across_shards(images: Path, centres: str) -> None:
    run = planned(images, centres=centres, min_distance_px=5)
    assert any(image.first for shard in range(run.plan.num_shards) for image in run.work(shard).images)
    rows = together(run)
    assert len(rows.image) == run.plan.num_rows < 400  # 100 fit into none of the images
    for image in range(4):
        centres_N2 = rows.centre_yx[rows.image == image].astype(np.float64)
        distance_NN = np.linalg.norm(centres_N2[:, None] - centres_N2, axis=-1)
        assert distance_NN[~np.eye(len(centres_N2), dtype=bool)].min() >= 5
    if centres == "grid":  # 100 in even rows and columns are 6 px apart as they are
        return
    anywhere = planned(images, centres=centres).compute(0)
    near = anywhere.centre_yx[anywhere.image == anywhere.image[0]].astype(np.float64)
    assert np.linalg.norm(near[:, None] - near, axis=-1)[~np.eye(len(near), dtype=bool)].min() < 5  # the control


def test_the_centre_alone_is_one_sample_an_image(images: Path) -> None:
    run = planned(images, centres="centre")
    rows = together(run)
    sides = {i: (run.table["height"][i].as_py(), run.table["width"][i].as_py()) for i in range(4)}
    assert sorted(rows.image.tolist()) == [0, 1, 2, 3]
    assert all(
        tuple(c) == (sides[i][0] // 2, sides[i][1] // 2) for i, c in zip(rows.image, rows.centre_yx, strict=True)
    )


def test_options_of_the_patches_reach_the_blocks_and_the_stores_attributes(images: Path, tmp_path: Path) -> None:
    usual, at = together(planned(images)), RunFolder.at(str(tmp_path / "run"))
    options = {"disc_mask": True, "resample_all": True, "interpolation": "bicubic"}
    for name, value in options.items():
        changed = together(planned(images, **{name: value}))
        if name != "disc_mask":  # other windows, other room for centres
            assert (changed.centre_yx == usual.centre_yx).mean() < 0.5
        else:
            np.testing.assert_array_equal(changed.centre_yx, usual.centre_yx)
            assert (changed.activations != usual.activations).mean() > 0.1
    run = planned(images, **options)
    harvest.create_store(at, run.config, run.plan, backbone())
    for shard in range(run.plan.num_shards):
        harvest.harvest_shard(at, run.work(shard), run.config, backbone(), attempt="a", tick=lambda rows: None)
    store.finish(at)
    rotation = store.open_store(at).attrs["rotation"]
    assert rotation == {"kernel": "bicubic", "antialias": False, "disc_mask": True, "first_turned_by_steps": 0.5}


def test_images_stand_mixed_in_a_shard(images: Path) -> None:
    run = planned(images, shard_rows=512)
    image_N = together(run).image
    changes = np.count_nonzero(np.diff(image_N[: run.plan.held_out_from]))
    assert changes > 150  # of 299; 2 if they stood one after another


def test_another_seed_takes_other_centres_in_another_order(images: Path) -> None:
    one, other = together(planned(images)), together(planned(images, seed=6))
    assert (one.centre_yx != other.centre_yx).any(axis=1).mean() > 0.9


def test_names_and_places_of_files_change_no_number(images: Path, tmp_path: Path) -> None:
    """Rows follow the images' content; only the numbers of manifest rows differ."""
    for i, name in enumerate(sorted(NAMES, reverse=True)):
        (tmp_path / f"deep/{i}").mkdir(parents=True)
        shutil.copy(images / name, tmp_path / f"deep/{i}/{i} ü.png")
    here, there = planned(images), planned(tmp_path)
    for shard in range(here.plan.num_shards):
        one, other = here.compute(shard), there.compute(shard)
        assert one.activations.tobytes() == other.activations.tobytes()
        assert one.centre_yx.tobytes() == other.centre_yx.tobytes()
        np.testing.assert_array_equal(3 - one.image, other.image)


def test_a_file_that_changed_since_it_was_indexed_is_an_os_error_that_names_it(images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    run = planned(folder, shard_rows=512)
    run.compute(0)
    with Image.open(folder / "moon.png") as image:
        changed = np.asarray(image).copy()
    changed[0, 0] ^= 1  # as many pixels, other ones
    Image.fromarray(changed).save(folder / "moon.png")
    with pytest.raises(OSError, match=r"/moon\.png: its bytes changed since it was indexed"):
        run.compute(0)
    (folder / "moon.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"/moon\.png: not found"):
        run.compute(0)


def test_stimuli_are_sampled_at_their_centre() -> None:
    run = planned("stimuli", max_stimuli=7)
    shard = run.compute(0)
    window = harvest.field_window_px(groups.parse("D8"), backbone())
    assert sorted(shard.image.tolist()) == list(range(7))
    assert (shard.centre_yx == window // 2).all()
    circle = shard.activations[shard.image == 3][0].astype(np.float64)
    line = shard.activations[shard.image == 0][0].astype(np.float64)
    quarter = groups.parse("D8").cayley[:, 2]
    assert np.abs(circle - circle[quarter]).max() <= 2e-3 * np.abs(circle).max()
    assert np.abs(line - line[quarter]).max() > 0.1 * np.abs(line).max()


def test_an_image_whose_activations_overflow_is_refused_not_stored(images: Path, tmp_path: Path) -> None:
    run, at = planned(images), RunFolder.at(str(tmp_path / "run"))
    loud = harvest.load_backbone(run.config, "cpu")
    for buffer in loud.buffers():
        buffer *= 1e6
    harvest.create_store(at, run.config, run.plan, backbone())
    with pytest.raises(ValueError, match=r"googlenet maxpool1: an activation of .* expected at most 65,504"):
        harvest.harvest_shard(at, run.work(0), run.config, loud, attempt="a", tick=lambda rows: None)
    assert objects.sizes(at.commits) == {}


def test_equal_copies_give_equal_rows(images: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        shutil.copy(images / "moon.png", tmp_path / name)
    rows = together(planned(tmp_path, shard_rows=512))
    for name in ("centre_yx", "activations"):
        first, second = (getattr(rows, name)[rows.image == image] for image in (0, 1))
        order = [np.lexsort(rows.centre_yx[rows.image == image].T) for image in (0, 1)]
        np.testing.assert_allclose(first[order[0]].astype(float), second[order[1]].astype(float), rtol=2e-3, atol=1e-3)


def test_records_of_images_keep_their_reference() -> None:
    (ref,) = list_images("stimuli", stimulus_px=31, max_stimuli=1)
    table = manifest.build([ImageRecord(ref=ref, status="ok", height=31, width=31, key=1)], {})
    work = harvest.shard_work(harvest.plan_rows(CONFIG, table, backbone()), table, 0)
    assert [(image.ref, image.key, image.first, image.count) for image in work.images] == [(ref, 1, 0, 100)]


@pytest.mark.parametrize(
    ("dtype", "gain", "told"),
    [
        (torch.float16, 1e5, "leaves the range of float16.*use --dtype bfloat16"),
        (torch.float32, 1e5, "expected at most 65,504, for the store keeps float16"),
        (torch.float32, float("inf"), "not finite"),
    ],
)
def test_activations_beyond_what_the_store_holds_stop_the_harvest(
    dtype: torch.dtype, gain: float, told: str, images: Path
) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    torch.nn.init.constant_(module[0].weight, gain)
    loud = ModuleBackbone("test", Network(module=module, scaling=NAMED["bytes"], input_px=32), layer="0", dtype=dtype)
    task = planned(images)
    with pytest.raises(ValueError, match=told):
        harvest.compute_shard(task.work(0), task.config, loud, tick=lambda rows: None)
