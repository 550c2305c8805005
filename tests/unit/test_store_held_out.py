"""Held-out rows have chunks of their own since format version 2; stores of version 1 are continued and read as they
are.

Letters: N rows, G group elements, C channels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gc_core import ingest, manifest, store
from gc_core.config import TrainConfig
from gc_core.ingest import IngestConfig
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store import chunk_reader, shards
from gc_core.store.shard_codec import Form
from gc_core.store.shards import CHUNK_ROWS
from gc_core.stream import read_rows
from gc_core.train import Worker, open_data, validation
from gc_core.train.validation import HeldOutSamples

NUM_ROWS, ROWS_A_IMAGE = 12_800, 10
SMALL = TrainConfig(dict_size=16, k=2, steps=4, batch=64, checkpoint_every=2, encoder_reads="all", augment=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> IngestConfig:
    """12,800 samples of C_2 from 1,280 images: 100 chunks, and about 26 images held out."""
    folder = tmp_path_factory.mktemp("source")
    acts_NGC = np.random.default_rng(0).normal(size=(NUM_ROWS, 2, 3)).astype(np.float16)
    np.save(folder / "acts.npy", acts_NGC)
    np.save(folder / "ids.npy", np.random.default_rng(1).permutation(NUM_ROWS) // ROWS_A_IMAGE)
    return IngestConfig(activations=str(folder / "acts.npy"), image=str(folder / "ids.npy"), group="C2")


def harvested(folder: Path, config: IngestConfig, version: int, *, some: slice = slice(None)) -> RunFolder:
    """A store of some format version, or some of its shards."""
    run, plan = RunFolder.at(str(folder)), ingest.plan_ingest(config, ingest.survey(config), format_version=version)
    ingest.write_manifest(run, config, plan)
    ingest.create_store(run, config, plan)
    for shard in range(plan.num_shards)[some]:
        store.write_shard(run, shard, ingest.compute_shard(plan, shard, seed=config.seed), attempt="test")
    return run


def finished(run: RunFolder) -> RunFolder:
    store.finish(run)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, config: IngestConfig) -> dict[int, RunFolder]:
    """A finished store of each version."""
    folder = tmp_path_factory.mktemp("runs")
    return {version: finished(harvested(folder / str(version), config, version)) for version in (1, 2)}


def held_out(run: RunFolder) -> np.ndarray:
    return manifest.held_out(manifest.load_table(run.manifest))[store.open_store(run).image]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The chunks of activations that were decoded, as they are stored."""
    found: list[bytes] = []
    decode_chunk = chunk_reader.decode_chunk

    def counting(form: Form, stored: memoryview, out: NDArray[Any]) -> None:
        found.extend([bytes(stored)] if len(form.row_shape) == 2 and form.dtype == np.float16 else [])
        decode_chunk(form, stored, out)

    monkeypatch.setattr(chunk_reader, "decode_chunk", counting)
    return found


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Rows that a held-out score reads, and what stands there."""
    found: list[tuple[NDArray[np.int64], NDArray[Any]]] = []

    def noted(opened: store.Store, rows: NDArray[np.int64], blocks: NDArray[np.int64]) -> NDArray[Any]:
        found.append((rows, read_rows(opened, rows, blocks)))
        return found[-1][1]

    monkeypatch.setattr(validation, "read_rows", noted)
    return found


def test_reading_held_out_rows_decodes_chunks_in_proportion_to_them(
    runs: dict[int, RunFolder], decoded: list[bytes]
) -> None:
    num_held_out = int(held_out(runs[2]).sum())
    assert 100 < num_held_out < 500
    HeldOutSamples(open_data(runs[2], SMALL), Worker(), batch=64)
    assert len(decoded) == len(set(decoded)) <= num_held_out // CHUNK_ROWS + 2
    decoded.clear()
    HeldOutSamples(open_data(runs[1], SMALL), Worker(), batch=64)
    assert len(decoded) > 80, "the control: in the first format they lie in nearly every chunk"


def test_of_many_held_out_rows_whole_chunks_are_read(
    runs: dict[int, RunFolder], decoded: list[bytes], evaluated: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "MAX_HELD_OUT_ROWS", CHUNK_ROWS)
    data = open_data(runs[2], SMALL)
    HeldOutSamples(data, Worker(), batch=64)
    assert len(decoded) == 1
    ((rows, _),) = evaluated
    assert CHUNK_ROWS // 2 < len(rows) <= CHUNK_ROWS
    (chunk,) = set(rows // CHUNK_ROWS)
    np.testing.assert_array_equal(rows, data.held_out_rows[data.held_out_rows // CHUNK_ROWS == chunk])


def test_chunks_are_taken_from_all_over() -> None:
    rows = np.arange(1_000_003, 1_020_003)
    taken = validation.spread_chunks(rows, 2048)
    assert len(np.unique(taken // CHUNK_ROWS)) == 16
    assert len(taken) > 15 * CHUNK_ROWS
    assert (taken.min(), taken.max()) == (rows.min(), rows.max())
    np.testing.assert_array_equal(validation.spread_chunks(rows[:2048], 2048), rows[:2048])


def test_both_formats_hold_the_same_samples_and_the_second_has_held_out_ones_last(runs: dict[int, RunFolder]) -> None:
    found = {version: store.open_store(run) for version, run in runs.items()}
    assert {version: opened.attrs["format_version"] for version, opened in found.items()} == {1: 1, 2: 2}
    assert np.all(np.diff(held_out(runs[2]).astype(int)) >= 0)
    assert held_out(runs[1]).sum() == held_out(runs[2]).sum()
    samples = {
        version: sorted(zip(opened.image.tolist(), (row.tobytes() for row in opened[:]), strict=True))
        for version, opened in found.items()
    }
    assert samples[1] == samples[2]


def test_samples_of_a_shard_still_stand_mixed(runs: dict[int, RunFolder]) -> None:
    opened = store.open_store(runs[2])
    for shard in range(opened.num_shards):
        rows = opened.rows(shard)
        assert len(np.unique(opened.image[rows.start : rows.stop][:CHUNK_ROWS])) > 20


@pytest.mark.parametrize("version", [1, 2])
def test_a_half_harvest_is_finished_in_its_own_format(
    version: int, config: IngestConfig, runs: dict[int, RunFolder], tmp_path: Path
) -> None:
    run = harvested(tmp_path / "half", config, version, some=slice(None, None, 2))
    assert store.version_of(run) == version
    other = ingest.plan_ingest(config, ingest.survey(config), format_version=3 - version)
    with pytest.raises(store.StoreError, match="format_version"):
        ingest.create_store(run, config, other)
    finished(harvested(tmp_path / "half", config, store.version_of(run)))
    assert store.open_store(run)[:].tobytes() == store.open_store(runs[version])[:].tobytes()
    np.testing.assert_array_equal(store.open_store(run).image, store.open_store(runs[version]).image)


def test_a_store_that_is_not_there_will_be_of_the_newest_format(tmp_path: Path) -> None:
    assert store.version_of(RunFolder.at(str(tmp_path))) == store.FORMAT_VERSION == 2


def test_the_first_format_has_its_rows_where_it_always_had_them(runs: dict[int, RunFolder]) -> None:
    opened = store.open_store(runs[1])
    seed = opened.attrs["seed"]
    blocks = np.argsort(shards.mix(np.arange(NUM_ROWS // 128, dtype=np.uint64), seed))
    row_N = (128 * blocks[:, None] + np.arange(128)).ravel()
    source_NGC = np.load(Location.parse(opened.attrs["config"]["activations"]).local_path)
    for shard in range(opened.num_shards):
        rows = opened.rows(shard)
        worker = np.random.default_rng([seed, shard]).permutation(len(rows))
        expected_NGC = np.empty_like(source_NGC[: len(rows)])
        expected_NGC[worker] = source_NGC[row_N[rows.start : rows.stop]]
        np.testing.assert_array_equal(opened[rows.start : rows.stop], expected_NGC)


def test_the_first_format_is_scored_on_rows_from_all_over_as_it_was(
    runs: dict[int, RunFolder], evaluated: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "MAX_HELD_OUT_ROWS", 64)
    data = open_data(runs[1], SMALL)
    rows = data.held_out_rows[np.linspace(0, len(data.held_out_rows) - 1, 64).astype(int)]
    expected_NGC = np.stack([data.store[row : row + 1][0] for row in rows.tolist()])
    HeldOutSamples(data, Worker(), batch=64)
    ((_, stored_NGC),) = evaluated
    np.testing.assert_array_equal(stored_NGC, expected_NGC)
