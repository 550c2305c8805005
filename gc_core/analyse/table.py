"""The feature table (Parquet, one row a feature) and the arrays that do not fit a row (Zarr).

Letters: F features, G group elements, K examples.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from numpy.typing import NDArray
from zarr.storage import ObjectStore

from gc_core.analyse.features import FeatureSymmetry, Judged
from gc_core.analyse.firing import Firing
from gc_core.analyse.tuning import ARRAYS as TUNED_ARRAYS
from gc_core.analyse.tuning import Tuned, not_tuned
from gc_core.families import Families, coverage, family_gaps, shown_poses
from gc_core.groups import FiniteGroup, Group, Subgroup
from gc_core.io import objects, parquet
from gc_core.io.artefacts import DamagedError, digest, fault_of, hashes_in
from gc_core.io.json_objects import finite, read_json, write_json
from gc_core.io.run_folder import RunFolder
from gc_core.io.zarr_bytes import array_names, group_of
from gc_core.symmetry import Verdict, classes

ARRAYS = ("curves", "self_similarity", "block_norms", "top_rows", "top_values")
LATER_ARRAYS = ("block_steps", "top_poses", "pose_counts", "class_strength", "class_p", *TUNED_ARRAYS)
"""What tables of earlier versions do not have."""
GAPS = pa.list_(pa.struct({"from_deg": pa.float32(), "to_deg": pa.float32(), "mirrored": pa.bool_()}))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """What `write_features` stored."""

    rows: list[dict[str, Any]]
    """One a feature, by column."""
    arrays: dict[str, NDArray[Any]]
    """curves (F, G), self_similarity (F, G), block_norms (F, G), top_rows (F, K), top_values (F, K); of later versions
    block_steps (F, G), top_poses (F, K), class_strength and class_p (F, Q), Q the classes of subgroups that
    attrs["classes"] names, where poses are tied pose_counts (F, G), and where stimuli were shown tuning_curves (F, L),
    tuning_self_similarity (F, G) and kind_activity (F, kinds)."""
    irrep_labels: list[str]
    attrs: dict[str, Any]


def write_features(
    run: RunFolder,
    name: str,
    symmetry: FeatureSymmetry,
    judged: Judged,
    firing: Firing,
    families: Families,
    group: FiniteGroup,
    about: dict[str, Any],
    tuned: Tuned | None = None,
) -> None:
    """Store everything about a crosscoder's features; `about` holds the figures that go with the whole, `tuned` what
    drawn stimuli told, where they were shown."""
    tuned = tuned or not_tuned(len(judged.verdict_F))
    table = pa.table(_columns(symmetry, judged.verdict_F, firing, families, group) | tuned.columns)
    content_of_table = parquet.to_bytes(table)
    attributes = {
        "irreps": [irrep.label for irrep in group.irreps()],
        "group": group.as_record(),
        "classes": [one.name for one in classes(group)],
        **about,
        **tuned.about,
    }
    values = (
        symmetry.curve_FG,
        symmetry.self_similarity_FG,
        symmetry.block_norm_FG,
        firing.top_row_FT,
        firing.top_value_FT,
        symmetry.block_step_FG,
        firing.top_pose_FT,
        firing.pose_count_FG,
        judged.evidence.strength_FQ.astype(np.float32),
        judged.evidence.p_FQ.astype(np.float32),
    )
    of_weights = (*ARRAYS, *LATER_ARRAYS[: -len(TUNED_ARRAYS)])
    named: dict[str, NDArray[Any]] = dict(zip(of_weights, values, strict=True)) | tuned.arrays
    named = {array_name: array for array_name, array in named.items() if array.shape[1]}
    made = group_of(finite(attributes), named)
    for key, content in made.items():
        objects.write(run.feature_arrays(name), key, content)
    parent, file_name = run.feature_table(name).split()
    objects.write(parent, file_name, content_of_table)
    _, arrays_name = run.feature_arrays(name).split()
    hashes = {f"{arrays_name}/{key}": digest(content) for key, content in made.items()}
    write_json(parent, features_record(name), {"files": {file_name: digest(content_of_table), **hashes}})
    stale = objects.sizes(run.feature_arrays(name)).keys() - made.keys()
    for key in stale:
        if re.fullmatch(array_names(dict.fromkeys((*ARRAYS, *LATER_ARRAYS))), key):
            objects.delete(run.feature_arrays(name), key)


def load_features(run: RunFolder, name: str) -> FeatureTable:
    """What was stored.

    Raises:
        ValueError: the crosscoder was not analysed, or what was stored is damaged.
    """
    remedy = f"run `python -m jobs.analyse --run {run.url} --name {name}`"
    parent, file_name = run.feature_table(name).split()
    try:
        if fault := fault_of_features(run, name):
            raise DamagedError(f"{fault}; {remedy} again")
        rows = parquet.parse(objects.read(parent, file_name)).to_pylist()
        root = zarr.open_group(ObjectStore(objects.open_folder(run.feature_arrays(name))), mode="r")
        attrs: dict[str, Any] = dict(root.attrs)
        there = [*ARRAYS, *(array_name for array_name in LATER_ARRAYS if array_name in root)]
        arrays = {array_name: _values(root, array_name) for array_name in there}
        return FeatureTable(rows=rows, arrays=arrays, irrep_labels=attrs.pop("irreps"), attrs=attrs)
    except FileNotFoundError:
        raise ValueError(f"{run.url}: no features of {name!r} found; {remedy}") from None
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, DamagedError):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DamagedError(f"{run.feature_table(name)}: cannot be read ({reason}); {remedy} again") from None


def fault_of_features(run: RunFolder, name: str) -> str | None:
    """What is wrong with a crosscoder's stored features, compared with the record beside them; None if nothing is.

    Features stored before there were records are compared with nothing.
    """
    parent = run.feature_table(name).parent
    where = parent / features_record(name)
    try:
        files = hashes_in(read_json(parent, features_record(name)), where)
    except FileNotFoundError:
        return f"{where}: is missing, and with it the hashes of the features" if _had_record(run, name) else None
    except DamagedError as error:
        return str(error)
    if not files:
        return f"{where}: names no files"
    faults = (fault_of(parent, file, expected) for file, expected in files.items())
    return next((fault for fault in faults if fault), None)


def _had_record(run: RunFolder, name: str) -> bool:
    """Whether features without a record must have lost it: since chunks have a CRC-32C, each set was given one."""
    try:
        return b"crc32c" in objects.read(run.feature_arrays(name), f"{ARRAYS[0]}/zarr.json")
    except FileNotFoundError:
        return True


def features_record(name: str) -> str:
    """The name, beside a table, of the record of its hashes."""
    return f"{name}.json"


def _values(root: zarr.Group, name: str) -> NDArray[Any]:
    array = root[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is no array")
    return np.asarray(array[:])


def _columns(
    symmetry: FeatureSymmetry, verdicts: Sequence[Verdict], firing: Firing, families: Families, group: FiniteGroup
) -> dict[str, Any]:
    stabilisers = [v.subgroup for v in verdicts]
    return {
        "feature": np.arange(len(verdicts), dtype=np.int32),
        "alive": firing.fired_F > 0,
        "density": (firing.fired_F / firing.num_rows).astype(np.float32),
        "max_activation": firing.top_value_FT[:, 0],
        "family": families.family_F.astype(np.int32),
        "pose": shown_poses(families, stabilisers, group).astype(np.int32),
        "representative": families.representative_F.astype(np.int32),
        "prototype_similarity": _or_null(families.similarity_F),
        "family_consistency": _or_null(families.consistency_F),
        "family_coverage": _or_null(coverage(families, stabilisers, group)),
        "family_gaps": pa.array(_gaps(firing, families, stabilisers, group), GAPS),
        "map_x": _or_null(families.place_F2[:, 0]),
        "map_y": _or_null(families.place_F2[:, 1]),
        "stabiliser": [v.subgroup.name for v in verdicts],
        "symmetry": [v.words for v in verdicts],
        "axis_deg": [v.subgroup.axis_deg for v in verdicts],
        "changing_stabiliser": [v.changing_subgroup.name for v in verdicts],
        **_elements(stabilisers, group),
        "stabiliser_score": np.array([v.score for v in verdicts], np.float32),
        "stabiliser_weakest": np.array([v.weakest for v in verdicts], np.float32),
        "stabiliser_low": np.array([v.low for v in verdicts], np.float32),
        "stabiliser_high": np.array([v.high for v in verdicts], np.float32),
        "stabiliser_p": np.array([v.p for v in verdicts], np.float32),
        "invariant_share": symmetry.spectrum_FR[:, 0],
        "decoder_norm": np.linalg.norm(symmetry.block_norm_FG, axis=1).astype(np.float32),
        "spectrum": list(symmetry.spectrum_FR),
    }


def _elements(stabilisers: Sequence[Subgroup], group: FiniteGroup) -> dict[str, list[list[str]]]:
    """Over a group that is not of the plane, whose subgroups' names say little: their elements by label."""
    if isinstance(group, Group):
        return {}
    return {"stabiliser_elements": [[group.labels[g] for g in each.elements] for each in stabilisers]}


def _gaps(
    firing: Firing, families: Families, stabilisers: Sequence[Subgroup], group: FiniteGroup
) -> list[list[dict[str, Any]] | None]:
    """Gaps as the table keeps them; of tied poses none are told, for every prototype is in all orientations."""
    if firing.pose_count_FG.shape[1]:
        return [None] * len(families.family_F)
    gaps_F = family_gaps(families, stabilisers, group)
    return [None if each is None else [asdict(gap) for gap in each] for each in gaps_F]


def _or_null(value_F: NDArray[np.float32]) -> pa.Array:
    """Nothing where there is no number."""
    return pa.array(value_F, pa.float32(), mask=np.isnan(value_F))
