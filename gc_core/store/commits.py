"""Commit records: a shard counts only when its record exists, and the record is written after the shard's data."""

import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gc_core.io import objects
from gc_core.io.json_objects import read_json, write_json, write_json_once
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.io.typed import record_of
from gc_core.store.layout import StoreError, Written

SQUARED_AT_ONCE = 16
"""Rows: their squares stay in a processor's cache."""
RECORD = r"(\d{8})\.json"
READ_THREADS = 16
"""Records are small and many: on object storage their reading is all waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A finished shard."""

    shard: int
    num_rows: int
    sha256: dict[str, str]
    """SHA-256 of each array's uncompressed bytes, by array."""
    object_bytes: dict[str, int]
    """Size of each array's stored object."""
    sum_squares: float
    """Sum of the squared activations."""
    config_hash: str
    attempt: str
    """Who wrote it."""


def read_commits(run: RunFolder) -> dict[int, Commit]:
    """Every record there is, by shard."""
    names = (re.fullmatch(RECORD, name) for name in objects.sizes(run.commits))
    shards = sorted(int(name[1]) for name in names if name)
    with ThreadPoolExecutor(READ_THREADS) as threads:
        return dict(zip(shards, threads.map(lambda shard: _read(run, shard), shards), strict=True))


def read_commit(run: RunFolder, shard: int) -> Commit | None:
    """A shard's record, if it has one."""
    try:
        return _read(run, shard)
    except FileNotFoundError:
        return None


def write_commit_once(run: RunFolder, commit: Commit) -> bool:
    """Write a record unless the shard has one; False if it had."""
    return write_json_once(run.commits, record_name(commit.shard), asdict(commit))


def replace_commit(run: RunFolder, commit: Commit) -> None:
    """Write a record over another whose data are lost."""
    write_json(run.commits, record_name(commit.shard), asdict(commit))


def discard_commit(run: RunFolder, shard: int) -> None:
    """Take a shard's record away, so that the next harvest computes the shard again."""
    objects.delete(run.commits, record_name(shard))


def commit_url(run: RunFolder, shard: int) -> Location:
    """Where a shard's record stands."""
    return run.commits / record_name(shard)


def record_name(shard: int) -> str:
    """Name of a shard's record, below the folder of records."""
    return f"{shard:08d}.json"


class Figures:
    """A record's SHA-256 of each array and sum of squared activations, which threads find while others wait."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], threads: Executor) -> None:
        self._arrays = dict(arrays)
        self._digests = {name: threads.submit(digest, array) for name, array in arrays.items()}
        acts_NGC = arrays["activations"]
        self._row_sums = [threads.submit(_squared, part) for part in _parts(acts_NGC)]

    def are_of(self, written: Mapping[str, Written]) -> bool:
        """Whether just these arrays were placed, not those of an earlier attempt."""
        return all(its.array is self._arrays[name] for name, its in written.items())

    def sha256(self) -> dict[str, str]:
        """SHA-256 of each array, by name."""
        return {name: future.result() for name, future in self._digests.items()}

    def sum_squares(self) -> float:
        """Sum of the squared activations, equal to the function `sum_squares`."""
        return float(np.concatenate([part.result() for part in self._row_sums]).sum())


def describe(shard: int, written: Mapping[str, Written], figures: Figures, config_hash: str, attempt: str) -> Commit:
    """The record of a shard whose objects stand there."""
    return Commit(
        shard=shard,
        num_rows=len(written["activations"].array),
        sum_squares=figures.sum_squares(),
        sha256=figures.sha256(),
        object_bytes={name: its.num_bytes for name, its in written.items()},
        config_hash=config_hash,
        attempt=attempt,
    )


def sum_squares(activations: NDArray[Any]) -> float:
    """Sum of squares of float16 numbers; the same on every machine."""
    return float(np.concatenate([_squared(part) for part in _parts(activations)]).sum())


def digest(array: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _parts(activations: NDArray[Any]) -> list[NDArray[Any]]:
    return [activations[row : row + SQUARED_AT_ONCE] for row in range(0, len(activations), SQUARED_AT_ONCE)]


def _squared(activations: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) sum of each row's squares."""
    wide_NF = torch.from_numpy(activations).reshape(len(activations), -1).float().numpy()  # NumPy is slow at this
    np.square(wide_NF, out=wide_NF)  # exact: 11 bits squared are 22 of 24
    return wide_NF.sum(1, dtype=np.float64)


def _read(run: RunFolder, shard: int) -> Commit:
    try:
        commit = record_of(Commit, read_json(run.commits, record_name(shard)), where=record_name(shard))
        if commit.shard != shard:
            raise ValueError(f"it belongs to shard {commit.shard}")
        return commit
    except ValueError as error:
        raise StoreError(
            f"{commit_url(run, shard)}: the commit record cannot be read ({error}); delete it,"
            f" then `python -m jobs.harvest --out {run.url}` with the same options writes it anew"
        ) from None
