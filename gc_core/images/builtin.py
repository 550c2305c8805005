"""Images that are always at hand: photographs inside installed packages, and drawn stimuli."""

import importlib.util
from pathlib import Path

from gc_core.images import stimuli
from gc_core.images.ref import ImageRef

BUILTIN, STIMULI = "builtin:", "stimuli:"
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


def drawn_stimuli(count: int, side_px: int) -> list[ImageRef]:
    """`count` stimuli of this side."""
    return [ImageRef(url=f"{STIMULI}{side_px}", member=name) for name in stimuli.names(count)]


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
