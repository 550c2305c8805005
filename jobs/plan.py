"""What a run will take before it is started: hours, bytes, requests, memory, traffic and dollars. Nothing runs.

    python -m jobs.plan --images 1000000 --prototypes 1024 --workers 8 --device L4 --instance g6.xlarge
    python -m jobs.plan --images 1000000 --prototypes 1024 --device L4 --measure rates.json      on a machine with one
    python -m jobs.plan --images 1000000 --prototypes 1024 --workers 8 --device L4 --rates rates.json --prices mine.json

Hours follow from measured rates alone: where none is known for a device, they are unknown, and all else is told.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gc_core import backbones, bounds, planning
from gc_core.config import AnalyseConfig, Compression, HarvestConfig, TrainConfig
from gc_core.io.json_objects import finite, json_bytes
from gc_core.planning import Bill, Forecast, Rates, Stage, Workload
from gc_core.planning.measure import harvest_config, measure
from gc_core.store.shards import DEFAULT_CENTRES_PER_IMAGE
from jobs.common import console
from jobs.common.options import cli

TABLES = Path(__file__).parents[1] / "infra"
PRICES, RATES = TABLES / "prices.json", TABLES / "rates.json"
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class PlanJob:
    """Tell what a run will take. No cluster is started."""

    images: int
    """Number of images; all count as usable."""
    centres_per_image: int = DEFAULT_CENTRES_PER_IMAGE
    """Samples that each image gives."""
    group: str = "D32"
    """Symmetry group of the plane, as `jobs.harvest` takes it."""
    backbone: str = "googlenet"
    """Network, as `jobs.harvest` takes it."""
    layer: str | None = None
    """Layer, as `jobs.harvest` takes it; its channels and its field are asked of the network itself."""
    weights: str | None = None
    """Weights, as `jobs.harvest` takes them; `random:0` downloads nothing, and the plan is the same."""
    compression: Compression = "zstd"
    """How the store is packed, as `jobs.harvest` takes it."""
    tying: Literal["orbit", "none"] = "orbit"
    """Tied poses, or features with weights of their own."""
    prototypes: int | None = None
    """Prototypes of tied poses; None for as many as training takes for such a store."""
    dict_size: int | None = None
    """Features with weights of their own, which leaves poses untied."""
    k: int = TrainConfig.k
    """Active features a sample."""
    batch: int = TrainConfig.batch
    """Samples a step, over all workers together."""
    steps: int | None = None
    """Steps of the training; None for as many as training takes for such a store."""
    epochs: float | None = None
    """Passes of the training over all samples, in place of steps."""
    workers: int = 1
    """Workers of every stage: one GPU each, or the cores that the rate of the device is of."""
    device: str = "cpu-core"
    """Kind of device, by the name that its rates were measured under; `cpu-core` is one core, and a name that does not
    begin with cpu is of a GPU, which has a memory of its own."""
    rates: Path = RATES
    """File of measured rates."""
    prices: Path = PRICES
    """Price table. The one that comes along is to be edited; it says of which day its numbers are, and from where."""
    instance: str = "m6i.2xlarge"
    """Machine of the price table that workers run on."""
    months: float = 1.0
    """How long the results are kept, for the price of storage."""
    measure: Path | None = None
    """Measure one worker here instead, for a few minutes, and add its rates to this file under the name `--device`."""
    measure_on: Literal["cpu", "cuda"] = "cpu"
    """What is measured: one core, or this machine's GPU."""
    measure_seconds: float = 30.0
    """How long training steps are timed."""
    json: Path | None = None
    """Also write all figures there."""

    def __post_init__(self) -> None:
        each = {"images": bounds.IMAGES, "centres_per_image": bounds.Bound(1, 1_000_000), "workers": bounds.WORKERS}
        each |= {"months": bounds.Bound(0, 12_000), "measure_seconds": bounds.Bound(0, 86_400)}
        bounds.refuse_numbers(self, {**each, "epochs": bounds.Bound(0, 1e9, above_least=True)})
        bounds.refuse_text(self)
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"epochs: found {self.epochs:g} beside {self.steps} steps; leave one of them out")

    @property
    def harvest(self) -> HarvestConfig:
        """The options that a harvest would have."""
        names = ("group", "backbone", "layer", "weights", "compression", "centres_per_image")
        return HarvestConfig(**{name: getattr(self, name) for name in names})

    @property
    def train(self) -> TrainConfig:
        """The options that a training would have."""
        untied = self.dict_size is not None or self.tying == "none"
        return TrainConfig(
            tying="none" if untied else None,
            prototypes=self.prototypes,
            dict_size=self.dict_size,
            k=self.k,
            batch=self.batch,
            steps=self.steps,
        )


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m jobs.plan`."""
    with console.one_line_errors(remedy="Run the same command again."):
        job = cli(PlanJob, prog="python -m jobs.plan", args=args, description=__doc__)
        work = workload_of(job)
        if job.measure is not None:
            options = harvest_config(job.harvest)
            planning.write_rates(job.measure, Rates(harvest=[], train=[]))  # told at once where the file takes nothing
            new = measure(
                work, options, job.device, device=job.measure_on, seconds=job.measure_seconds, say=console.say
            )
            planning.write_rates(job.measure, new)
            console.summary(f"measured, added to {job.measure}", measured(new))
            return
        rates, prices = planning.read_rates(job.rates), planning.read_prices(job.prices)
        told = planning.forecast(work, rates, job.device)
        cost = planning.bill(told, prices, instance=job.instance, num_workers=job.workers, months=job.months)
        show(job, work, told, cost)
        console.say(f"prices as of {prices.as_of}: {prices.source} ({job.prices})")
        if told.hours is None:
            console.say(f"hours are unknown: no rate of {job.device} for this run in {job.rates}; {HOW}")
        if job.json is not None:
            job.json.write_bytes(json_bytes(finite(figures(told, cost))) + b"\n")


HOW = planning.HOW_TO_MEASURE


def workload_of(job: PlanJob) -> Workload:
    """The run that is asked for; channels and field are those of the layer itself."""
    trunk = backbones.load(job.backbone, weights=job.weights, layer=job.layer)
    return Workload(
        num_images=job.images,
        samples_per_image=job.centres_per_image,
        group=job.group,
        backbone=trunk.name,
        layer=trunk.layer,
        channels=trunk.channels,
        field_px=trunk.receptive_field_px,
        compression=job.compression,
        train=job.train,
        epochs=job.epochs,
        analyse=AnalyseConfig(),
        num_workers=job.workers,
        on_host=job.device.startswith("cpu"),
    )


def show(job: PlanJob, work: Workload, told: Forecast, cost: Bill) -> None:
    """The plan as tables."""
    columns = ["stage", "hours", "stored", "puts", "gets", "memory"]
    console.table(f"plan of {job.images:,} images", columns, [_row(each) for each in told.stages])
    config = work.resolved
    size = f"{work.parsed_group.order} x {work.channels} numbers"
    console.summary(
        "all stages",
        [
            ("samples", f"{told.num_samples:,} of {size}, in {work.num_shards:,} shards"),
            ("layer", f"{work.backbone} {work.layer}, field {work.field_px} px"),
            ("dictionary", f"{config.num_rows:,} rows of weights, {config.dict_size:,} features, k {config.k}"),
            ("training", f"{told.steps:,} steps of {config.batch:,} samples"),
            ("hours", _hours(told.hours)),
            ("stored", f"{told.stored_bytes / 1e9:,.2f} GB"),
            ("requests", f"{told.puts:,} puts and lists, {told.gets:,} gets and heads"),
            ("sent a step", f"{told.sent_bytes_per_step / 1e6:,.1f} MB by each of {job.workers:,} worker(s)"),
            ("machines", f"{_usd(cost.machines)}; the cluster is {_usd(cost.cluster_per_hour)} an hour"),
            ("storage", f"{_usd(cost.storage)} for {job.months:g} month(s)"),
            ("requests cost", _usd(cost.requests)),
            ("in all", _usd(cost.total)),
        ],
    )


def figures(told: Forecast, cost: Bill) -> dict[str, object]:
    """All figures, as JSON has them; null is unknown."""
    sums = {"hours": told.hours, "stored_bytes": told.stored_bytes, "puts": told.puts, "gets": told.gets}
    return {**asdict(told), **sums, "usd": {**asdict(cost), "total": cost.total}}


def measured(new: Rates) -> list[tuple[str, str]]:
    """Rows of the summary after a measurement."""
    rows: list[tuple[str, str]] = []
    for one in new.harvest:
        rows += [("index", f"{one.images_per_s:,.1f} images/s"), ("harvest", f"{one.samples_per_s:,.1f} samples/s")]
        rows += [("stored", f"{one.stored_share:.1%} of the bytes before compression")]
    for each in new.train:
        rows += [("train", f"{each.samples_per_s:,.1f} samples/s")]
        rows += [("encode", f"{each.encode_samples_per_s:,.1f} samples/s")]
    return rows


def _row(stage: Stage) -> list[str]:
    memory = ", ".join(f"{who} {size / 1e9:.2f} GB" for who, size in stage.memory_bytes.items())
    return [stage.name, _hours(stage.hours), f"{stage.stored_bytes / 1e9:,.3f} GB", f"{stage.puts:,}",
            f"{stage.gets:,}", memory]  # fmt: skip


def _hours(hours: float | None) -> str:
    return UNKNOWN if hours is None else f"{hours:,.3g}"


def _usd(dollars: float | None) -> str:
    return UNKNOWN if dollars is None else f"${dollars:,.2f}"


if __name__ == "__main__":
    main()
