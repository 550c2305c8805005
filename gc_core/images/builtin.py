"""Images that are always at hand: photographs inside installed packages, and drawn stimuli."""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gc_core.images import catalogue, stimuli
from gc_core.images.ref import ImageRef

BUILTIN, STIMULI, ALL_STIMULI = "builtin:", "stimuli:", "all-stimuli:"
"""How their urls begin."""

_PHOTOGRAPHS = {
    "skimage": "astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png "
    "hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png retina.jpg rocket.jpg",
    "sklearn": "china.jpg flower.jpg",
}
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


def photographs() -> list[ImageRef]:
    """The photographs of scikit-image and scikit-learn that show scenes, not test patterns."""
    named = [(package, name) for package, names in _PHOTOGRAPHS.items() for name in names.split()]
    return [ImageRef(url=f"{BUILTIN}{package}", member=name) for package, name in named]


def drawn_stimuli(count: int, side_px: int, scheme: str = STIMULI) -> list[ImageRef]:
    """`count` stimuli of this side: of five kinds, or of all of them (ALL_STIMULI)."""
    names = catalogue.names(count) if scheme == ALL_STIMULI else stimuli.names(count)
    return [ImageRef(url=f"{scheme}{side_px}", member=name) for name in names]


def is_drawn(ref: ImageRef) -> bool:
    """Whether the name of an image is all there is of it."""
    return ref.url.startswith((STIMULI, ALL_STIMULI))


def draw(ref: ImageRef) -> NDArray[np.uint8]:
    """RGB pixels (3, H, W) of a drawn image."""
    scheme, _, side_px = ref.url.partition(":")
    drawing = catalogue.draw if f"{scheme}:" == ALL_STIMULI else stimuli.draw
    return drawing(ref.member, int(side_px))


def read(ref: ImageRef) -> bytes:
    """The bytes of a packaged photograph."""
    package = ref.url.removeprefix(BUILTIN)
    return (_folder_of(package) / _FOLDERS[package] / ref.member).read_bytes()


def _folder_of(package: str) -> Path:
    """Where a package is installed, without importing it: scikit-learn takes seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"builtin images: package {package} is not installed")
    return Path(spec.origin).parent
