"""The decoder of a stored crosscoder, some rows at a time: what is read takes memory, the rest stays on the disk.

Letters: n some rows of the weights, G group elements, C channels.
"""

import json
import os
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DECODER = "W_dec"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
LENGTH_BYTES = 8
"""Bytes of the number that a safetensors file begins with: the size of the JSON that says what lies where."""


class StoredDecoder:
    """An open file, of which reads are plain ones: pages of a mapping would count as memory of the process."""

    def __init__(self, path: Path) -> None:
        """KeyError or ValueError where it is no safetensors file with a decoder of floating point numbers."""
        self._path, self._file = path, os.open(path, os.O_RDONLY)  # which outlasts the name
        weakref.finalize(self, os.close, self._file)
        header_bytes = int.from_bytes(os.pread(self._file, LENGTH_BYTES, 0), "little")
        entry = json.loads(os.pread(self._file, header_bytes, LENGTH_BYTES))[DECODER]
        self._dtype = DTYPES[entry["dtype"]]
        self._start = LENGTH_BYTES + header_bytes + int(entry["data_offsets"][0])
        self.shape = (int(entry["shape"][0]), int(entry["shape"][1]), int(entry["shape"][2]))
        """(rows, G, C)"""

    def rows(self, numbers: NDArray[np.int64]) -> Tensor:
        """(n, G, C) of these rows, at least float32; what is not single precision is made so.

        Raises:
            OSError: the file ends too early.
        """
        _, order, channels = self.shape
        row_bytes = order * channels * self._dtype.itemsize
        content = bytearray(len(numbers) * row_bytes)
        for first, last in _runs(numbers):
            self._read(memoryview(content)[first * row_bytes : last * row_bytes], int(numbers[first]) * row_bytes)
        values = torch.frombuffer(content, dtype=self._dtype) if content else torch.empty(0)
        return values.view(len(numbers), order, channels).float()

    def _read(self, wanted: memoryview, offset: int) -> None:
        """Fill it with what stands from this offset in the decoder on."""
        while wanted:
            num_bytes = os.preadv(self._file, [wanted], self._start + offset)
            if not num_bytes:
                raise OSError(f"{self._path}: ends inside the decoder")
            wanted, offset = wanted[num_bytes:], offset + num_bytes


def _runs(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where consecutive numbers stand: one read each."""
    ends = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
    return [(first, last) for first, last in pairwise(ends) if first < last]
