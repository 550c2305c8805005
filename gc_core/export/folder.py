"""The folder of an export: made once, and written again only over what this program wrote there."""

from collections.abc import Mapping

from gc_core.io import objects, ownership
from gc_core.io.artefacts import digest
from gc_core.io.location import Location
from gc_core.io.ownership import ForeignError


def write_files(folder: Location, files: Mapping[str, bytes]) -> None:
    """Write an export's files by name, with a marker that says which bytes are this program's.

    Raises:
        ForeignError: the folder holds something else, or a file of an earlier export that was edited since.
    """
    ownership.claim(folder, "export")
    known = (ownership.read_marker(folder, "export") or {}).get("files", {})
    for name in files:
        _refuse_edited(folder, name, {known.get(name), digest(files[name])})
    hashes = {name: digest(content) for name, content in files.items()}
    for name, content in files.items():
        objects.write(folder, name, content)
    objects.write(folder, ownership.MARKER, ownership.marker("export", files=hashes))


def _refuse_edited(folder: Location, name: str, ours: set[str | None]) -> None:
    try:
        sha256 = digest(objects.read(folder, name))
    except FileNotFoundError:
        return
    if sha256 not in ours:
        raise ForeignError(f"{folder / name}: was edited, or is not this program's; name a new folder")
