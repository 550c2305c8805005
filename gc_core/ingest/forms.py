"""Opening the files that activations come in, one function a format; nothing is unpickled, and only rows that are
asked for come into memory.

Letters: N rows.
"""

import atexit
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gc_core.ingest.config import IngestError
from gc_core.io import objects
from gc_core.io.damage import LIBRARY_ERRORS
from gc_core.io.location import Location

UNREADABLE = (*LIBRARY_ERRORS, SafetensorError)
KEPT_OPEN = 64
NUMPY_SUFFIX = ".npy"
LOCAL_HEADER = struct.Struct("<26xHH")
"""Header of a zip member: the lengths of its name and of its extra field, which end the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One array, of which rows can be read."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[int, int], NDArray[Any]]
    """Rows from, to: (n, ...)."""


Arrays = dict[str, Callable[[], Opened]]
"""What a file holds, by name; opened when asked for. The one array of a format without names has the name ''."""


def arrays_in(location: Location) -> Arrays:
    """What the file at a location holds.

    Raises:
        IngestError: it is damaged, or could run code when opened. OSError: it cannot be read.
    """
    return _arrays_in(location, objects.stat(*location.split()))


@lru_cache(maxsize=KEPT_OPEN)
def _arrays_in(location: Location, version: tuple[int, str]) -> Arrays:
    suffix = Path(location.name).suffix.lower()
    path = _local_file(location, version)
    try:
        return FORMATS[suffix](path)
    except IngestError:
        raise
    except UNREADABLE as error:
        raise refused(location, suffix, error) from None


def refused(location: Location, what: str, error: Exception) -> IngestError:
    """One line about a file that its library does not open."""
    said = " ".join(str(error).split())[:160] or type(error).__name__
    return IngestError(f"{location}: cannot be read as {what} ({said}); write it again, or name another form")


@lru_cache(maxsize=KEPT_OPEN)
def _local_file(location: Location, version: tuple[int, str]) -> Path:
    """The file, or for as long as this process lives a copy of the remote object; `version` tells the cache when it is
    out of date."""
    del version
    held = ExitStack()
    path = held.enter_context(objects.as_file(*location.split()))
    atexit.register(held.close)
    return path


def _npy(path: Path) -> Arrays:
    mapped_N = np.load(path, mmap_mode="r", allow_pickle=False)
    return {"": lambda: _of_numpy(mapped_N)}


def _npz(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(NUMPY_SUFFIX)]
    return {info.filename.removesuffix(NUMPY_SUFFIX): lambda info=info: _member(path, info) for info in members}


def _member(path: Path, info: zipfile.ZipInfo) -> Opened:
    """Mapped where it lies, or if it is compressed from an unpacked copy: rows in the middle have no place of their
    own."""
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as stream:
            stream.seek(info.header_offset)
            begin = info.header_offset + LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size)))
        return _of_numpy(_mapped(path, begin))
    return _of_numpy(_mapped(_unpacked(path, info), 0))


def _unpacked(path: Path, info: zipfile.ZipInfo) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="ingest-")
    atexit.register(folder.cleanup)
    if info.file_size > shutil.disk_usage(folder.name).free:
        raise ValueError(f"{info.filename} unpacks to {info.file_size / 1e9:.3g} GB, more than {folder.name} has free")
    copy = Path(folder.name) / "array"
    with zipfile.ZipFile(path) as archive, archive.open(info) as packed, copy.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 1 << 24)
    return copy


def _mapped(path: Path, begin: int) -> NDArray[Any]:
    """The array whose .npy header begins at a byte."""
    with path.open("rb") as stream:
        stream.seek(begin)
        version = np.lib.format.read_magic(stream)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[version[0]](stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which only pickle could read")
        return np.memmap(path, dtype, "r", stream.tell(), shape, "F" if fortran else "C")


def _of_numpy(array_N: NDArray[Any]) -> Opened:
    return Opened(shape=array_N.shape, dtype=str(array_N.dtype), read=lambda start, stop: np.array(array_N[start:stop]))


def _safetensors(path: Path) -> Arrays:
    opened = safe_open(path, framework="pt")
    return {name: lambda name=name: _slices(opened.get_slice(name)) for name in sorted(opened.keys())}


def _slices(part: Any) -> Opened:
    return Opened(
        shape=tuple(part.get_shape()),
        dtype=part.get_dtype().lower(),
        read=lambda start, stop: _numbers(part[start:stop]),
    )


def _torch(path: Path) -> Arrays:
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    by_name = loaded if isinstance(loaded, dict) else {"": loaded}
    tensors = {str(name): value for name, value in by_name.items() if isinstance(value, torch.Tensor)}
    return {name: lambda value=value: _of_tensor(value.detach()) for name, value in tensors.items()}


def _of_tensor(tensor_N: torch.Tensor) -> Opened:
    if tensor_N.layout != torch.strided or tensor_N.is_quantized:
        raise ValueError(f"a {tensor_N.layout} tensor found, expected a dense one")
    dtype = str(tensor_N.dtype).removeprefix("torch.")
    return Opened(
        shape=tuple(tensor_N.shape), dtype=dtype, read=lambda start, stop: _numbers(tensor_N[start:stop].contiguous())
    )


def _numbers(tensor_N: torch.Tensor) -> NDArray[Any]:
    """NumPy knows no bfloat16 and no 8-bit floats."""
    if tensor_N.is_floating_point() and tensor_N.dtype not in (torch.float16, torch.float32, torch.float64):
        return tensor_N.float().numpy()
    return tensor_N.numpy()


FORMATS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".pt": _torch,
    ".pth": _torch,
}
