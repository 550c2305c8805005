"""Memory and time of the manifest and of the plan of shards, as images grow; the records are made up.

    python -m infra.bench indexing [--images 250000 1000000] [--json FILE]

Each number has processes of its own: one puts the parts of an index together and writes the manifest, one reads it and
plans every shard, as the process does that deals out the work of a harvest. Finding and listing images is not measured.
Memory is what no file stands for, above what the process had before, at its fullest.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gc_core import harvest, manifest
from gc_core.config import HarvestConfig
from gc_core.io import objects, parquet
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import RECORDS, rejections, resumable_index
from infra.bench.results import write_results
from infra.bench.visits import Peak, in_a_fresh_process
from jobs.common import console
from jobs.common.options import cli

CONFIG = HarvestConfig(group="D8", layer="conv2", dtype="float32")
SOURCE = {"images": "made up"}
GOAL_BYTES, GOAL_IMAGES = 2_000_000_000, 10_000_000


@dataclass(frozen=True, kw_only=True)
class IndexingBench:
    """Measure what grows with images in the process that deals out work."""

    images: tuple[int, ...] = (250_000, 1_000_000)
    json: Path | None = None
    """Also write the figures there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One part of the work, at one number of images."""

    part: str
    images: int
    seconds: float
    peak_bytes: int
    manifest_bytes: int
    """Size of the file."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench indexing`."""
    with console.one_line_errors(remedy="Nothing was written."):
        options = cli(IndexingBench, prog="python -m infra.bench indexing", args=args, description=__doc__)
        rows = [cost for count in sorted(options.images) for cost in _costs(count)]
        columns = ["part", "images", "s", "peak MB", "bytes an image", "manifest bytes an image"]
        console.table("made-up images", columns, [_shown(row) for row in rows])
        for part in dict.fromkeys(row.part for row in rows):
            console.say(_extrapolated([row for row in rows if row.part == part]))
        if options.json is not None:
            write_results(options.json, [asdict(row) for row in rows])


def _costs(count: int) -> list[Cost]:
    with tempfile.TemporaryDirectory() as folder:
        in_a_fresh_process(write_parts, folder, count)
        return [in_a_fresh_process(work, folder, count) for work in (put_together, plan_shards)]


def write_parts(folder: str, count: int) -> None:
    """What tasks that look at images leave: records of so many, in parts."""
    about = {"about": json.dumps({"lens": {}})}
    keys = np.random.default_rng(0).integers(0, 2**63, count)
    for number, places in enumerate(resumable_index.parts(count)):
        name, content = (
            f"part-{number:05}.parquet",
            parquet.to_bytes(records(places, keys).replace_schema_metadata(about)),
        )
        objects.write(Location.parse(folder) / "index", name, content)


def records(places: range, keys: np.ndarray) -> pa.Table:
    """Records of usable images, whose names are as long as those of ImageNet in a bucket."""
    urls = [f"s3://bucket/images/train/n{place // 1300:08}/n{place // 1300:08}_{place:08}.JPEG" for place in places]
    own = {"url": urls, "key": keys[places.start : places.stop], "size": [110_000 + place % 1000 for place in places]}
    usual = {"member": "", "offset": 0, "status": "ok", "error": "", "height": 256, "width": 341}
    columns = {name: [value] * len(places) for name, value in usual.items()} | own
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in RECORDS}, schema=RECORDS)


def put_together(folder: str, count: int) -> Cost:
    """Parts to manifest."""
    place = Location.parse(folder)

    def work() -> None:
        whole = resumable_index.collect(place / "index", len(resumable_index.parts(count)))
        manifest.write(place / "manifest.parquet", manifest.complete(whole, SOURCE))

    return _measured("put together", folder, count, work)


def plan_shards(folder: str, count: int) -> Cost:
    """Manifest to the work on the first and the last shard."""
    run, backbone = RunFolder.at(folder), harvest.load_backbone(CONFIG, "cpu")

    def work() -> None:
        table = manifest.load_if_of(run.manifest, SOURCE)
        assert table is not None, "it was written before"
        rejections.count(table, "bad")
        plan = harvest.plan_rows(CONFIG, table, backbone)
        for shard in (0, plan.num_shards - 1):
            harvest.shard_work(plan, table, shard)

    return _measured("read and plan", folder, count, work)


def _measured(part: str, folder: str, count: int, work: Callable[[], None]) -> Cost:
    peak, start = Peak(), time.perf_counter()
    with peak.watched():
        work()
    return Cost(
        part=part,
        images=count,
        seconds=time.perf_counter() - start,
        peak_bytes=peak.num_bytes,
        manifest_bytes=(Path(folder) / "manifest.parquet").stat().st_size,
    )


def _shown(row: Cost) -> list[str]:
    each = [f"{row.peak_bytes / row.images:,.0f}", f"{row.manifest_bytes / row.images:,.1f}"]
    return [row.part, f"{row.images:,}", f"{row.seconds:,.1f}", f"{row.peak_bytes / 1e6:,.0f}", *each]


def _extrapolated(rows: list[Cost]) -> str:
    """Memory of ten million images on the line through the smallest and the largest number."""
    first, last = rows[0], rows[-1]
    if first.images == last.images:
        return f"{first.part}: {first.peak_bytes / first.images:,.0f} bytes an image"
    slope = (last.peak_bytes - first.peak_bytes) / (last.images - first.images)
    expected = last.peak_bytes + slope * (GOAL_IMAGES - last.images)
    verdict = "within" if expected <= GOAL_BYTES else "MORE than"
    return (
        f"{rows[0].part}: {slope:,.0f} MB more for a million images; {expected / 1e9:.2f} GB of ten million, on that "
        f"line: {verdict} {GOAL_BYTES / 1e9:g} GB"
    )
