"""Which files are images: by the end of their names, or by their first bytes."""

from PIL import features

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjp", ".pjpeg"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
}
_FEATURES = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
"""Formats that Pillow is built with or without."""

PILLOW = tuple(name for name in _SUFFIXES if name not in _FEATURES or features.check(_FEATURES[name]))
"""The formats that are decoded. Pillow also opens formats that run other programs, such as EPS; a file's first bytes
must not choose those."""
SUFFIXES = tuple(sorted(suffix for name in PILLOW for suffix in _SUFFIXES[name]))
"""How names of images end, in folders and archives, in small letters or capitals."""
_SAID = {"WEBP": "WebP", "JPEG2000": "JPEG 2000", "PPM": "PNM"}
NAMES = " or ".join(", ".join(_SAID.get(name, name) for name in PILLOW if name != "DIB").rsplit(", ", 1))
"""Names of the formats, as a message lists them."""

_MAGIC = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*"),
    "JPEG2000": (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
}
"""First bytes that nothing else has; those of BMP and PPM, two letters, are words of text as well."""

HEAD_BYTES = 16
"""What `is_image` must see of a file."""


def suffix_of(name: str) -> str:
    """What stands behind the last dot of a file's name, with the dot, in small letters; empty where nothing does."""
    base = name.rpartition("/")[2]
    stem, dot, end = base.rpartition(".")
    return f".{end.lower()}" if dot and stem and end.isalnum() and len(end) <= 12 else ""


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is an image of a format that is decoded."""
    return _format_of(head) in PILLOW


def _format_of(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF"
    return next((name for name, starts in _MAGIC.items() if head.startswith(starts)), "")
