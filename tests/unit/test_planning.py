"""What a run will take: units, laws of growth, the real bytes of a small run, and one clear line for bad tables."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gc_core import harvest, manifest, planning, store
from gc_core.config import HarvestConfig, TrainConfig
from gc_core.crosscoder import Crosscoder
from gc_core.images import list_images
from gc_core.images.load import content_key
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.planning import Rates, Workload
from gc_core.planning.forecast import uploads, weights_bytes
from gc_core.planning.measure import measure
from gc_core.planning.rates import HarvestRate, TrainRate, train_key
from gc_core.store import ARRAYS
from gc_core.store.layout import stored_bytes
from gc_core.train import Trainer, Worker, open_data, resolve
from jobs.plan import PlanJob

WORK = Workload(
    num_images=100_000,
    samples_per_image=10,
    group="D8",
    backbone="googlenet",
    layer="conv2",
    channels=64,
    field_px=11,
    train=TrainConfig(prototypes=64, k=8, steps=1000),
    num_workers=2,
)
NONE = Rates(harvest=[], train=[])
PRICES = Path(__file__).parents[2] / "infra" / "prices.json"


def rates_of(work: Workload, device: str = "gpu") -> Rates:
    by_harvest = HarvestRate(
        device=device,
        backbone=work.backbone,
        layer=work.layer,
        group="D_8",
        images_per_s=100,
        samples_per_s=50,
        stored_share=0.4,
        where="here",
    )
    by_train = TrainRate(key=train_key(work, device), samples_per_s=1000, encode_samples_per_s=2000, where="here")
    return Rates(harvest=[by_harvest], train=[by_train])


def test_hours_are_amounts_over_rates() -> None:
    stages = {stage.name: stage for stage in planning.forecast(WORK, rates_of(WORK), "gpu").stages}
    assert stages["index"].hours == pytest.approx(100_000 / 100 / 2 / 3600)
    assert stages["train"].hours == pytest.approx(1000 * 256 / 1000 / 2 / 3600)
    assert stages["analyse"].hours == pytest.approx(1_000_000 / 2000 / 2 / 3600)
    assert stages["harvest"].hours == pytest.approx(245 * 2048 / 50 / 3600), "489 shards: one worker has 245"


def test_without_a_rate_of_that_very_device_hours_are_unknown_and_all_else_is_told() -> None:
    known, unknown = (planning.forecast(WORK, rates_of(WORK), device) for device in ("gpu", "other"))
    assert unknown.hours is None
    assert [stage.puts for stage in unknown.stages] == [stage.puts for stage in known.stages]
    prices = planning.read_prices(PRICES)
    cost = planning.bill(unknown, prices, instance="g6.xlarge", num_workers=2, months=1)
    assert (cost.machines, cost.total) == (None, None)
    assert cost.cluster_per_hour > 0 < cost.requests


@pytest.mark.parametrize(
    "change", [{"layer": "conv3"}, {"group": "D4"}, {"train": TrainConfig(prototypes=32, k=8, steps=1000)}]
)
def test_a_rate_counts_only_for_what_it_was_measured_on(change: dict[str, Any]) -> None:
    assert planning.forecast(replace(WORK, **change), rates_of(WORK), "gpu").hours is None


@pytest.mark.parametrize("name", ["stored_bytes", "puts", "gets", "hours"])
def test_more_images_never_take_less(name: str) -> None:
    sizes = [replace(WORK, num_images=count) for count in (10, 1000, 100_000, 3_000_000)]
    figures = [getattr(planning.forecast(work, rates_of(work), "gpu"), name) for work in sizes]
    assert figures == sorted(figures)
    assert figures[0] < figures[-1]


def test_a_run_is_the_sum_of_its_stages() -> None:
    told = planning.forecast(WORK, rates_of(WORK), "gpu")
    for name in ("stored_bytes", "puts", "gets", "hours"):
        assert getattr(told, name) == pytest.approx(sum(getattr(stage, name) for stage in told.stages))


def test_one_worker_sends_nothing() -> None:
    assert planning.forecast(replace(WORK, num_workers=1), NONE, "x").sent_bytes_per_step == 0
    assert planning.forecast(WORK, NONE, "x").sent_bytes_per_step > 0


def test_passes_become_steps() -> None:
    assert planning.forecast(replace(WORK, epochs=2.0), NONE, "x").steps == round(2 * 980_000 / 256)


def test_the_bill_adds_up() -> None:
    prices, told = planning.read_prices(PRICES), planning.forecast(WORK, rates_of(WORK), "gpu")
    cost = planning.bill(told, prices, instance="g6.xlarge", num_workers=2, months=3)
    per_hour = 2 * prices.instances["g6.xlarge"].usd_per_hour + prices.instances[prices.head].usd_per_hour
    assert cost.cluster_per_hour == pytest.approx(per_hour)
    assert told.hours is not None
    assert cost.total == pytest.approx(told.hours * per_hour + cost.requests + cost.storage)
    assert cost.storage == pytest.approx(3 * told.stored_bytes / 1e9 * prices.storage_usd_per_gb_month)


def test_one_sample_is_too_few_to_hold_one_out() -> None:
    with pytest.raises(ValueError, match="images: found 1 sample in all, expected at least 2"):
        replace(WORK, num_images=1, samples_per_image=1)


def test_prototypes_and_features_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="prototypes: 64 found with tying none"):
        _ = PlanJob(images=100, prototypes=64, dict_size=128).train


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_not_measured() -> None:
    with pytest.raises(ValueError, match="measure_on: found cuda"):
        measure(WORK, HarvestConfig(), "gpu", device="cuda", seconds=1, say=print)


def test_pieces_of_an_upload() -> None:
    assert [uploads(size) for size in (0, 1, 32 << 20, (32 << 20) + 1)] == [1, 1, 1, 4]


def test_the_plan_of_a_small_run_is_its_real_bytes(tmp_path: Path) -> None:
    config = HarvestConfig(
        images="stimuli", group="D4", layer="conv1", dtype="float32", max_stimuli=256, compression="none"
    )
    run, backbone = RunFolder.at(tmp_path), harvest.load_backbone(config, "cpu")
    window_px = harvest.Geometry.of(config, backbone).window_px
    refs = list_images("stimuli", stimulus_px=window_px, max_stimuli=256)
    records = [
        manifest.ImageRecord(ref=ref, status="ok", height=window_px, width=window_px, key=content_key(ref, b""))
        for ref in refs
    ]
    table = manifest.build(records, {})
    manifest.write(run.manifest, table)
    plan = harvest.plan_rows(config, table, backbone)
    harvest.create_store(run, config, plan, backbone)
    pipeline = harvest.Pipeline(run, config, backbone, attempt="a")
    for shard in range(plan.num_shards):
        pipeline.harvest(harvest.shard_work(plan, table, shard), tick=lambda _: None)
    store.finish(run)
    work = replace(
        WORK, num_images=256, samples_per_image=1, group="D4", layer="conv1", channels=backbone.channels,
        compression="none", train=TrainConfig(prototypes=16, k=4, steps=5, batch=64),
    )  # fmt: skip
    assert work.num_shards == plan.num_shards
    told = {stage.name: stage for stage in planning.forecast(work, NONE, "x").stages}
    real = sum(sum(stored_bytes(run, shard).values()) for shard in range(plan.num_shards))
    assert len(ARRAYS) == 3
    assert told["harvest"].stored_bytes == pytest.approx(real, rel=0.02)
    data = open_data(run, work.resolved)
    model: Crosscoder = Trainer(resolve(work.resolved, data), data, Worker(device="cpu")).result
    model.save(Location.parse(tmp_path / "model"))
    assert weights_bytes(work) == pytest.approx((tmp_path / "model" / "model.safetensors").stat().st_size, rel=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"put_usd_per_1000": -1}, "put_usd_per_1000 -1"),
        ({"as_of": "last year"}, "as_of 'last year' found"),
        ({"head": "laptop"}, "head 'laptop' found, expected one of"),
        ({"instances": {"m6i.xlarge": {"usd_per_hour": 1, "workers": 0}}}, "workers 0 found, expected at least 1"),
        ({"instances": {"m6i.xlarge": {"usd_per_hour": "dear", "workers": 1}}}, "'dear' found"),
        ({"tax": 1}, "unknown fields ['tax'] found"),
    ],
)
def test_what_is_wrong_with_a_price_table_is_said_in_one_line(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({**json.loads(PRICES.read_text()), **change}))
    with pytest.raises(ValueError, match=re.escape(said)) as told:
        planning.read_prices(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_machine_that_no_price_is_known_of_is_named_with_those_known() -> None:
    with pytest.raises(ValueError, match=r"instance: laptop found, expected one of g6.xlarge.*--prices"):
        planning.read_prices(PRICES).instance("laptop")


def test_measured_rates_are_added_to_a_file(tmp_path: Path) -> None:
    path, rates = tmp_path / "rates.json", rates_of(WORK)
    planning.write_rates(path, rates)
    planning.write_rates(path, rates_of(WORK, "other"))
    assert planning.read_rates(path) == rates | rates_of(WORK, "other")
    path.write_text('{"harvest": []}')
    with pytest.raises(ValueError, match="train"):
        planning.read_rates(path)
