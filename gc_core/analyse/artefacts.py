"""Everything finished in a run, compared with the hashes recorded when it was: crosscoders, features, pages."""

import re
from collections.abc import Iterator

from gc_core import objects
from gc_core.analyse.table import fault_of_features
from gc_core.artefacts import DamagedError, fault_of, hashes_in
from gc_core.checkpoint import METRICS
from gc_core.crosscoder import WEIGHTS
from gc_core.run_folder import NAME, RunFolder, read_json

ATLAS_RECORD = "atlas.json"
"""Beside a page: the hashes of its files."""

OF_A_CROSSCODER = rf"config\.json|{re.escape(WEIGHTS)}|{re.escape(METRICS)}|checkpoints/.+"
"""Files by which a crosscoder's folder is known, whichever of them is lost."""


def faults_of_artefacts(run: RunFolder) -> Iterator[str]:
    """What is wrong with what was made of a run's activations, one line each, with the command that makes it again."""
    for name in _own_folders(run, "crosscoders", OF_A_CROSSCODER):
        again = f"`python -m jobs.train --run {run.url}` with the options of its config.json writes it again"
        yield from (f"{fault}. {again}" for fault in _faults_of_crosscoder(run.crosscoder(name)))
    for table in sorted(objects.sizes(objects.join(run.url, "features"))):
        name, dot, ending = table.partition(".parquet")
        if dot and not ending and "/" not in name and (fault := fault_of_features(run, name)):
            yield f"{fault}. `python -m jobs.analyse --run {run.url} --name {name}` writes them again"
    for name in _own_folders(run, "atlas", rf"index\.html|{re.escape(ATLAS_RECORD)}"):
        for fault in _faults_of_record(run.atlas(name), ATLAS_RECORD):
            yield f"{fault}. `python -m jobs.analyse --run {run.url} --name {name}` draws it again"


def _own_folders(run: RunFolder, kind: str, files: str) -> list[str]:
    """Those whose name could be a crosscoder's and that hold one of the files; what else is there is of others."""
    found = (re.fullmatch(rf"({NAME})/({files})", path) for path in objects.sizes(objects.join(run.url, kind)))
    return sorted({match[1] for match in found if match})


def _faults_of_crosscoder(folder: str) -> Iterator[str]:
    try:
        config = read_json(folder, "config.json")
        files = hashes_in(config, objects.join(folder, "config.json"))
    except FileNotFoundError:
        yield f"{objects.join(folder, 'config.json')}: is missing"
        return
    except DamagedError as error:
        yield str(error)
        return
    if not config.get("results"):
        return  # still training
    if WEIGHTS not in files and WEIGHTS not in objects.sizes(folder):
        yield f"{objects.join(folder, WEIGHTS)}: is missing"
    yield from (fault for name, expected in files.items() if (fault := fault_of(folder, name, expected)))
    yield from _faults_of_record(folder, "evaluation.json")


def _faults_of_record(folder: str, name: str) -> Iterator[str]:
    """Of a JSON record, if there is one, and of the files that it names."""
    try:
        files = hashes_in(read_json(folder, name), objects.join(folder, name))
    except FileNotFoundError:
        return
    except DamagedError as error:
        yield str(error)
        return
    yield from (fault for file, expected in files.items() if (fault := fault_of(folder, file, expected)))
