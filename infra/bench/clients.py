"""obstore next to s3fs on the same bucket: rates and processor time of plain objects, as many at a time.

    python -m infra.bench clients --url s3://bucket/prefix

Why the project reads and writes by obstore. s3fs is needed for this comparison only.
"""

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import s3fs
from rich.table import Table

from gc_core.io import objects
from gc_core.io.location import Location
from jobs.common import console
from jobs.common.options import cli

THREADS = 4
OBJECT_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class ClientsBench:
    """Measure two clients of object storage."""

    url: str
    """An s3:// URL to write below; nothing is left there."""
    num_objects: int = 8
    """Number of objects, of 32 MiB each."""
    rounds: int = 3


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench clients`."""
    with console.one_line_errors(remedy="Objects below clients-* may be left."):
        options = cli(ClientsBench, prog="python -m infra.bench clients", args=args, description=__doc__)
        folder = Location.parse(options.url) / f"clients-{os.getpid()}"
        rounds = [measure(folder, options.num_objects) for _ in range(options.rounds)]
        table = Table("client", "", "MB/s", "processor s/GB", title=f"plain objects on {folder}")
        for client, what in rounds[0]:
            rate, cpu = (statistics.median(figures[client, what][i] for figures in rounds) for i in range(2))
            table.add_row(client, what, f"{rate:.0f}", f"{cpu:.2f}")
        console.console.print(table)


def measure(folder: Location, count: int) -> dict[tuple[str, str], tuple[float, float]]:
    """(MB/s, processor seconds a GB) by client and direction."""
    content, names = np.random.default_rng(0).bytes(OBJECT_BYTES), [str(number) for number in range(count)]
    other = s3fs.S3FileSystem(endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))
    below = folder.without_scheme
    ways: dict[tuple[str, str], Callable[[str], object]] = {
        ("obstore", "write"): lambda name: objects.write(folder, name, content),
        ("s3fs", "write"): lambda name: other.pipe_file(f"{below}/s3fs-{name}", content),
        ("obstore", "read"): lambda name: objects.read(folder, name),
        ("s3fs", "read"): lambda name: other.cat_file(f"{below}/s3fs-{name}"),
    }
    figures: dict[tuple[str, str], tuple[float, float]] = {}
    try:
        for way, work in ways.items():
            figures[way] = _timed(work, names)
    finally:
        objects.delete_named(folder, r"(s3fs-)?\d+")
    return figures


def _timed(work: Callable[[str], object], names: list[str]) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, names))
    megabytes = len(names) * OBJECT_BYTES / 1e6
    return megabytes / (time.perf_counter() - start), (time.process_time() - cpu) / megabytes * 1e3
