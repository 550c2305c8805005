"""Activations that somebody else computed: read from their files, checked, and stored as a harvest would store them."""

from gc_core.ingest.config import IngestConfig, IngestError
from gc_core.ingest.plan import (
    BLOCK_ROWS,
    IngestPlan,
    create_store,
    is_ingested,
    manifest_table,
    plan_ingest,
    refuse_other_store,
    write_manifest,
)
from gc_core.ingest.shard import compute_shard, fault_of_source
from gc_core.ingest.source import Piece, Source, survey

__all__ = [
    "BLOCK_ROWS",
    "IngestConfig",
    "IngestError",
    "IngestPlan",
    "Piece",
    "Source",
    "compute_shard",
    "create_store",
    "fault_of_source",
    "is_ingested",
    "manifest_table",
    "plan_ingest",
    "refuse_other_store",
    "survey",
    "write_manifest",
]
