"""A crosscoder as a folder for the Hugging Face hub: weights, config and a model card. Uploading is another's business.

hf upload USER/NAME FOLDER
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gc_core.crosscoder import WEIGHTS, Crosscoder
from gc_core.export.card import card
from gc_core.export.folder import write_files
from gc_core.io.artefacts import sealed
from gc_core.io.json_objects import finite, json_bytes
from gc_core.io.location import Location

NOT_FOR_OTHERS = ("images", "weights")
"""Options of a harvest that are places on somebody's disk; only their last part is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Where a crosscoder comes from; all plain JSON."""

    name: str
    trained: Mapping[str, Any]
    """`config.json` beside the crosscoder: its options and results."""
    store: Mapping[str, Any]
    """Attributes of the store: network, layer, group, how samples were made."""
    evaluation: Mapping[str, Any] | None
    """`evaluation.json`, if `jobs.evaluate` ran."""


def write_hub(folder: Location, model: Crosscoder, story: Story) -> None:
    """Write `model.safetensors`, `config.json` and `README.md`, for `Crosscoder.load(folder)`.

    Raises:
        ForeignError: the folder holds something else.
    """
    published, weights = without_places(story.store), model.weights_file()
    config = {**story.trained, "name": story.name, "store": published, **model.about(weights)}
    text = card(story.name, model.shape, story.trained, published, story.evaluation)
    files = {WEIGHTS: weights, "config.json": json_bytes(sealed(finite(config))), "README.md": text.encode()}
    write_files(folder, files)


def without_places(store: Mapping[str, Any]) -> dict[str, Any]:
    """A store's attributes with folder names taken out, which tell of a person's disk and nobody else anything."""
    config = dict(store.get("config", {}))
    for option in NOT_FOR_OTHERS:
        if isinstance(place := config.get(option), str):
            config[option] = place.rstrip("/").rpartition("/")[2]
    return {**store, "config": config}
