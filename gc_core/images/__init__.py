"""Images from anywhere: list them, read one's bytes, decode them to pixels."""

from gc_core.images.decode import ImageError, decode
from gc_core.images.load import load
from gc_core.images.ref import ImageRef
from gc_core.images.sources import list_images

__all__ = ["ImageError", "ImageRef", "decode", "list_images", "load"]
