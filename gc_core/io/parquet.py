"""Tables as the bytes of a Parquet file, whose pages carry checksums."""

import io

import pyarrow as pa
import pyarrow.parquet as pq


def to_bytes(table: pa.Table) -> bytes:
    """A Parquet file of the table, metadata of its schema included."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def parse(content: bytes) -> pa.Table:
    """The table of a Parquet file.

    Raises:
        pa.ArrowException, OSError: it is none, or a page's checksum is wrong.
    """
    return pq.read_table(io.BytesIO(content), page_checksum_verification=True)
