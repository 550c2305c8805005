"""Looking at one image: can it be read and decoded, and has it room for a centre with its rotated field?"""

from dataclasses import dataclass, replace

from gc_core.images import ImageError, ImageRef
from gc_core.images.load import content_key, pixels, read
from gc_core.manifest.table import ImageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionSettings:
    """How images are looked at."""

    resize_px: int
    window_px: int
    """A smaller image has no room for a centre with its rotated field."""
    enlarge: bool = False
    """Whether smaller images are scaled up."""


def inspect(ref: ImageRef, settings: InspectionSettings) -> ImageRecord:
    """Read and decode an image once, to know that it can be used and how many centres it has room for.

    Raises:
        OSError: the place where images lie cannot be reached; that says nothing about the image.
    """
    try:
        content = read(ref)
        if ref.size < 0 and content:
            ref = replace(ref, size=len(content))
        _, height, width = pixels(ref, content, settings.resize_px, enlarge=settings.enlarge).shape
    except FileNotFoundError:
        return ImageRecord(ref=ref, status="bad", error="not found")
    except PermissionError:
        return ImageRecord(ref=ref, status="bad", error="permission denied")
    except ImageError as error:
        return ImageRecord(ref=ref, status="bad", error=str(error).splitlines()[0])
    small = min(height, width) < settings.window_px
    sizes = f"{width} x {height} px; the rotated field needs {settings.window_px} px"
    reason = f"smaller than the field ({sizes}; --enlarge scales up)" if small else ""
    status, key = "small" if small else "ok", content_key(ref, content)
    return ImageRecord(ref=ref, status=status, error=reason, height=height, width=width, key=key)
