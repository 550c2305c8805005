"""The images of the benchmarks: built-in photographs as files of ImageNet's usual size."""

import io
from functools import cache

import numpy as np
from PIL import Image, ImageOps

from gc_core.images import decode
from gc_core.images.builtin import photographs, read

SIZE_PX = (500, 375)
QUALITY = 90


@cache
def jpegs() -> tuple[bytes, ...]:
    """Every built-in photograph as a JPEG file of 500 x 375 px."""
    files: list[bytes] = []
    for ref in photographs():
        pixels_CHW = decode(read(ref), max(SIZE_PX))
        image = Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0)))
        file = io.BytesIO()
        ImageOps.fit(image, SIZE_PX).save(file, "JPEG", quality=QUALITY)
        files.append(file.getvalue())
    return tuple(files)
