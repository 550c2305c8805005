"""Whole images for the rest of the network: the run's held-out ones or others, resized, cropped, with labels.

Letters: N images, H W pixels.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gc_core import images, manifest
from gc_core.evaluate.downstream import Batch
from gc_core.images import ImageError, ImageRef
from gc_core.images.moved import Move, option
from gc_core.io import objects
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store import MANIFEST, open_store

CROP_PX = 224
RESIZE_PX = 256
"""Shorter side before the crop; both as torchvision evaluates its classifiers."""
IMAGES_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Which images, and what they show where that is known."""

    refs: tuple[ImageRef, ...]
    labels: tuple[int, ...] | None = None
    """True classes, one an image."""

    def batches(self) -> Iterator[Batch]:
        """All images of at least 224 px, cropped in the middle; smaller and damaged ones are left out."""
        for first in range(0, len(self.refs), IMAGES_AT_ONCE):
            here = range(first, min(first + IMAGES_AT_ONCE, len(self.refs)))
            crops = {place: crop for place in here if (crop := _cropped(self.refs[place])) is not None}
            if crops:
                labels = None if self.labels is None else torch.tensor([self.labels[place] for place in crops])
                yield Batch(torch.from_numpy(np.stack(list(crops.values()))).float(), labels)


def held_out_images(run: RunFolder, moves: Sequence[Move] = ()) -> list[ImageRef]:
    """The images of the run that are kept for validation, where they are now."""
    sha256 = open_store(run, unfinished=True).attrs.get(MANIFEST)
    table = manifest.relocated(manifest.load_table(run.manifest, sha256=sha256), moves)
    held = manifest.held_out(table)
    return [ref for ref, kept in zip(manifest.refs_of(table), held, strict=True) if kept]


def choose_images(
    run: RunFolder,
    *,
    location: str | None = None,
    labels: str | None = None,
    at_most: int | None = None,
    moves: Sequence[Move] = (),
) -> Images:
    """The run's held-out images, or those at a location; the first `at_most` of them; labels from a text file.

    Raises:
        ValueError: there are no images, or the label file is not one or misses an image.
    """
    if location is None:
        refs = held_out_images(run, moves)
    else:
        refs = images.list_images(location, stimulus_px=RESIZE_PX, max_stimuli=at_most or 600)
    refs = refs[:at_most]
    if labels is None:
        return Images(refs=tuple(refs))
    return Images(refs=tuple(refs), labels=_labels_of(refs, _read_labels(labels), labels))


def _cropped(ref: ImageRef) -> np.ndarray | None:
    try:
        pixels_3HW = images.load(ref, RESIZE_PX)
    except ImageError:
        return None
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; if the images have moved, say where to: {option(ref)}") from None
    _, height, width = pixels_3HW.shape
    if min(height, width) < CROP_PX:
        return None
    top, left = (height - CROP_PX) // 2, (width - CROP_PX) // 2
    return pixels_3HW[:, top : top + CROP_PX, left : left + CROP_PX]


def _read_labels(location: str) -> Mapping[str, int]:
    """Lines `NAME CLASS`, separated by a blank, a tab or a comma; NAME is an image's file or member name."""
    lines = objects.read(*Location.parse(location).split()).decode().splitlines()
    return dict(_label(line, f"{location}: line {number}") for number, line in enumerate(lines, 1) if line.strip())


def _label(line: str, where: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.+?)[\s,]+(\d+)", line.strip())
    if not match:
        expected = "expected an image's name and its class as a number, such as `dog.jpg 207`"
        raise ValueError(f"{where}: found {line!r}, {expected}")
    return match[1], int(match[2])


def _labels_of(refs: Sequence[ImageRef], known: Mapping[str, int], location: str) -> tuple[int, ...]:
    missing = [ref.name for ref in refs if ref.name not in known]
    if missing:
        said = f"{location}: no class found for {missing[0]} (and {len(missing) - 1} more), expected one an image"
        raise ValueError(f"{said}; complete the file, or leave --labels out")
    return tuple(known[ref.name] for ref in refs)
