"""What the table says of drawn stimuli: each feature's best one, its tuning curve, and whether that has the symmetry
which the decoder has.

Letters: F features, L elements under which stimuli are shown, G group elements, K kinds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gc_core import symmetry
from gc_core.config import AnalyseConfig
from gc_core.groups import Group, Subgroup
from gc_core.images.catalogue import fixed_set
from gc_core.symmetry import UNDECIDED, Tuning, Verdict

COLUMNS: Mapping[str, pa.DataType] = {
    "label": pa.string(),
    "label_share": pa.float32(),
    "tuning_stimulus": pa.string(),
    "tuning_angle_deg": pa.float32(),
    "tuning_mirrored": pa.bool_(),
    "tuning_selectivity": pa.float32(),
    "tuning_steady_share": pa.float32(),
    "tuning_stabiliser": pa.string(),
    "tuning_axis_deg": pa.float32(),
    "tuning_similarity": pa.float32(),
}
"""Null where no stimulus drives a feature, or none were shown."""
ARRAYS = ("tuning_curves", "tuning_self_similarity", "kind_activity")
NEARLY = 1 - 1e-3
"""Responses so near to the largest are as large: of a picture that is the same at two angles, the first is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What stimuli told of every feature."""

    columns: dict[str, pa.Array]
    """By the names of `COLUMNS`."""
    arrays: dict[str, NDArray[np.float32]]
    """tuning_curves (F, L), tuning_self_similarity (F, G), kind_activity (F, K)."""
    about: dict[str, Any]
    """How many stimuli were shown, and how well what they told agrees with the decoder."""


def not_tuned(num_features: int) -> Tuned:
    """Nothing of any feature."""
    return Tuned(columns={name: pa.nulls(num_features, kind) for name, kind in COLUMNS.items()}, arrays={}, about={})


def tuned(
    tuning: Tuning, verdict_F: Sequence[Verdict], alive_F: NDArray[np.bool_], group: Group, config: AnalyseConfig
) -> Tuned:
    """What responses to the whole fixed set tell, beside what the decoder was said to have."""
    similarity_FG, steady_F = symmetry.tuned_similarity(tuning), symmetry.steady_share(tuning)
    driven_F = tuning.stimulus_F >= 0
    found_F = [
        symmetry.tuned_subgroup(
            similarity_G,
            steady,
            group,
            threshold=config.symmetry_threshold,
            invariant_share=config.invariant_share,
        )
        if driven
        else None
        for similarity_G, steady, driven in zip(similarity_FG, steady_F.tolist(), driven_F, strict=True)
    ]
    changing_F = [verdict.changing_subgroup for verdict in verdict_F]
    kind_activity_FK = tuning.activity_FK / _stimuli_a_kind()
    values = {
        **_best(tuning, kind_activity_FK, group),
        "tuning_selectivity": symmetry.selectivity(tuning.curve_FL),
        "tuning_steady_share": steady_F,
        "tuning_stabiliser": [each and each.name for each in found_F],
        "tuning_axis_deg": [each and each.axis_deg for each in found_F],
        "tuning_similarity": symmetry.similarity_over(similarity_FG, changing_F),
    }
    return Tuned(
        columns={name: _nullable(values[name], kind, driven_F) for name, kind in COLUMNS.items()},
        arrays={
            "tuning_curves": tuning.curve_FL,
            "tuning_self_similarity": similarity_FG.astype(np.float32),
            "kind_activity": kind_activity_FK.astype(np.float32),
        },
        about=_about(similarity_FG, found_F, verdict_F, alive_F & driven_F, group),
    )


def _best(tuning: Tuning, kind_activity_FK: NDArray[np.float64], group: Group) -> dict[str, Any]:
    """The stimulus that drives each feature most, of which kind it is, and how it was turned then."""
    stimuli, kinds, shown = fixed_set(), _kinds(), symmetry.shown_group(group)
    best_F = [stimuli[number] for number in tuning.stimulus_F]
    kind_F = np.array([kinds.index(each.kind) for each in best_F], np.int64)
    total_F = np.maximum(kind_activity_FK.sum(1), np.finfo(np.float64).tiny)
    near_FL = tuning.curve_FL >= NEARLY * tuning.largest_F[:, None]
    element_F = near_FL.argmax(1)
    return {
        "label": [each.kind for each in best_F],
        "label_share": np.take_along_axis(kind_activity_FK, kind_F[:, None], 1)[:, 0] / total_F,
        "tuning_stimulus": [each.name for each in best_F],
        "tuning_angle_deg": 360 * shown.turns[element_F] / shown.n,
        "tuning_mirrored": shown.mirrored[element_F],
    }


def _about(
    similarity_FG: NDArray[np.float64],
    found_F: Sequence[Subgroup | None],
    verdict_F: Sequence[Verdict],
    counted_F: NDArray[np.bool_],
    group: Group,
) -> dict[str, Any]:
    """Agreement over living features that a stimulus drives, and whose symmetry is not undecided."""
    counted_F = counted_F & np.array([verdict.words != UNDECIDED for verdict in verdict_F], bool)
    named = [verdict.subgroup if counted else None for verdict, counted in zip(verdict_F, counted_F, strict=True)]
    changing = [each.changing_subgroup if counted else None for each, counted in zip(verdict_F, counted_F, strict=True)]
    same = symmetry.agreement(named, found_F)
    over_F = symmetry.similarity_over(similarity_FG, changing)
    shown = symmetry.shown_group(group)
    return {
        "stimuli": {
            "kinds": _kinds(),
            "number": len(fixed_set()),
            "angles": shown.n,
            "mirrored": shown.has_mirrors,
            "features": 0 if same is None else same.num_features,
            "same_symmetry": None if same is None else same.same,
            "same_symmetry_dealt": None if same is None else same.dealt,
            "same_symmetry_beyond_chance": None if same is None else same.beyond_chance,
            "similarity": None if np.isnan(over_F).all() else float(np.nanmean(over_F)),
            "similarity_dealt": symmetry.dealt_similarity(similarity_FG, changing),
        }
    }


def _nullable(values: Any, kind: pa.DataType, driven_F: NDArray[np.bool_]) -> pa.Array:
    """Nothing where no stimulus drives the feature, or there is no number."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    known = [each if driven and each == each else None for each, driven in zip(plain, driven_F, strict=True)]
    return pa.array(known, kind)


def _kinds() -> list[str]:
    return list(dict.fromkeys(each.kind for each in fixed_set()))


def _stimuli_a_kind() -> NDArray[np.float64]:
    """(K,)"""
    every = [each.kind for each in fixed_set()]
    return np.array([every.count(kind) for kind in _kinds()], np.float64)
