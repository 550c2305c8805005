"""Rates of one worker, measured in a few minutes with the very network, layer, group and dictionary of a workload.

The stages' own functions run in this process, on photographs that ship with the project, into a temporary folder.
"""

import datetime
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing

import pyarrow as pa
import torch

from gc_core import harvest, manifest, store
from gc_core.analyse.firing import watch_shards
from gc_core.backbones import AnyBackbone
from gc_core.config import HarvestConfig
from gc_core.images import list_images
from gc_core.io.run_folder import RunFolder
from gc_core.planning.rates import HarvestRate, Rates, TrainRate, train_key
from gc_core.planning.workload import Workload
from gc_core.store.layout import stored_bytes
from gc_core.store.shards import CHUNK_ROWS
from gc_core.train import Trainer, Worker, keep_freed_memory, open_data, resolve
from gc_core.train.first import first_samples, statistics

TIMED_SHARDS = 2
"""Of 128 samples each; one before them warms up."""
WARM_STEPS, LEAST_STEPS = 2, 5
CLOCKS: Mapping[str, Callable[[], float]] = {"cpu": time.process_time, "cuda": time.perf_counter}
"""Of a core, its own time counts: others who want it are no part of its rate. A GPU is waited for."""


def measure(
    work: Workload, config: HarvestConfig, name: str, *, device: str, seconds: float, say: Callable[[str], None]
) -> Rates:
    """Rates of one worker on this machine's `device` (`cpu`: one core; `cuda`), under the name that plans ask for.

    Raises:
        ValueError: the network or the options cannot be, or there is no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("measure_on: found cuda, but torch finds no GPU here; measure on a machine that has one")
    if device == "cpu":
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.at(folder)
        say("harvesting a few shards ...")
        harvested = _harvest(run, config, work, name, device)
        say("training a few steps ...")
        return Rates(harvest=[harvested], train=[_train(run, work, name, device, seconds)])


def _harvest(run: RunFolder, config: HarvestConfig, work: Workload, name: str, device: str) -> HarvestRate:
    backbone = harvest.load_backbone(config, device)
    clock = CLOCKS[device]
    table, images_per_s = _index(config, backbone, clock)
    manifest.write(run.manifest, table)
    plan = harvest.plan_rows(config, table, backbone)
    harvest.create_store(run, config, plan, backbone)
    pipeline = harvest.Pipeline(run, config, backbone, attempt="measured")
    took_s, rows, stored = 0.0, 0, 0
    for shard in range(plan.num_shards):
        start = clock()
        commit = pipeline.harvest(harvest.shard_work(plan, table, shard), tick=lambda _: None)
        if shard:  # the first one warms up
            took_s, rows = took_s + clock() - start, rows + commit.num_rows
            stored += sum(stored_bytes(run, shard).values())
    store.finish(run)
    return HarvestRate(
        device=name,
        backbone=work.backbone,
        layer=work.layer,
        group=work.parsed_group.name,
        images_per_s=images_per_s,
        samples_per_s=rows / took_s,
        stored_share=stored / (rows * work.sample_bytes),
        where=_where(device),
    )


def _index(config: HarvestConfig, backbone: AnyBackbone, clock: Callable[[], float]) -> tuple[pa.Table, float]:
    """The manifest of the photographs, and how many a second were looked at."""
    window_px = harvest.Geometry.of(config, backbone).window_px
    settings = manifest.InspectionSettings(resize_px=config.resize_px, window_px=window_px, enlarge=config.enlarge)
    refs = list_images(config.images, stimulus_px=window_px, max_stimuli=1)
    start = clock()
    records = [manifest.inspect(ref, settings) for ref in refs]
    return manifest.build(records, {}), len(refs) / (clock() - start)


def harvest_config(options: HarvestConfig) -> HarvestConfig:
    """The options on as many centres of the photographs as are timed."""
    wanted = CHUNK_ROWS * (TIMED_SHARDS + 1)
    each = -(-wanted // len(list_images("photographs", stimulus_px=1, max_stimuli=1)))
    changed = {"images": "photographs", "centres_per_image": each, "shard_rows": CHUNK_ROWS}
    return HarvestConfig(**{**vars(options), **changed})


def _train(run: RunFolder, work: Workload, name: str, device: str, seconds: float) -> TrainRate:
    """Samples a second of whole steps, reading included, and of watching features fire."""
    keep_freed_memory()
    config, clock = work.resolved, CLOCKS[device]
    data = open_data(run, config)
    config = resolve(config, data)
    trainer = Trainer(config, data, Worker(device=device), first_samples(config, data, statistics(config, data)))
    with closing(trainer.stream()) as stream:
        for _ in range(WARM_STEPS):
            trainer.advance(next(stream))
        start, steps, passed_s = clock(), 0, 0.0
        while steps < LEAST_STEPS or passed_s < seconds:
            trainer.advance(next(stream))
            steps, passed_s = steps + 1, clock() - start
    start = clock()
    watch_shards(data.store, range(data.store.num_shards), trainer.result, top_examples=work.analyse.top_examples)
    encoded_s = clock() - start
    return TrainRate(
        key=train_key(work, name),
        samples_per_s=steps * config.batch / passed_s,
        encode_samples_per_s=data.store.num_rows / encoded_s,
        where=_where(device),
    )


def _where(device: str) -> str:
    machine = torch.cuda.get_device_name() if device == "cuda" else "one core"
    return f"{datetime.date.today()}, {machine}, python -m jobs.plan --measure"
