"""What each part of writing a shard costs on one core: packing, checksum, hash, sum of squares, looking for infinities.

Letters: N rows, G group elements, C channels.
"""

import hashlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import google_crc32c
import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from gc_core.store import COMPRESSIONS
from gc_core.store.commits import sum_squares
from gc_core.store.compression import packed, unpack
from gc_core.store.reader import all_finite
from gc_core.store.shards import CHUNK_ROWS
from infra.bench.machine import device_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One part, on one core."""

    part: str
    mb_per_s: float
    """Unpacked megabytes of activations a second of processor time: others on the core do not count."""
    stored_share: float | None = None
    """Packed size as a share of the bytes in memory."""


def costs(acts_NGC: NDArray[np.float16], *, rounds: int) -> list[Cost]:
    """Cost of every part, medians of rounds."""
    torch.set_num_threads(1)
    chunks = [acts_NGC[first : first + CHUNK_ROWS] for first in range(0, len(acts_NGC), CHUNK_ROWS)]
    measured, out = [], np.empty_like(chunks[0])
    for compression in COMPRESSIONS[:-1]:
        stored = [memoryview(packed(compression, chunk)) for chunk in chunks]
        share = sum(len(each) for each in stored) / acts_NGC.nbytes
        pack = _rate(lambda of=compression: [packed(of, chunk) for chunk in chunks], acts_NGC.nbytes, rounds)
        undo = _rate(
            lambda of=compression, all_of=stored: [unpack(of, one, out) for one in all_of], acts_NGC.nbytes, rounds
        )
        measured += [Cost(part=f"pack, {compression}", mb_per_s=pack, stored_share=share)]
        measured += [Cost(part=f"unpack, {compression}", mb_per_s=undo)]
    raw = np.ascontiguousarray(acts_NGC).reshape(-1).view(np.uint8)
    parts: dict[str, Callable[[], object]] = {
        "CRC-32C, of what is stored": lambda: google_crc32c.value(raw),
        "SHA-256": lambda: hashlib.sha256(raw.data).digest(),
        "sum of squares": lambda: sum_squares(acts_NGC),
        "look for infinities": lambda: all_finite(acts_NGC),
    }
    return measured + [Cost(part=name, mb_per_s=_rate(work, raw.nbytes, rounds)) for name, work in parts.items()]


def table_of(parts: list[Cost]) -> Table:
    """One line a part."""
    table = Table(title=f"what writing a shard costs on one core, {device_name('cpu')}")
    for heading in ("", "MB/s of processor time", "ms a MB", "stored"):
        table.add_column(heading, justify="right" if heading else "left")
    for cost in parts:
        stored = "" if cost.stored_share is None else f"{cost.stored_share:.0%}"
        table.add_row(cost.part, f"{cost.mb_per_s:,.0f}", f"{1e3 / cost.mb_per_s:.2f}", stored)
    return table


def _rate(work: Callable[[], object], num_bytes: int, rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return num_bytes / 1e6 / statistics.median(taken)
