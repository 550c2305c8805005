"""Stores of every compression are written, read by any Zarr, continued and mended; none changes into another."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from gc_core import harvest, manifest, store
from gc_core.config import HarvestConfig
from gc_core.images import list_images
from gc_core.ingest import IngestConfig
from gc_core.io.run_folder import RunFolder
from gc_core.store import ARRAYS, COMPRESSIONS, StoreError, commits
from support.small_store import NUM_ROWS, assert_intact, create, numbers, object_of, shard_of, write


@pytest.fixture(params=COMPRESSIONS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """Unfinished: its last shard was never written."""
    run = RunFolder.at(str(tmp_path / request.param))
    create(run, request.param, config={"compression": request.param})
    write(run, 1, 0)
    return run


def folder_of(run: RunFolder) -> Path:
    return run.location.local_path


def test_it_is_continued_and_read_and_any_zarr_reads_it(run: RunFolder) -> None:
    create(run, folder_of(run).name, config={"compression": folder_of(run).name})
    write(run, 0, 1, 2)
    store.finish(run)
    assert_intact(run)
    root = zarr.open_group(folder_of(run) / "activations.zarr", mode="r")
    for name in ARRAYS:
        np.testing.assert_array_equal(root[name][:], getattr(numbers(), name))
        assert isinstance(root[name].metadata.codecs[0].codecs[-1], Crc32cCodec)


def test_damage_is_refused_and_mended(run: RunFolder) -> None:
    write(run, 2)
    store.finish(run)
    path = object_of(folder_of(run), "activations", 0)
    content = path.read_bytes()
    path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    with pytest.raises(StoreError, match=r"shard 0 of 3 is damaged .*checksum"):
        store.open_store(run)[:10]
    store.discard_commit(run, 0)
    store.write_shard(run, 0, shard_of(numbers(), 0), attempt="repair")
    assert_intact(run)


def test_sizes_fall_with_the_compression(tmp_path: Path) -> None:
    sizes = {}
    for name in COMPRESSIONS:
        run = RunFolder.at(str(tmp_path / name))
        create(run, name)
        write(run, 0)
        sizes[name] = object_of(tmp_path / name, "activations", 0).stat().st_size
    assert sizes["zstd"] < sizes["lz4"] < sizes["none"]


@pytest.mark.parametrize("others", [("zstd", "none"), ("none", "lz4"), ("lz4", "zstd")])
def test_another_compression_does_not_continue_a_store(others: tuple[str, str], tmp_path: Path) -> None:
    run, (first, second) = RunFolder.at(str(tmp_path)), others
    configs = [HarvestConfig(compression=each) for each in others]
    create(run, first, config=configs[0].to_json(), config_hash=configs[0].fingerprint())
    with pytest.raises(StoreError, match=f"compression .*{second}.*; choose another --out, or the same options"):
        create(run, second, config=configs[1].to_json(), config_hash=configs[1].fingerprint())
    assert store.open_store(run, unfinished=True).form("activations").compression == first


@pytest.mark.parametrize(
    "config", [HarvestConfig(compression="none"), IngestConfig(activations="/a", group="C2", compression="none")]
)
def test_options_are_part_of_what_a_store_is_from_and_the_usual_one_leaves_old_stores_what_they_were(
    config: HarvestConfig | IngestConfig,
) -> None:
    values = config.to_json()
    assert values.pop("compression") == "none"
    usual = type(config).from_json(values)
    assert usual.compression == "zstd"
    assert "compression" not in usual.to_json()
    assert usual.fingerprint() != config.fingerprint()


def test_a_harvest_stores_as_its_options_say(tmp_path: Path) -> None:
    config = HarvestConfig(images="stimuli", max_stimuli=4, group="D2", layer="maxpool1", compression="lz4")
    backbone = harvest.load_backbone(config, "cpu")
    window_px = harvest.Geometry.of(config, backbone).window_px
    refs = list_images("stimuli", stimulus_px=window_px, max_stimuli=config.max_stimuli)
    table = manifest.build(
        [manifest.inspect(ref, manifest.InspectionSettings(resize_px=256, window_px=window_px)) for ref in refs], {}
    )
    run = RunFolder.at(str(tmp_path))
    harvest.create_store(run, config, harvest.plan_rows(config, table, backbone), backbone)
    opened = store.open_store(run, unfinished=True)
    assert {opened.form(name).compression for name in ARRAYS} == {"lz4"}
    assert opened.attrs["config"]["compression"] == "lz4"


def test_figures_of_a_record_are_those_of_its_arrays_in_one_piece() -> None:
    acts_NGC = numbers().activations
    wide_NF = acts_NGC.reshape(NUM_ROWS, -1).astype(np.float64)
    assert commits.sum_squares(acts_NGC) == pytest.approx((wide_NF**2).sum(), rel=1e-12)
    by_row_N = np.square(acts_NGC.astype(np.float32)).reshape(NUM_ROWS, -1).sum(1, dtype=np.float64)
    assert commits.sum_squares(acts_NGC) == float(by_row_N.sum()), "bit for bit what earlier records hold"
