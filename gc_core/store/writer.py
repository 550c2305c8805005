"""Making the store: empty arrays, shards and their records, and the mean that ends it."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gc_core.io import objects
from gc_core.io.artefacts import sealed
from gc_core.io.json_objects import json_bytes, read_json
from gc_core.io.run_folder import RunFolder
from gc_core.store.commits import (
    Commit,
    Figures,
    describe,
    read_commit,
    read_commits,
    replace_commit,
    write_commit_once,
)
from gc_core.store.layout import (
    ARRAYS,
    MANIFEST,
    MEAN,
    ShardArrays,
    StoreError,
    StoreSpec,
    attributes,
    make_arrays,
    make_group,
    refuse_other_manifest,
    stored_bytes,
    to_repair,
)
from gc_core.store.reader import Store, open_store
from gc_core.store.shard_codec import encode
from gc_core.store.write_once import check_still_there, create_once

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Threads that pack and check one shard's chunks."""

_MAY_DIFFER = {MEAN, "config", "config_hash", "code_version", MANIFEST}
"""Attributes that may change under one store, or are compared field by field."""


REQUESTS_A_SHARD = 13
"""Requests of `write_shard` to object storage, as a test counts: four are put, the rest look before and after."""


def raw_bytes(num_rows: int, order: int, channels: int) -> int:
    """What so many rows take before compression."""
    return num_rows * (order * channels * 2 + 8 + 2 * 4)


def create(run: RunFolder, spec: StoreSpec) -> None:
    """Make the group and its empty arrays, once, before any worker writes. A store of the same config is kept.

    Raises:
        StoreError: a store of another configuration stands there; the differences are listed.
    """
    if not _refuse_another_config(run, spec.attributes):
        make_group(run, spec.attributes)
        _refuse_another_config(run, spec.attributes)  # somebody else's, who was faster
    make_arrays(run, spec)
    open_store(run, unfinished=True)


def refuse_other(run: RunFolder, spec: StoreSpec) -> None:
    """Raise what `create` would raise where another store stands; change nothing."""
    _refuse_another_config(run, spec.attributes)


def write_shard(run: RunFolder, shard: int, arrays: ShardArrays, *, attempt: str) -> Commit:
    """Place one whole shard, then its commit record. A shard that another attempt finished is left alone.

    Objects are created, never written over: of attempts that compute other bytes (on another device, say) the first
    one's stay, and the record describes what stays.

    Raises:
        StoreError: the arrays are not exactly the shard's rows, or hold values that are not finite.
        UnavailableError: another attempt at the shard is in the way just now; a later one will find it done.
    """
    store = open_store(run, unfinished=True)
    store.check_arrays(shard, arrays)
    known = read_commit(run, shard)
    if known is not None and store.fault_of(shard, known, stored_bytes(run, shard)) is None:
        return known
    given = {name: getattr(arrays, name) for name in ARRAYS}
    with ThreadPoolExecutor(THREADS) as threads:
        contents = {name: encode(store.form(name), array, threads) for name, array in given.items()}
        figures = Figures(given, threads)  # found while the objects travel
        written = {name: create_once(store, shard, name, given[name], contents[name], threads) for name in ARRAYS}
        if not figures.are_of(written):
            figures = Figures({name: its.array for name, its in written.items()}, threads)
        commit = describe(shard, written, figures, store.attrs["config_hash"], attempt)
    check_still_there(run, shard, written)
    if known is not None:
        replace_commit(run, commit)
    elif not write_commit_once(run, commit):
        return read_commit(run, shard) or commit
    return commit


def finished_commits(run: RunFolder) -> dict[int, Commit]:
    """The finished shards: those with a record of this store's configuration whose objects are there in full size."""
    if attributes(run) is None:
        return {}
    store, stored = open_store(run, unfinished=True), objects.sizes(run.activations)
    return {shard: commit for shard, commit in read_commits(run).items() if not store.fault_of(shard, commit, stored)}


def finish(run: RunFolder) -> float:
    """Store and return the mean squared block norm, once all shards are committed.

    Raises:
        StoreError: a shard is missing or damaged.
    """
    store = open_store(run, unfinished=True)
    mean = _mean_of_records(store)
    if store.attrs[MEAN] != mean:
        record = read_json(run.activations, "zarr.json") | {"attributes": sealed({**store.attrs, MEAN: mean})}
        objects.write(run.activations, "zarr.json", json_bytes(record))
    return mean


def fault_of_mean(run: RunFolder) -> str | None:
    """Whether the mean is what the shards' records say, which `Store.verify` compares with the shards; None if it is.

    Raises:
        StoreError: a shard is missing or damaged.
    """
    store = open_store(run, unfinished=True)
    found, expected = store.attrs[MEAN], _mean_of_records(store)
    if found is None or math.isclose(found, expected, rel_tol=1e-12):
        return None
    said = f"{MEAN} {found:.6g} found, the shards say {expected:.6g}"
    return f"{run.activations / 'zarr.json'}: {said}. {to_repair(run)}"


def _mean_of_records(store: Store) -> float:
    done = store.check_complete()
    total = sum(done[shard].sum_squares for shard in sorted(done))  # in shard order, so that every run rounds alike
    return total / (store.num_rows * store.group.order)


def _refuse_another_config(run: RunFolder, wanted: dict[str, Any]) -> bool:
    """Whether a store stands there. What may differ are options, and what they led to: a weights file of the same name
    may hold other weights."""
    if (existing := attributes(run)) is None:
        return False
    theirs, mine = (
        {
            "compression": "zstd",  # what a config leaves out
            **{name: value for name, value in attrs.items() if name not in _MAY_DIFFER},
            **attrs.get("config", {}),
        }
        for attrs in (existing, wanted)
    )
    refuse_other_manifest(run, existing, wanted.get(MANIFEST))
    names = [name for name in sorted(theirs.keys() | mine.keys()) if theirs.get(name) != mine.get(name)]
    if names or existing.get("config_hash") != wanted.get("config_hash"):
        changed = "; ".join(f"{name} {theirs.get(name)!r} -> {mine.get(name)!r}" for name in names)
        found = f"{run.url}: was harvested with other options ({changed})"
        raise StoreError(f"{found}; choose another --out, or the same options")
    return True
