"""Where pictures come from: folders, photographs inside installed packages, drawn stimuli."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gc_core import objects
from gc_core.images import stimuli
from gc_core.images.decode import decode

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

_BUILTIN, _STIMULI = "builtin:", "stimuli:"
_PHOTOGRAPHS = {
    "skimage": "astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png "
    "hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png retina.jpg rocket.jpg",
    "sklearn": "china.jpg flower.jpg",
}
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """How to find one picture again, from any machine."""

    url: str
    """A file, `builtin:PACKAGE`, or `stimuli:SIDE` (drawn SIDE pixels wide)."""
    member: str
    """Name inside the url; empty for a plain file."""
    offset: int = 0
    """First byte inside the file."""
    size: int = -1
    """Length in bytes; -1 for all there is."""

    @property
    def name(self) -> str:
        """What a person would call it."""
        return self.member or objects.split(self.url)[1]


def list_images(location: str, *, stimulus_px: int, max_stimuli: int) -> list[ImageRef]:
    """The pictures of a source, in a stable order: a folder by name, built-in photographs, then stimuli.

    Raises:
        ValueError: the folder does not exist or holds no pictures.
    """
    drawn = [ImageRef(url=f"{_STIMULI}{stimulus_px}", member=name) for name in stimuli.names(max_stimuli)]
    sources = {"builtin": [*_packaged(), *drawn], "photographs": _packaged(), "stimuli": drawn}
    return sources[location] if location in sources else _list_folder(location)


def some_images(refs: list[ImageRef], at_most: int | None, seed: int) -> list[ImageRef]:
    """All of the pictures, or a seeded choice of them, in the order given."""
    if at_most is None or at_most >= len(refs):
        return refs
    return [refs[i] for i in sorted(np.random.default_rng(seed).permutation(len(refs))[:at_most])]


def load(ref: ImageRef, resize_px: int, *, key: int | None = None) -> NDArray[np.uint8]:
    """RGB pixels (3, H, W) of a picture, at working scale; with a content `key`, of that very picture.

    Raises:
        ImageError: it cannot be decoded.
        OSError: it cannot be read, or is another picture than the one that had the key.
    """
    content = read(ref)
    if key is not None and content_key(ref, content) != key:
        raise OSError(
            f"{ref.url}: its bytes changed since it was indexed; put the picture back, or choose another --out"
        )
    return pixels(ref, content, resize_px)


def read(ref: ImageRef) -> bytes:
    """The bytes of a picture's file; none for a stimulus, whose name is all there is."""
    if ref.url.startswith(_STIMULI):
        return b""
    if ref.url.startswith(_BUILTIN):
        package = ref.url.removeprefix(_BUILTIN)
        return (_folder_of(package) / _FOLDERS[package] / ref.member).read_bytes()
    return objects.read(*objects.split(ref.url))


def pixels(ref: ImageRef, content: bytes, resize_px: int) -> NDArray[np.uint8]:
    """RGB pixels (3, H, W), at working scale, of a picture whose bytes were read."""
    if ref.url.startswith(_STIMULI):
        return stimuli.draw(ref.member, int(ref.url.removeprefix(_STIMULI)))
    return decode(content, resize_px)


def content_key(ref: ImageRef, content: bytes) -> int:
    """A 63-bit key of what the picture is, wherever it lies: equal copies get equal keys."""
    named = f"{ref.url}/{ref.member}".encode() if ref.url.startswith(_STIMULI) else content
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big") >> 1


def _folder_of(package: str) -> Path:
    """Where a package is installed, without importing it: scikit-learn takes seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"builtin pictures: package {package} is not installed")
    return Path(spec.origin).parent


def _packaged() -> list[ImageRef]:
    named = [(package, name) for package, names in _PHOTOGRAPHS.items() for name in names.split()]
    return [ImageRef(url=f"{_BUILTIN}{package}", member=name) for package, name in named]


def _list_folder(location: str) -> list[ImageRef]:
    url = objects.normalise(location)
    if objects.is_local(url) and not Path(objects.local_path(url)).is_dir():
        known = "a folder of pictures, `builtin`, `photographs` or `stimuli`"
        raise ValueError(f"images: {location} is no folder; expected {known}")
    found = objects.sizes(url)
    named = sorted(name for name in found if PurePosixPath(name).suffix.lower() in SUFFIXES)
    if not named:
        known = ", ".join(sorted(SUFFIXES))
        raise ValueError(f"images: no picture among the {len(found)} files below {location}; expected {known}")
    return [ImageRef(url=objects.join(url, name), member="", size=found[name]) for name in named]
