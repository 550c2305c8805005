"""The first part of the harvest: list the images, look at each once, write the manifest. In parallel, and resumable:
what is done is kept under RUN/index/ until the manifest stands."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import pyarrow as pa
import ray

from gc_core import harvest, manifest
from gc_core.backbones import AnyBackbone
from gc_core.config import HarvestConfig
from gc_core.images import ref, sources
from gc_core.images.ref import Listed
from gc_core.images.sources import File
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import rejections, resumable_index
from gc_core.manifest.rejections import Reasons
from gc_core.manifest.resumable_index import InspectionSettings, PartReport
from jobs.common import cluster, console, lost_workers, warned

IN_FLIGHT = 256
"""Tasks that wait or run: enough for a cluster to grow on. Each carries at most 1,024 names of images."""
ATTEMPTS = 3
"""Attempts at what could not be fetched."""


def manifest_of(run: RunFolder, config: HarvestConfig, backbone: AnyBackbone) -> pa.Table:
    """The manifest: read if it is there and of these images, else made.

    Raises:
        ValueError: there are no images there, or too many bad ones; or a manifest of others stands there.
    """
    window_px = harvest.Geometry.of(config, backbone).window_px
    source = {
        "images": config.images,
        "resize_px": config.resize_px,
        "window_px": window_px,
        "max_stimuli": config.max_stimuli,
        "max_images": config.max_images,
        **({"enlarge": True} if config.enlarge else {}),
        **({"image_key": config.image_key} if config.image_key else {}),
        "seed": config.seed if config.max_images else None,  # decides only which of them are taken
    }
    table = manifest.load_if_of(run.manifest, source)
    if table is None:
        _make(run, config, source, window_px)
        table = manifest.load_if_of(run.manifest, source)  # another harvest may have been faster
        assert table is not None, "it was just written"
    _refuse_too_many(rejections.count(table, "bad"), len(table), config)
    return table


def _make(run: RunFolder, config: HarvestConfig, source: dict[str, Any], window_px: int) -> None:
    """List, look, write the manifest unless one is there. Parts lie apart by source: harvests of other images into
    one run never mix, and harvests of the same ones write the same parts."""
    folder = resumable_index.folder_of(run.index, source)
    listing = _listing(folder, config, window_px)
    settings = InspectionSettings(resize_px=config.resize_px, window_px=window_px, enlarge=config.enlarge)
    num_parts = _look_at_all(folder, config, listing, settings)
    try:
        table = manifest.complete(resumable_index.collect(folder, num_parts), source)
    except resumable_index.GoneError:
        if manifest.load_if_of(run.manifest, source) is None:
            raise
        return  # another harvest of the same images was faster, and has cleared up
    manifest.write(run.manifest, table)
    resumable_index.clear(folder)


def describe(table: pa.Table) -> list[tuple[str, str]]:
    """Rows of the summary: how many images are used, and why the others are not."""
    unused = rejections.count(table, "small", "bad")
    rows = [("images", f"{len(table) - num_unused(table):,} used of {len(table):,}")]
    if unused:
        rows.append(("not used", f"{rejections.describe(unused)}; each with its reason in the manifest"))
    return rows


def num_unused(table: pa.Table) -> int:
    """How many images are too small or damaged."""
    return sum(reason.count for reason in rejections.count(table, "small", "bad").values())


def _listing(folder: Location, config: HarvestConfig, window_px: int) -> pa.Table:
    """Every image at the location, or the seeded choice of them, in a stable order."""
    source = sources.find(
        config.images,
        stimulus_px=window_px,
        max_stimuli=config.max_stimuli,
        image_key=config.image_key,
        tick=_count_aloud("files found"),
    )
    table, notes = sources.joined(source, _scan_all(folder, source.containers), config.image_key)
    for note in notes:
        console.say(note)
    sources.refuse_empty(table, config.images)
    return table.take(sources.choose(len(table), config.max_images, config.seed))


def _scan_all(folder: Location, files: tuple[File, ...]) -> list[pa.Table]:
    """The listing of each archive, Parquet file or list."""
    if not files:
        return []
    tables: dict[File, pa.Table] = {}
    with console.progress("scan", len(files), "files") as meter:
        for attempt in range(1, ATTEMPTS + 1):
            left = [file for file in files if file not in tables]
            _pause(attempt if left else 1)
            for file, outcome in _outlived(lambda f: scan_task.remote(folder, f), left):
                if isinstance(outcome, pa.Table):
                    tables[file] = outcome
                elif outcome is None:
                    tables[file] = resumable_index.deadly_file(file)
                elif attempt == ATTEMPTS:
                    tables[file] = resumable_index.unreadable(file, outcome)
                meter.set(len(tables))
    return [tables[file] for file in files]


def _look_at_all(folder: Location, config: HarvestConfig, listing: pa.Table, settings: InspectionSettings) -> int:
    """Look at every image; the number of parts. What cannot be fetched is tried again when all others are done."""
    places = resumable_index.parts(len(listing))
    reports: dict[int, PartReport] = {}
    with console.progress("index", len(listing), "images") as meter:

        def submit(part: int) -> ray.ObjectRef[Any]:
            return look_task.remote(folder, part, _listed(listing, places[part]), settings)

        left: list[int] = list(range(len(places)))
        for attempt in range(1, ATTEMPTS + 1):
            _pause(attempt if left else 1)
            for part, report in _outlived(submit, left):
                reports[part] = report or _without_deadly(folder, part, _listed(listing, places[part]), settings)
                bad = _bad(reports.values())
                _refuse_too_many(bad, len(listing), config)
                meter.set(sum(r.num_images for r in reports.values()), note=_note(bad))
            left = [part for part in left if reports[part].num_unread]
    return len(places)


def _listed(listing: pa.Table, rows: range) -> list[Listed]:
    return ref.listed_in(listing.slice(rows.start, len(rows)))


def _without_deadly(folder: Location, part: int, listed: list[Listed], settings: InspectionSettings) -> PartReport:
    """Find the images that end their worker, by halving, and look at the others.

    Raises:
        OSError: workers are lost over more of them than images can be the reason of, or over none in particular.
    """
    console.say(f"a worker was lost over {len(listed):,} images; looking for the one that crashes it")

    def outlives(places: range) -> bool:
        try:
            cluster.result(probe_task.remote(listed[places.start : places.stop], settings))
        except lost_workers.LOST:
            return False
        return True

    deadly = lost_workers.deadly(len(listed), outlives)
    (_, report), *_ = _outlived(lambda _: look_task.remote(folder, part, listed, settings, deadly), [part])
    if report is None:
        raise OSError(f"index: workers are lost over {len(listed):,} images together; free some memory, then go on")
    return report


@ray.remote(max_retries=0)
@warned.telling
def look_task(
    folder: Location,
    part: int,
    listed: list[Listed],
    settings: InspectionSettings,
    deadly: frozenset[int] = frozenset(),
) -> PartReport:
    """The next function in a task; Ray repeats none of these three, since what ends a worker may end the next."""
    return resumable_index.look_at_part(folder, part, listed, settings, deadly)


@ray.remote(max_retries=0)
@warned.telling
def probe_task(listed: list[Listed], settings: InspectionSettings) -> None:
    """Decode images whose error does not matter, to see whether the worker outlives them."""
    resumable_index.probe(listed, settings)


@ray.remote(max_retries=0)
@warned.telling
def scan_task(folder: Location, file: File) -> pa.Table | OSError:
    """The rows of an archive; an error of storage is returned, not raised."""
    try:
        return resumable_index.scan(folder, file)
    except OSError as error:
        return error


def _outlived(submit: Callable[[Any], ray.ObjectRef[Any]], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    return lost_workers.outlived(submit, items, in_flight=IN_FLIGHT)


def _bad(reports: Iterable[PartReport]) -> Reasons:
    return reduce(rejections.together, (report.bad for report in reports), {})


def _note(bad: Reasons) -> str:
    return f"{sum(reason.count for reason in bad.values()):,} bad" if bad else ""


def _refuse_too_many(bad: Reasons, num_images: int, config: HarvestConfig) -> None:
    rejections.refuse_too_many(bad, num_images=num_images, max_fraction=config.max_bad_fraction, images=config.images)


def _pause(attempt: int) -> None:
    if attempt > 1:
        time.sleep(lost_workers.PAUSE_S * (attempt - 1))


def _count_aloud(what: str) -> Callable[[int], None]:
    """A line every ten seconds, while nobody knows how much there is."""
    due = console.tell_every(console.LOG_EVERY_S)
    due()

    def tell(count: int) -> None:
        if due():
            console.say(f"list     {count:,} {what}")

    return tell
