"""Harvesting one shard after another: overlap, order, errors, memory."""

import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from gc_core import harvest, manifest, store
from gc_core.backbones import Backbone
from gc_core.config import HarvestConfig
from gc_core.harvest import shard as shard_module
from gc_core.images import ImageRef, list_images
from gc_core.images.load import content_key
from gc_core.io.run_folder import RunFolder
from gc_core.store import Commit, ShardArrays

PATIENCE_S = 60

Started = tuple[RunFolder, HarvestConfig, Backbone, list[harvest.ShardWork]]


def started(folder: str, *, num_shards: int, group: str = "D4", shard_rows: int = 128) -> Started:
    """An empty store of drawn stimuli, one sample each, and the work to fill it."""
    config = HarvestConfig(
        images="stimuli",
        group=group,
        layer="conv1",
        dtype="float32",
        shard_rows=shard_rows,
        max_stimuli=num_shards * shard_rows,
    )
    run, backbone = RunFolder.at(folder), harvest.load_backbone(config, "cpu")
    window_px = harvest.Geometry.of(config, backbone).window_px
    refs = list_images("stimuli", stimulus_px=window_px, max_stimuli=config.max_stimuli)
    records = [
        manifest.ImageRecord(ref=ref, status="ok", height=window_px, width=window_px, key=key_of(ref)) for ref in refs
    ]
    table = manifest.build(records, {})
    plan = harvest.plan_rows(config, table, backbone)
    harvest.create_store(run, config, plan, backbone)
    return run, config, backbone, [harvest.shard_work(plan, table, shard) for shard in range(plan.num_shards)]


def key_of(ref: ImageRef) -> int:
    return content_key(ref, b"")


def quietly(rows: int) -> None:
    pass


def test_a_shard_is_written_while_the_next_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config, backbone, works = started(str(tmp_path), num_shards=2)
    computing, overlapped = Event(), []
    real = store.write_shard

    def write(run: RunFolder, shard: int, arrays: ShardArrays, *, attempt: str) -> Commit:
        overlapped.append(computing.wait(PATIENCE_S if shard == works[0].shard else 0))
        return real(run, shard, arrays, attempt=attempt)

    monkeypatch.setattr(shard_module.store, "write_shard", write)
    pipeline = harvest.Pipeline(run, config, backbone, attempt="a")
    with ThreadPoolExecutor(pipeline.SHARDS_AT_ONCE) as threads:
        first = threads.submit(pipeline.harvest, works[0], tick=quietly)
        second = threads.submit(pipeline.harvest, works[1], tick=lambda rows: computing.set())
        assert {first.result().shard, second.result().shard} == {0, 1}
    assert overlapped == [True, True]


def test_one_call_after_another_overlaps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: it needs two threads, and it notices."""
    run, config, backbone, works = started(str(tmp_path), num_shards=2)
    events: list[str] = []
    real = store.write_shard

    def write(run: RunFolder, shard: int, arrays: ShardArrays, *, attempt: str) -> Commit:
        events.append(f"write {shard}")
        return real(run, shard, arrays, attempt=attempt)

    monkeypatch.setattr(shard_module.store, "write_shard", write)
    pipeline = harvest.Pipeline(run, config, backbone, attempt="a")
    for work in works:
        pipeline.harvest(work, tick=lambda rows: events.append("compute"))
    assert [event for event, last in zip(events, [None, *events], strict=False) if event != last] == [
        "compute",
        "write 0",
        "compute",
        "write 1",
    ]


def test_a_shard_that_cannot_be_written_is_that_calls_error_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config, backbone, works = started(str(tmp_path), num_shards=4)
    real = store.write_shard

    def write(run: RunFolder, shard: int, arrays: ShardArrays, *, attempt: str) -> Commit:
        if shard == 1:
            raise OSError("disk full")
        return real(run, shard, arrays, attempt=attempt)

    with monkeypatch.context() as broken:
        broken.setattr(shard_module.store, "write_shard", write)
        pipeline = harvest.Pipeline(run, config, backbone, attempt="a")
        with ThreadPoolExecutor(pipeline.SHARDS_AT_ONCE) as threads:
            calls = [threads.submit(pipeline.harvest, work, tick=quietly) for work in works]
        errors = [call.exception() for call in calls]
    assert [str(error) if error else None for error in errors] == [None, "disk full", None, None]
    assert sorted(store.finished_commits(run)) == [0, 2, 3]
    pipeline.harvest(works[1], tick=quietly)
    store.finish(run)


def test_what_the_pipeline_stores_is_what_one_shard_at_a_time_stores(tmp_path: Path) -> None:
    run, config, backbone, works = started(str(tmp_path / "pipeline"), num_shards=3)
    pipeline = harvest.Pipeline(run, config, backbone, attempt="a")
    with ThreadPoolExecutor(pipeline.SHARDS_AT_ONCE) as threads:
        found = list(threads.map(lambda work: pipeline.harvest(work, tick=quietly), works))
    plain, _, _, _ = started(str(tmp_path / "plain"), num_shards=3)
    for commit, work in zip(found, works, strict=True):
        expected = harvest.harvest_shard(plain, work, config, backbone, attempt="a", tick=quietly)
        assert commit == expected


def peaks_mb(folder: str) -> tuple[float, float, float]:
    """Peak memory of this process after 2 shards, after 20 more, and with the blocks of those kept as computed."""
    run, config, backbone, works = started(folder, num_shards=22, group="D16")
    pipeline = harvest.Pipeline(run, config, backbone, attempt="a")
    peaks: list[float] = []
    for part in (works[:2], works[2:]):
        forget_peak()  # that of the imports is higher
        with ThreadPoolExecutor(pipeline.SHARDS_AT_ONCE) as threads:
            list(threads.map(lambda work: pipeline.harvest(work, tick=quietly), part))
        peaks.append(peak_mb())
    opened = store.open_store(run, unfinished=True)
    kept = [opened.read(rows.start, rows.stop).astype(np.float32) for rows in map(opened.rows, range(2, 22))]
    assert len(kept) == 20
    return peaks[0], peaks[1], peak_mb()


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a process's peak")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """2,560 images more, whose blocks are 21 MB in float32, in a process of its own; kept, they show."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        after_two, after_many, leaked = process.submit(peaks_mb, str(tmp_path)).result()
    assert after_many - after_two < 8
    assert leaked - after_many > 16
