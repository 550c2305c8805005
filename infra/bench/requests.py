"""Requests that each stage sends to object storage, counted between the jobs and a local S3 server.

    python -m infra.bench requests [--max-stimuli 600] [--shard-rows 128] [--json FILE]

Jobs run as a person starts them, on drawn stimuli; every request passes a proxy on loopback that counts heads and
changes nothing.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from infra import object_store
from infra.bench.results import write_results
from jobs.common import console
from jobs.common.options import cli

WRITES = ("PUT", "POST")
"""Methods that are billed as puts; listing is, too."""
CHUNK, LONGEST_LINE = 1 << 20, 1 << 13
FIRST_LINE = re.compile(rb"(?:GET|HEAD|PUT|POST|DELETE) /\S* HTTP/1\.1(?=\r\n)")


@dataclass(frozen=True, kw_only=True)
class RequestsBench:
    """Count requests of each stage."""

    max_stimuli: int = 600
    """Images, each one sample."""
    group: str = "D8"
    layer: str = "conv2"
    shard_rows: int = 128
    prototypes: int = 64
    steps: int = 150
    checkpoint_every: int = 50
    json: Path | None = None
    """Also write the figures there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRequests:
    """What one stage sent."""

    stage: str
    puts: int
    """PUT, POST and lists, which are billed alike."""
    gets: int
    """GET and HEAD."""
    deletes: int
    """Not billed."""


def main(args: list[str] | None = None) -> None:
    """Command line of `python -m infra.bench requests`."""
    with console.one_line_errors(remedy="Run the same command again."):
        options = cli(RequestsBench, prog="python -m infra.bench requests", args=args, description=__doc__)
        with tempfile.TemporaryDirectory() as folder, object_store.serve(Path(folder)) as server:
            rows = list(_measured(options, server))
        shown = [[row.stage, f"{row.puts:,}", f"{row.gets:,}", f"{row.deletes:,}"] for row in rows]
        console.table("requests", ["stage", "puts and lists", "gets and heads", "deletes"], shown)
        if options.json is not None:
            write_results(options.json, [row_of(row) for row in rows])


def row_of(row: StageRequests) -> dict[str, int | str]:
    """Figures of a stage, as JSON has them."""
    return {"stage": row.stage, "puts": row.puts, "gets": row.gets, "deletes": row.deletes}


def of(stage: str, requests: Counter[str]) -> StageRequests:
    """Requests by kind; a GET with a query that lists counts as a list."""
    return StageRequests(
        stage=stage,
        puts=sum(requests[each] for each in (*WRITES, "LIST")),
        gets=requests["GET"] + requests["HEAD"],
        deletes=requests["DELETE"],
    )


def kind_of(head: str) -> str:
    """`PUT`, `GET`, ... of a request's first line; `LIST` for what lists a bucket."""
    method, target, *_ = head.split(" ")
    return "LIST" if method == "GET" and "list-type=" in target else method


def _measured(options: RequestsBench, server: object_store.ObjectServer) -> Iterator[StageRequests]:
    run = f"s3://{object_store.BUCKET}/run"
    with counting(server.endpoint) as (endpoint, requests):
        environment = {**os.environ, **server.environment, "AWS_ENDPOINT_URL": endpoint}
        for stage, command in _commands(options, run).items():
            requests.clear()
            subprocess.run([sys.executable, "-m", *command], env=environment, check=True)
            yield of(stage, requests)


def _commands(options: RequestsBench, run: str) -> dict[str, list[str]]:
    harvest = ["jobs.harvest", "--images", "stimuli", "--out", run, "--group", options.group, "--layer", options.layer]
    harvest += ["--max-stimuli", str(options.max_stimuli), "--shard-rows", str(options.shard_rows)]
    train = ["jobs.train", "--run", run, "--name", "counted", "--prototypes", str(options.prototypes)]
    train += ["--k", "8", "--steps", str(options.steps), "--checkpoint-every", str(options.checkpoint_every)]
    train += ["--workers.num-workers", "1"]
    return {"harvest": harvest, "train": train, "analyse": ["jobs.analyse", "--run", run, "--name", "counted"]}


@contextlib.contextmanager
def counting(endpoint: str) -> Iterator[tuple[str, Counter[str]]]:
    """The endpoint of a proxy before an S3 server, and its counts by kind (`kind_of`), which may be cleared."""
    requests: Counter[str] = Counter()
    loop = asyncio.new_event_loop()
    upstream = urlsplit(endpoint)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection(upstream.hostname, upstream.port)
        await asyncio.gather(_copy(reader, there, requests), _copy(back, writer, Counter()))

    listener = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", requests
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: Counter[str]) -> None:
    """Pass on all that comes, until its end, and count the first lines of requests in it."""
    line = b""
    with contextlib.suppress(OSError):
        while part := await reader.read(CHUNK):
            requests.update(kind_of(found.decode("latin-1")) for found in FIRST_LINE.findall(line + part))
            line = (line + part)[-LONGEST_LINE:].rpartition(b"\n")[2]
            writer.write(part)
            await writer.drain()
    writer.close()
