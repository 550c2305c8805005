"""Speed of the activation store, next to a plain copy of the same activations by the same client, and what each part
of writing costs.

    python -m infra.bench store [--url s3://bucket/prefix] [--json FILE]

MB are megabytes of activations as they are in memory, in every row. The plain copy writes them as one raw object a
shard, and reads those back; the store packs (zstd to about 59% for these numbers), checksums, checks, commits. Both
write from as many threads, and both begin to read with nothing in the file cache (local disks; writing ends when the
disk has the bytes). Phases take turns for three rounds; rates and ratios are medians. In order is a pass from the
first row to the last, shuffled are as many rows of a training worker's stream. The injected latency is a pause before
every request; what bandwidth allows is then the plain copy's rate with the same pause and as many requests at a time.
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from gc_core import groups, store, stream
from gc_core.config import Compression
from gc_core.io import objects
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store import ShardArrays
from gc_core.stream import reader
from infra.bench.machine import device_name, load_average
from infra.bench.results import write_results
from infra.bench.store_costs import Cost, costs, table_of
from infra.bench.verdict import verdict
from jobs.common import console
from jobs.common.options import cli

GROUP, CHANNELS, SHARD_ROWS = groups.dihedral(32), 480, 1024
ROW_BYTES = GROUP.order * CHANNELS * 2
WRITERS = 2
"""Shards that a worker writes at a time, at most one of them ours; the plain copy gets as many."""
BATCH, LANES, BUFFER_ROWS = 256, 8, 2048
LEAST_SHARDS = 4
"""Fewer rows would be dealt to lanes in parts of chunks, and chunks read more than once."""
LATENCY_S = 0.03
LEAST_WRITE, LEAST_STREAM, MOST_SHUFFLING, LEAST_LATENCY = 0.7, 0.8, 0.1, 0.8
PHASES = {
    "plain_write": "plain copy, write",
    "store_write": "store, write (zstd)",
    "store_write_lz4": "store, write (lz4)",
    "store_write_none": "store, write (none)",
    "plain_read": "plain copy, read",
    "stream_read": "store, read in order (zstd)",
    "stream_read_lz4": "store, read in order (lz4)",
    "stream_read_none": "store, read in order (none)",
    "shuffled_read": "store, read shuffled",
    "latency_limit": "plain copy, read with 30 ms a request",
    "latency_read": "store, read shuffled with 30 ms a request",
}


@dataclass(frozen=True, kw_only=True)
class StoreBench:
    """Measure the store."""

    url: str | None = None
    """Where to write: a path or s3:// URL, left as it was found; None for a temporary folder."""
    megabytes: int = 500
    """Activations to write and read in a phase."""
    rounds: int = 3
    json: Path | None = None
    """Write the results here, as one flat object."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench store`."""
    with console.one_line_errors(remedy="Objects below bench-* may be left."), tempfile.TemporaryDirectory() as folder:
        options = cli(StoreBench, prog="python -m infra.bench store", args=args, description=__doc__)
        where = Location.parse(options.url or folder)
        shards = max(LEAST_SHARDS, round(options.megabytes * 1e6 / ROW_BYTES / SHARD_ROWS))
        rounds: list[dict[str, float]] = []
        for number in range(options.rounds):
            console.say(f"round {number + 1} of {options.rounds}, {shards} shards of {SHARD_ROWS} samples")
            rounds.append(measure(where / f"bench-{os.getpid()}-{number}", shards))
        parts = costs(activations(SHARD_ROWS), rounds=options.rounds)
        if options.json is not None:
            write_results(options.json, as_json(rounds, where, parts))
        show(rounds, where, parts)


def measure(folder: Location, num_shards: int) -> dict[str, float]:
    """MB a second of every phase, once; nothing is left in the folder."""
    acts_NGC = activations(SHARD_ROWS)
    runs: dict[Compression, RunFolder] = {name: RunFolder(folder / f"run-{name}") for name in store.COMPRESSIONS}
    run, plain, num_rows = runs["zstd"], folder / "plain", num_shards * SHARD_ROWS
    order = stream.lane_order(np.arange(num_rows), num_lanes=LANES, buffer_rows=BUFFER_ROWS, seed=0)
    megabytes = num_rows * ROW_BYTES / 1e6
    phases: dict[str, Callable[[], float]] = {
        "plain_write": lambda: megabytes / _seconds(lambda: _plain_write(plain, acts_NGC, num_shards)),
        "plain_read": lambda: megabytes / _seconds(lambda: _plain_read(plain)),
        "shuffled_read": lambda: _shuffled_mb_per_s(run, order, num_rows),
    }
    for name, its in runs.items():
        ending = "" if name == "zstd" else f"_{name}"
        phases[f"store_write{ending}"] = lambda its=its, name=name: (
            megabytes / _seconds(lambda: _store_write(its, acts_NGC, num_shards, name))
        )
        phases[f"stream_read{ending}"] = lambda its=its: (
            megabytes / _seconds(lambda: _drain(stream.in_order(_opened(its), range(num_rows))))
        )
    phases["latency_limit"], phases["latency_read"] = phases["plain_read"], phases["shuffled_read"]
    figures: dict[str, float] = {}
    try:
        for name, phase in ((name, phases[name]) for name in PHASES):
            with _delayed(LATENCY_S) if name.startswith("latency") else contextlib.nullcontext():
                figures[name] = phase()
            _to_disk(folder)
    finally:
        objects.delete_named(folder, r"(run-\w+|plain)/.*")
    return figures


def activations(num_rows: int) -> NDArray[np.float16]:
    """(N, G, C) numbers of which half are zero, as after a ReLU: they compress no better than real ones."""
    return np.maximum(np.random.default_rng(0).normal(size=(num_rows, GROUP.order, CHANNELS)), 0).astype(np.float16)


