"""The same images in every form that a run can read them from."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Images = Mapping[str, bytes]
"""Encoded images by name."""


def png(grey: int, side_px: int = 8) -> bytes:
    """An even grey square."""
    return encoded(np.full((side_px, side_px), grey, np.uint8))


def encoded(pixels: np.ndarray, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def as_folder(folder: Path, images: Images) -> Path:
    for name, content in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def as_tar(path: Path, images: Images, *, format: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in images.items():
            add(archive, name, content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def as_parquet(path: Path, images: Images, *, rows_per_group: int = 3) -> Path:
    """As Hugging Face's data sets store them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = [{"bytes": content, "path": name} for name, content in images.items()]
    write_parquet(path, {"image": column, "label": list(range(len(column)))}, rows_per_group)
    return path


def write_parquet(path: Path, columns: Mapping[str, object], rows_per_group: int = 3) -> None:
    pq.write_table(pa.table(dict(columns)), path, row_group_size=rows_per_group)


def as_zip(path: Path, images: Images) -> Path:
    """Stored and deflated members in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for place, (name, content) in enumerate(images.items()):
            archive.writestr(name, content, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED][place % 2])
    return path


def as_arrow(path: Path, images: Images, *, rows_per_batch: int = 3) -> Path:
    """As Hugging Face's `save_to_disk` stores them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [{"bytes": content, "path": name} for name, content in images.items()]})
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=rows_per_batch)
    return path
