"""Where everything of a run lies (the layout of the run folder), and its small JSON records."""

import json
import re
from dataclasses import dataclass
from typing import Any

from gc_core import objects


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run below a path or URL."""

    url: str

    @staticmethod
    def at(location: str) -> "RunFolder":
        """The run at a path or URL, which need not exist yet."""
        return RunFolder(objects.normalise(location))

    @property
    def manifest(self) -> str:
        return objects.join(self.url, "manifest.parquet")

    @property
    def index(self) -> str:
        """Parts of the manifest, while it is made."""
        return objects.join(self.url, "index")

    @property
    def activations(self) -> str:
        return objects.join(self.url, "activations.zarr")

    @property
    def commits(self) -> str:
        return objects.join(self.url, "commits")

    def crosscoder(self, name: str) -> str:
        return objects.join(self.url, "crosscoders", checked_name(name))

    def feature_table(self, name: str) -> str:
        return objects.join(self.url, "features", f"{checked_name(name)}.parquet")

    def feature_arrays(self, name: str) -> str:
        return objects.join(self.url, "features", f"{checked_name(name)}.zarr")

    def atlas(self, name: str) -> str:
        return objects.join(self.url, "atlas", checked_name(name))

    def crosscoder_names(self) -> list[str]:
        """Finished crosscoders, by name."""
        stored = objects.sizes(objects.join(self.url, "crosscoders"))
        found = (re.fullmatch(r"([^/]+)/model\.safetensors", path) for path in stored)
        return sorted(match[1] for match in found if match)


def checked_name(name: str) -> str:
    """The name itself, if it is safe as a folder's name.

    Raises:
        ValueError: it holds anything but letters, digits, dot, dash and underscore, or starts with a dot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise ValueError(f"name: found {name!r}, expected letters, digits, '-', '_' and '.', such as topk-1024")
    return name


def read_json(location: str, name: str) -> dict[str, Any]:
    """A JSON object; FileNotFoundError if there is none."""
    return json.loads(objects.read(location, name))


def write_json(location: str, name: str, record: dict[str, Any]) -> None:
    """Replace a JSON object, indented for people."""
    objects.write(location, name, json.dumps(record, indent=1, sort_keys=True).encode())