def as_json(rounds: list[dict[str, float]], folder: Location, parts: list[Cost]) -> dict[str, Any]:
    """One flat object, for machines."""
    where = "local disk" if folder.is_local else "s3"
    rates = {f"{name}_mb_per_s": statistics.median(figures[name] for figures in rounds) for name in PHASES}
    each = {f"{cost.part}, MB/s a core": cost.mb_per_s for cost in parts}
    return {"device": device_name("cpu"), "load": load_average(), "where": where, **rates, **each}


def show(rounds: list[dict[str, float]], folder: Location, parts: list[Cost]) -> None:
    """The table and, line by line, what was to be reached and was."""
    console.console.print(table_of(parts))
    table = Table(title=f"activation store on {folder}, {device_name('cpu')}, load {load_average():.1f}")
    for heading in ("", "MB/s", "of the plain copy", "over rounds"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, title in PHASES.items():
        rate = statistics.median(figures[name] for figures in rounds)
        shares = [figures[name] / figures[_plain(name)] for figures in rounds]
        spread = f"{min(shares):.0%} to {max(shares):.0%}"
        table.add_row(title, f"{rate:.0f}", f"{_ratio(rounds, name, _plain(name)):.0%}", spread)
    console.console.print(table)
    for line in verdicts(rounds):
        console.console.print(line)


def verdicts(rounds: list[dict[str, float]]) -> list[str]:
    """What was to be reached, and whether it was."""
    read = _ratio(rounds, "stream_read", "plain_read")
    cost = 1 - _ratio(rounds, "shuffled_read", "stream_read")
    latency = _ratio(rounds, "latency_read", "latency_limit")
    return [
        *(_verdict_of_writing(rounds, name) for name in PHASES if name.startswith("store_write")),
        verdict(read >= LEAST_STREAM, f"reading at {read:.0%} of the plain copy, wanted {LEAST_STREAM:.0%}"),
        verdict(cost <= MOST_SHUFFLING, f"shuffling costs {cost:.0%}, wanted at most {MOST_SHUFFLING:.0%}"),
        verdict(
            latency >= LEAST_LATENCY,
            f"with {LATENCY_S * 1e3:.0f} ms a request at {latency:.0%} of what bandwidth allows,"
            f" wanted {LEAST_LATENCY:.0%}",
        ),
    ]


def _verdict_of_writing(rounds: list[dict[str, float]], name: str) -> str:
    share = _ratio(rounds, name, "plain_write")
    return verdict(share >= LEAST_WRITE, f"{PHASES[name]}: {share:.0%} of the plain copy, wanted {LEAST_WRITE:.0%}")


def _ratio(rounds: list[dict[str, float]], name: str, other: str) -> float:
    return statistics.median(figures[name] / figures[other] for figures in rounds)


def _plain(name: str) -> str:
    if name.startswith("latency"):
        return "latency_limit"
    return "plain_write" if "_write" in name else "plain_read"


def _plain_write(folder: Location, acts_NGC: NDArray[np.float16], num_shards: int) -> None:
    raw = acts_NGC.tobytes()
    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(lambda shard: objects.write(folder, str(shard), raw), range(num_shards)))
    _to_disk(folder)


def _store_write(run: RunFolder, acts_NGC: NDArray[np.float16], num_shards: int, compression: Compression) -> None:
    store.create(
        run,
        store.StoreSpec(
            num_rows=num_shards * SHARD_ROWS,
            shard_rows=SHARD_ROWS,
            channels=CHANNELS,
            group=GROUP,
            attrs={"config": {}, "config_hash": "benchmark"},
            compression=compression,
        ),
    )
    arrays = ShardArrays(
        activations=acts_NGC, image=np.arange(SHARD_ROWS), centre_yx=np.zeros((SHARD_ROWS, 2), np.int32)
    )
    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(lambda shard: store.write_shard(run, shard, arrays, attempt="bench"), range(num_shards)))
    store.finish(run)
    _to_disk(run.location)


def _plain_read(folder: Location) -> None:
    with ThreadPoolExecutor(reader.THREADS) as threads:
        list(threads.map(lambda name: len(objects.read(folder, name)), objects.sizes(folder)))


def _opened(run: RunFolder) -> store.Store:
    return store.open_store(run)


def _shuffled_mb_per_s(run: RunFolder, order: stream.LaneOrder, num_rows: int) -> float:
    """Speed of a stream under way: what is read ahead when the clock starts is read ahead again when it stops."""
    batches = stream.batches(
        _opened(run),
        order,
        lanes=range(LANES),
        rows_per_lane=BATCH // LANES,
        first_step=0,
        blocks=np.arange(GROUP.order),
    )
    with contextlib.closing(batches):
        next(batches)
        num_batches = max(1, num_rows // BATCH)
        return num_batches * BATCH * ROW_BYTES / 1e6 / _seconds(lambda: _drain(islice(batches, num_batches)))


def _drain(parts: Iterator[NDArray[np.float16]]) -> None:
    for _ in parts:
        pass


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _to_disk(folder: Location) -> None:
    """Wait until a local disk has the bytes, and drop them from memory; nothing on object storage."""
    if not folder.is_local:
        return
    for path in folder.local_path.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


@contextlib.contextmanager
def _delayed(seconds: float) -> Iterator[None]:
    """A pause before every request of this process: each begins by asking for its client."""
    undelayed = objects.client_and_key

    def waited(location: Location, name: str, *, create: bool = False) -> Any:
        time.sleep(seconds)
        return undelayed(location, name, create=create)

    objects.client_and_key = waited
    try:
        yield
    finally:
        objects.client_and_key = undelayed
