"""The atlas page: one static folder that opens from disk, without a server and without a network."""

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from gc_core.atlas.records import AtlasPage, Example, FeatureCard, check_page
from gc_core.atlas.view import describe, strip_name

__all__ = ["AtlasPage", "Example", "FeatureCard", "render", "write_page"]

STRIP = r"f\d+\.jpg"
"""Names of example strips."""
_JPEG_QUALITY = 85


def write_page(page: AtlasPage, folder: Path) -> Path:
    """Write `index.html` and `examples/f<feature>.jpg` into `folder` and return the path of the page.

    The page appears last, under its name in one step; then example strips that an earlier page left behind are
    removed. Raises ValueError where a card contradicts the page, naming the feature.
    """
    html = render(page)
    strips = folder / "examples"
    strips.mkdir(parents=True, exist_ok=True)
    shown = [card for card in page.features if card.alive and card.examples]
    for card in shown:
        _write_strip(card, strips / strip_name(card.feature))
    unfinished = folder / ".index.html.partial"
    unfinished.write_text(html, encoding="utf-8")
    unfinished.replace(folder / "index.html")
    _remove_stale_strips(strips, {strip_name(card.feature) for card in shown})
    return folder / "index.html"


def render(page: AtlasPage) -> str:
    """The page as one HTML text with its style and script inside; it refers to nothing but `examples/f*.jpg`."""
    check_page(page)
    environment = Environment(
        loader=PackageLoader("gc_core.atlas"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = environment.get_template("atlas.css").render()
    script = environment.get_template("atlas.js").render()
    return environment.get_template("index.html.j2").render(
        view=describe(page), style=Markup(style), script=Markup(script), script_hash=_policy_hash(script)
    )


def _policy_hash(script: str) -> str:
    """The source expression that lets this script, and no other, run under the page's content security policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _write_strip(card: FeatureCard, path: Path) -> None:
    """All patches of a feature side by side in one JPEG: one file a feature instead of nine."""
    strip_HWC = np.concatenate([example.patch_HWC for example in card.examples], axis=1)
    Image.fromarray(strip_HWC).save(path, quality=_JPEG_QUALITY, optimize=True)


def _remove_stale_strips(strips: Path, current: set[str]) -> None:
    """An image that the new page does not show must not stay published beside it."""
    for path in strips.iterdir():
        if re.fullmatch(STRIP, path.name) and path.name not in current:
            path.unlink()
