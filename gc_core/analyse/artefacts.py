"""Everything finished in a run, compared with its recorded hashes: crosscoders, features, pages, exports."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gc_core.analyse.table import fault_of_features, features_record
from gc_core.crosscoder import WEIGHTS
from gc_core.io import objects, ownership
from gc_core.io.artefacts import SEAL, DamagedError, fault_of, hashes_in
from gc_core.io.json_objects import parse_json, read_json
from gc_core.io.location import Location
from gc_core.io.ownership import MARKER, ForeignError
from gc_core.io.run_folder import NAME, SWEEPS, RunFolder
from gc_core.train.checkpoint import METRICS

ATLAS_RECORD = "atlas.json"
"""Record beside a page: the hashes of its files."""

OF_A_CROSSCODER = rf"config\.json|{re.escape(WEIGHTS)}|{re.escape(METRICS)}|checkpoints/.+"
"""Files by which a crosscoder's folder is known, whichever of them is lost."""

OF_AN_ATLAS = rf"index\.html|{re.escape(ATLAS_RECORD)}"

SWEEP_RECORD = "sweep.json"
"""Record of a sweep: what each crosscoder took, what became of it, and the hashes of the other files."""
OF_A_SWEEP = (SWEEP_RECORD, "crosscoders.parquet", "fits.json", "index.html")
"""Files of a sweep's folder."""

EVALUATION = r"evaluation(-step-\d+)?\.json"
"""Evaluations of a crosscoder, and of its checkpoints."""

CARD = "README.md"
"""Model card of an export, for its owner to edit."""


def faults_of_artefacts(run: RunFolder) -> Iterator[str]:
    """What is wrong with what was made of a run's activations, one line each, with the command that makes it again."""
    for name in _own_folders(run, "crosscoders", OF_A_CROSSCODER):
        again = f"`python -m jobs.train --run {run.url}` with the options of its config.json writes it again"
        yield from (f"{fault}. {again}" for fault in _faults_of_crosscoder(run.crosscoder(name)))
    for name in _analysed(run):
        if fault := fault_of_features(run, name):
            yield f"{fault}. `python -m jobs.analyse --run {run.url} --name {name}` writes them again"
    for name in _own_folders(run, "atlas", OF_AN_ATLAS):
        for fault in _faults_of_record(run.atlas(name), ATLAS_RECORD):
            yield f"{fault}. `python -m jobs.analyse --run {run.url} --name {name}` draws it again"
    for name in _own_folders(run, SWEEPS, "|".join(map(re.escape, OF_A_SWEEP))):
        for fault in _faults_of_record(run.sweep(name), SWEEP_RECORD):
            yield f"{fault}. The same `python -m jobs.sweep --run {run.url} --name {name} ...` writes it again"
    for folder in _marked_folders(run):
        yield from (
            f"{fault}. `python -m jobs.export` into a new folder writes it again" for fault in _of_export(folder)
        )


def not_protected(run: RunFolder) -> list[str]:
    """What was written before there were hashes, and is compared with nothing: places in the run."""
    crosscoders = _own_folders(run, "crosscoders", OF_A_CROSSCODER)
    paths = [f"crosscoders/{name}/{file}" for name in crosscoders for file in _without_hash(run.crosscoder(name))]
    features = objects.sizes(run.location / "features")
    paths += [f"features/{name}" for name in _analysed(run) if features_record(name) not in features]
    pages = objects.sizes(run.location / "atlas")
    paths += [
        f"atlas/{name}" for name in _own_folders(run, "atlas", OF_AN_ATLAS) if f"{name}/{ATLAS_RECORD}" not in pages
    ]
    return paths


def _own_folders(run: RunFolder, kind: str, files: str) -> list[str]:
    """Those whose name could be a crosscoder's and that hold one of the files; what else is there is of others."""
    matches = (re.fullmatch(rf"({NAME})/({files})", path) for path in objects.sizes(run.location / kind))
    return sorted({match[1] for match in matches if match})


def _analysed(run: RunFolder) -> list[str]:
    """Crosscoders that have a table of features."""
    partitions = (table.partition(".parquet") for table in objects.sizes(run.location / "features"))
    return sorted(name for name, dot, ending in partitions if dot and not ending and "/" not in name)


def _marked_folders(run: RunFolder) -> list[Location]:
    """Those inside the run that carry a marker of their own."""
    inner = (path.rpartition("/") for path in sorted(objects.sizes(run.location)))
    return [run.location / folder for folder, slash, name in inner if slash and name == MARKER]


def _of_export(folder: Location) -> Iterator[str]:
    """What is wrong with an export; folders of other kinds are no business of this one."""
    try:
        marker = ownership.read_marker(folder, "export")
        files = hashes_in(marker or {}, folder / MARKER)
    except ForeignError as error:
        if not _is_of_another_kind(folder):
            yield str(error)
        return
    except DamagedError as error:
        yield str(error)
        return
    yield from (
        fault for name, expected in files.items() if name != CARD and (fault := fault_of(folder, name, expected))
    )


def _is_of_another_kind(folder: Location) -> bool:
    for kind in ("run", "object store"):
        with contextlib.suppress(ForeignError):
            return ownership.read_marker(folder, kind) is not None
    return False


def _without_hash(crosscoder: Location) -> Iterator[str]:
    """Files of a crosscoder of which no record names the hash."""
    config = _record(crosscoder, "config.json")
    files = config.get("files")
    if config.get("results") and not (isinstance(files, dict) and WEIGHTS in files):
        yield WEIGHTS
    for name in ("config.json", *_evaluations(crosscoder)):
        if SEAL not in _record(crosscoder, name, absent={SEAL: ""}):
            yield name


def _evaluations(crosscoder: Location) -> list[str]:
    return sorted(name for name in objects.sizes(crosscoder) if re.fullmatch(EVALUATION, name))


def _record(folder: Location, name: str, absent: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """A JSON record as it stands; one that cannot be read is a fault, which is told elsewhere."""
    try:
        return parse_json(objects.read(folder, name), folder / name)
    except (FileNotFoundError, DamagedError):
        return absent or {}


def _faults_of_crosscoder(folder: Location) -> Iterator[str]:
    for evaluation in _evaluations(folder):
        yield from _faults_of_record(folder, evaluation)
    try:
        config = read_json(folder, "config.json")
        files = hashes_in(config, folder / "config.json")
    except FileNotFoundError:
        yield f"{folder / 'config.json'}: is missing"
        return
    except DamagedError as error:
        yield str(error)
        return
    if not config.get("results"):
        return  # still training
    if WEIGHTS not in files and WEIGHTS not in objects.sizes(folder):
        yield f"{folder / WEIGHTS}: is missing"
    yield from (fault for name, expected in files.items() if (fault := fault_of(folder, name, expected)))


def _faults_of_record(folder: Location, name: str) -> Iterator[str]:
    """Faults of a JSON record, if there is one, and of the files that it names."""
    try:
        files = hashes_in(read_json(folder, name), folder / name)
    except FileNotFoundError:
        return
    except DamagedError as error:
        yield str(error)
        return
    yield from (fault for file, expected in files.items() if (fault := fault_of(folder, file, expected)))
