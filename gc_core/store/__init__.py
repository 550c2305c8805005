"""The activation store: one Zarr v3 group, one object a shard and array, a commit record for every finished shard."""

from gc_core.store.commits import Commit, digest, discard_commit
from gc_core.store.compression import COMPRESSIONS, SAVED
from gc_core.store.disk_cache import DiskCache
from gc_core.store.layout import (
    ARRAYS,
    FORMAT_VERSION,
    HELD_OUT_LAST,
    INGESTED,
    MANIFEST,
    MIXED,
    ShardArrays,
    StoreError,
    StoreSpec,
    format_version_of,
    version_of,
)
from gc_core.store.reader import Store, open, open_store
from gc_core.store.write_once import ROUNDING
from gc_core.store.writer import (
    REQUESTS_A_SHARD,
    create,
    fault_of_mean,
    finish,
    finished_commits,
    raw_bytes,
    refuse_other,
    write_shard,
)

__all__ = [
    "ARRAYS",
    "COMPRESSIONS",
    "FORMAT_VERSION",
    "HELD_OUT_LAST",
    "INGESTED",
    "MANIFEST",
    "MIXED",
    "REQUESTS_A_SHARD",
    "ROUNDING",
    "SAVED",
    "Commit",
    "DiskCache",
    "ShardArrays",
    "Store",
    "StoreError",
    "StoreSpec",
    "create",
    "digest",
    "discard_commit",
    "fault_of_mean",
    "finish",
    "finished_commits",
    "format_version_of",
    "open",
    "open_store",
    "raw_bytes",
    "refuse_other",
    "version_of",
    "write_shard",
]
