"""What killed writers left in a run folder: listing in, verdicts out; and its removal.

A verdict goes by names and ages alone. What has a name that this program does not give is unknown, and stays.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gc_core.analyse import parts
from gc_core.analyse.artefacts import ATLAS_RECORD, EVALUATION, OF_A_SWEEP
from gc_core.analyse.table import features_record
from gc_core.crosscoder import WEIGHTS
from gc_core.io import lease, objects, ownership, s3
from gc_core.io.ownership import JUNK, MARKER
from gc_core.io.run_folder import (
    ACTIVATIONS,
    ATLAS,
    COMMITS,
    CROSSCODERS,
    FEATURES,
    INDEX,
    MANIFEST,
    NAME,
    SWEEPS,
    RunFolder,
)
from gc_core.manifest.resumable_index import OWN_NAMES
from gc_core.store.commits import RECORD, record_name
from gc_core.store.layout import ARRAYS, attributes, object_name
from gc_core.train.checkpoint import FOLDER, METRICS, PART, name_of, part_name, whole
from gc_core.train.recovery import CHECKPOINTS

Kind = Literal["needed", "leftover", "busy", "unknown"]
"""Whether something belongs to the run, is nobody's, may be a writer's at work, or has no name of this program."""

_CUT_OFF = re.compile(r"(.+)#\d+")
"""What a disk keeps of a write that was cut off."""
_DATA = re.compile(rf"{re.escape(ACTIVATIONS)}/({'|'.join(ARRAYS)})/c/(\d+)[/0]*")
_CHECKPOINT = re.compile(rf"({CROSSCODERS}/{NAME}/{CHECKPOINTS}/)({FOLDER}/{PART})")
_ANALYSIS = re.compile(rf"{FEATURES}/({NAME})\.parts/[0-9a-f]{{64}}/{parts.NAME}")
_INDEX = re.compile(rf"{INDEX}/{OWN_NAMES}")
_OF_A_CROSSCODER = rf"config\.json|{re.escape(WEIGHTS)}|{re.escape(METRICS)}|{EVALUATION}|tensorboard/[^#]+"
_KNOWN = re.compile(
    rf"{re.escape(MARKER)}|{re.escape(MANIFEST)}|{COMMITS}/{RECORD}"
    rf"|{re.escape(ACTIVATIONS)}/(({'|'.join(ARRAYS)})/)?zarr\.json"
    rf"|{CROSSCODERS}/{NAME}/({_OF_A_CROSSCODER}|{lease.FOLDER}/{lease.RECORD})"
    rf"|{FEATURES}/{NAME}\.(parquet|json)|{FEATURES}/{NAME}\.zarr/([^/#]+/)*(zarr\.json|c(/\d+)*)"
    rf"|{ATLAS}/{NAME}/(index\.html|{re.escape(ATLAS_RECORD)}|examples/[^/#]+)"
    rf"|{SWEEPS}/{NAME}/({'|'.join(map(re.escape, OF_A_SWEEP))}|{lease.FOLDER}/{lease.RECORD})"
)
_WORK = re.compile(rf"(?:{CROSSCODERS}|{ATLAS})/({NAME})/.*")
_FEATURES = re.compile(rf"{FEATURES}/({NAME}?)\.(?:parquet|json|zarr|parts)(?:/.*|#\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something that lies in a run folder."""

    name: str
    """Below the run, with slashes."""
    num_bytes: int
    age_s: float
    """Seconds since it was last written; negative where clocks differ."""
    upload: str = ""
    """The store's name of an upload in pieces that was never completed; empty for an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to become of it."""

    found: Found
    kind: Kind
    why: str


def judge(listing: Iterable[Found], held: Mapping[str, str], *, older_than_s: float) -> list[Verdict]:
    """A verdict for each thing in a run folder, in the order of names.

    `held` names who works at which crosscoder. What is nobody's is "busy" while its lease is held, or while anything in
    the same part of the run (the index, the store, one crosscoder with its analysis) was written less than
    `older_than_s` seconds ago: a writer may be about to use it.
    """
    every = sorted(listing, key=lambda found: (found.name, found.upload))
    exports = {each.name.removesuffix(MARKER) for each in every if each.name.endswith(f"/{MARKER}")}
    stored = {each.name: each.age_s for each in every if not each.upload}
    complete = _complete(stored)
    idle_s: dict[str, float] = {}
    for each in every:
        part = _part(each.name)
        idle_s[part] = min(each.age_s, idle_s.get(part, each.age_s))
    verdicts: list[Verdict] = []
    for each in every:
        kind, why = _kind(each, stored, complete, exports)
        part = _part(each.name)
        if kind == "leftover" and part in held:
            kind, why = "busy", f"{why}; {held[part]} is at work there"
        elif kind == "leftover" and idle_s[part] < older_than_s:
            kind, why = "busy", f"{why}; {part} was written to {_hours(idle_s[part])} hours ago"
        verdicts.append(Verdict(found=each, kind=kind, why=why))
    return verdicts


