"""Where everything of a run lies (the layout of the run folder)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gc_core.io import objects, ownership
from gc_core.io.artefacts import DamagedError
from gc_core.io.json_objects import read_json
from gc_core.io.location import Location

NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
"""What a crosscoder may be called."""
MANIFEST, INDEX, ACTIVATIONS, COMMITS = "manifest.parquet", "index", "activations.zarr", "commits"
CROSSCODERS, FEATURES, ATLAS, SWEEPS = "crosscoders", "features", "atlas", "sweeps"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run, which need not exist yet."""

    location: Location

    @staticmethod
    def at(place: "str | Path | Location") -> "RunFolder":
        """The run at a path or URL.

        Raises:
            ValueError: it is neither.
        """
        return RunFolder(Location.parse(place))

    @property
    def url(self) -> str:
        """URL for messages and records."""
        return self.location.url

    def claim(self) -> None:
        """Make it a run folder, if nothing else is there.

        Raises:
            ForeignError: the folder holds something else.
        """
        ownership.claim(self.location, "run", recognises=self._was_made_before_markers)

    def _was_made_before_markers(self) -> bool:
        """Recognise an older run folder by files that only this project writes."""
        try:
            attributes = read_json(self.activations, "zarr.json")["attributes"]
            return {"format_version", "config_hash"} <= attributes.keys()
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            parts = objects.sizes(self.index)  # of a harvest that was interrupted early
            return bool(parts) and all(re.fullmatch(r"(part-\d{5}|listing-[0-9a-f]{24})\.parquet", n) for n in parts)

    @property
    def manifest(self) -> Location:
        return self.location / MANIFEST

    @property
    def index(self) -> Location:
        """Parts of the manifest, while it is made."""
        return self.location / INDEX

    @property
    def activations(self) -> Location:
        return self.location / ACTIVATIONS

    @property
    def commits(self) -> Location:
        return self.location / COMMITS

    def crosscoder(self, name: str) -> Location:
        return self.location / CROSSCODERS / checked_name(name)

    def feature_table(self, name: str) -> Location:
        return self.location / FEATURES / f"{checked_name(name)}.parquet"

    def feature_arrays(self, name: str) -> Location:
        return self.location / FEATURES / f"{checked_name(name)}.zarr"

    def atlas(self, name: str) -> Location:
        return self.location / ATLAS / checked_name(name)

    def sweep(self, name: str) -> Location:
        """What a sweep found out; its crosscoders lie among the others."""
        return self.location / SWEEPS / checked_name(name)

    def crosscoder_names(self) -> list[str]:
        """Finished crosscoders, by name."""
        stored = objects.sizes(self.location / CROSSCODERS)
        matches = (re.fullmatch(r"([^/]+)/model\.safetensors", path) for path in stored)
        return sorted(match[1] for match in matches if match)


def checked_name(name: str) -> str:
    """The name itself, if it is safe as a folder's name.

    Raises:
        ValueError: it holds anything but letters, digits, dot, dash and underscore, or starts with a dot.
    """
    if not re.fullmatch(NAME, name):
        raise ValueError(f"name: found {name!r}, expected letters, digits, '-', '_' and '.', such as topk-1024")
    return name


def read_trained(folder: Location) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and results of a finished crosscoder, as its `config.json` says.

    Raises:
        DamagedError: it says neither. FileNotFoundError: there is none.
    """
    config = read_json(folder, "config.json")
    parts = config.get("train"), config.get("results")
    if not all(isinstance(part, dict) for part in parts):
        where = folder / "config.json"
        raise DamagedError(f"{where}: no options and results of a training found; train it again")
    if odd := [name for name, value in config["results"].items() if not isinstance(value, float | int | None)]:
        raise DamagedError(f"{folder / 'config.json'}: {odd[0]!r:.80} of its results is not a number")
    return config["train"], config["results"]
