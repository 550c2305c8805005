"""The manifest: one row an image, looked at once, in resumable parts; and why images are not used."""

from gc_core.manifest.inspection import InspectionSettings, inspect
from gc_core.manifest.table import (
    RECORDS,
    SCHEMA,
    ImageRecord,
    build,
    complete,
    digest_of,
    fault_of_splits,
    held_out,
    held_out_of,
    load_if_of,
    load_table,
    mend_splits,
    records_in,
    records_table,
    refs_of,
    relocated,
    usable,
    write,
)

__all__ = [
    "RECORDS", "SCHEMA", "ImageRecord", "InspectionSettings", "build", "complete", "digest_of", "fault_of_splits",
    "held_out", "held_out_of", "inspect", "load_if_of", "load_table", "mend_splits", "records_in", "records_table",
    "refs_of", "relocated", "usable", "write",
]  # fmt: skip