def survey(run: RunFolder, *, older_than_s: float, tell: Callable[[str], None] = lambda line: None) -> list[Verdict]:
    """Verdicts of everything in a run folder as it is now; nothing is changed. `tell` hears where a bucket's store does
    not list unfinished uploads, which are left out then.

    Raises:
        ValueError: no run is there. OSError: it cannot be listed.
    """
    if ownership.read_marker(run.location, "run") is None and attributes(run) is None:
        raise ValueError(f"{run.url}: no run found there, expected a folder that `python -m jobs.harvest --out` made")
    ages = objects.ages(run.location).items()
    listing = [Found(name=name, num_bytes=num_bytes, age_s=age_s) for name, (num_bytes, age_s) in ages]
    if not run.location.is_local:
        listing += _uploads(run, tell)
    return judge(listing, _held(run, (each.name for each in listing)), older_than_s=older_than_s)


def remove(run: RunFolder, verdicts: Iterable[Verdict], *, older_than_s: float) -> list[Found]:
    """Remove the leftovers among these, those that a second look still finds to be nobody's; what was removed."""
    again = {(each.found.name, each.found.upload) for each in survey(run, older_than_s=older_than_s) if _is_left(each)}
    gone = [each.found for each in verdicts if _is_left(each) and (each.found.name, each.found.upload) in again]
    for each in gone:
        if each.upload:
            s3.abort_upload(run.location, each.name, each.upload)
        else:
            objects.unlink(run.location, each.name)
    return gone


def _uploads(run: RunFolder, tell: Callable[[str], None]) -> list[Found]:
    try:
        begun = s3.uploads(run.location).items()
    except OSError as error:  # a right of its own, which few have; the bucket's lifecycle rule ends them too
        tell(f"unfinished uploads were not looked at: {error}")
        return []
    return [
        Found(name=name, num_bytes=num_bytes, age_s=age_s, upload=upload)
        for (name, upload), (num_bytes, age_s) in begun
    ]


def _is_left(verdict: Verdict) -> bool:
    return verdict.kind == "leftover"


def _kind(
    found: Found, stored: Mapping[str, float], complete: Collection[str], exports: Collection[str]
) -> tuple[Kind, str]:
    """Whether it belongs to the run, whoever works there."""
    if any(found.name.startswith(folder) for folder in exports):
        return "needed", "in a folder with a marker of its own"
    whose = _of_name(found.name, found.age_s, stored, complete)
    if found.upload:
        return ("leftover", "an upload that was never completed") if whose else ("unknown", "an upload of others")
    if whose:
        return whose
    if (cut := _CUT_OFF.fullmatch(found.name)) and _of_name(cut[1], found.age_s, stored, complete):
        return "leftover", "a write that was cut off"
    if found.name.rpartition("/")[2] in JUNK:
        return "unknown", "of the operating system"
    return "unknown", "no name that this program gives"


def _of_name(
    name: str, age_s: float, stored: Mapping[str, float], complete: Collection[str]
) -> tuple[Kind, str] | None:
    """Whether an object of this name is needed; None where this program gives no such name."""
    if _KNOWN.fullmatch(name):
        return "needed", "of the run"
    if (data := _DATA.fullmatch(name)) and name == f"{ACTIVATIONS}/{object_name(data[1], int(data[2]))}":
        record = f"{COMMITS}/{record_name(int(data[2]))}"
        return ("needed", record) if record in stored else ("leftover", f"shard {int(data[2])} has no commit record")
    if match := _CHECKPOINT.fullmatch(name):
        return ("needed", "a checkpoint") if name in complete else ("leftover", "its checkpoint lacks other parts")
    if _INDEX.fullmatch(name):
        return ("leftover", f"{MANIFEST} stands") if MANIFEST in stored else ("needed", f"{MANIFEST} is made of it")
    if match := _ANALYSIS.fullmatch(name):
        record = f"{FEATURES}/{features_record(match[1])}"
        later = stored.get(record, age_s) < age_s  # parts of an analysis that was begun since are gone on from
        return ("leftover", f"{record} was written after it") if later else ("needed", "an analysis goes on from it")
    return None


def _complete(stored: Iterable[str]) -> set[str]:
    """Names of the parts of checkpoints that have all of them."""
    by_folder: dict[str, list[str]] = {}
    for match in filter(None, map(_CHECKPOINT.fullmatch, stored)):
        by_folder.setdefault(match[1], []).append(match[2])
    return {
        f"{folder}{name_of(step, attempt)}/{part_name(part, count)}"
        for folder, names in by_folder.items()
        for step, attempt, count in whole(names)
        for part in range(count)
    }


def _part(name: str) -> str:
    """What is written by one job at a time, or shared by those that write at once."""
    if match := _WORK.fullmatch(name) or _FEATURES.fullmatch(name):
        return f"{CROSSCODERS}/{match[1]}"
    top = name.partition("/")[0]
    return ACTIVATIONS if top == COMMITS else top


def _held(run: RunFolder, names: Iterable[str]) -> dict[str, str]:
    """Who works at which crosscoder, by the part of the run."""
    leased = (re.fullmatch(rf"{CROSSCODERS}/({NAME})/{lease.FOLDER}/{lease.RECORD}", name) for name in names)
    holders = {match[1]: lease.holder_of(run.crosscoder(match[1])) for match in leased if match}
    return {f"{CROSSCODERS}/{name}": holder for name, holder in holders.items() if holder}


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f}"
