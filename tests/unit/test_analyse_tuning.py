"""What the table says of drawn stimuli: stored and read back, null where nothing is known, agreement beside chance.

Letters: F features, L elements under which stimuli are shown, G group elements, K kinds.
"""

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from gc_core import analyse, groups, symmetry
from gc_core.analyse import Tuned, load_features, merge_firing, watch_shards, write_features
from gc_core.analyse.tuning import COLUMNS
from gc_core.config import AnalyseConfig
from gc_core.families import numbered
from gc_core.groups import Subgroup
from gc_core.images.catalogue import fixed_set
from gc_core.store import open_store
from gc_core.symmetry import Tuning, Verdict
from support.random_crosscoders import random_crosscoder
from support.small_runs import MakeRun

GROUP = groups.dihedral(4)
SHOWN = symmetry.shown_group(GROUP)
STIMULI = fixed_set()
KINDS = list(dict.fromkeys(each.kind for each in STIMULI))
CONFIG = AnalyseConfig()
SUBGROUPS = GROUP.subgroups()[:-1] * 4
"""Of the features, four times each."""
CURVE = next(number for number, each in enumerate(STIMULI) if each.kind == "curve")


def planted() -> Tuning:
    """Features whose responses have these symmetries, all driven most by one curve at the tenth element, or (the last)
    by nothing."""
    rng = np.random.default_rng(0)
    own_G = groups.embed(GROUP, SHOWN)
    parts = []
    for number in range(0, len(STIMULI), 4):
        response_FL = rng.exponential(1, (len(SUBGROUPS) + 1, SHOWN.order)).astype(np.float32)
        for feature, subgroup in enumerate(SUBGROUPS):
            response_FL[feature] = response_FL[feature, SHOWN.cayley[own_G[list(subgroup.elements)]]].mean(0)
        response_FL[-1] = 0
        parts.append(part(number, response_FL))
    needle_FL = np.zeros((len(SUBGROUPS) + 1, SHOWN.order), np.float32)
    needle_FL[:-1, 10] = 100
    return reduce(symmetry.merged, [*parts, replace(part(CURVE, needle_FL), changing_F=0 * parts[0].changing_F)])


def part(number: int, response_FL: np.ndarray) -> Tuning:
    kind = KINDS.index(STIMULI[number].kind)
    same_L = np.eye(1, SHOWN.order, dtype=bool)[0] | (number == CURVE)  # a needle that tells nothing of symmetry
    return symmetry.tuning_of(response_FL, GROUP, stimulus=number, kind=kind, num_kinds=len(KINDS), same_L=same_L)


def verdicts(subgroups: list[Subgroup], words: str = "mirror") -> list[Verdict]:
    numbers = {"score": 0.9, "weakest": 0.9, "low": 0.9, "high": 0.9, "p": 0.001}
    return [Verdict(subgroup=each, changing_subgroup=each, words=words, **numbers) for each in subgroups]


def told(subgroups: list[Subgroup], words: str = "mirror") -> Tuned:
    named = [*subgroups, GROUP.subgroups()[0]]
    return analyse.tuned(planted(), verdicts(named, words), np.ones(len(named), bool), GROUP, CONFIG)


def test_each_feature_has_the_label_of_the_stimulus_that_drives_it_most() -> None:
    columns = {name: values.to_pylist() for name, values in told(list(SUBGROUPS)).columns.items()}
    assert list(columns) == list(COLUMNS)
    assert columns["label"][:-1] == ["curve"] * len(SUBGROUPS)
    assert columns["tuning_stimulus"][0] == STIMULI[CURVE].name
    assert columns["tuning_angle_deg"][0] == 150.0
    assert columns["tuning_mirrored"][0] is False
    assert columns["tuning_selectivity"][0] == pytest.approx(47 / 48)
    assert {values[-1] for values in columns.values()} == {None}, "nothing drives the last one"


def test_the_share_of_the_label_counts_each_kind_alike() -> None:
    found, tuning = told(list(SUBGROUPS)), planted()
    mean_FK = found.arrays["kind_activity"]
    kind = KINDS.index("curve")
    np.testing.assert_allclose(
        mean_FK[:, kind], tuning.activity_FK[:, kind] / sum(each.kind == "curve" for each in STIMULI), rtol=1e-6
    )
    expected = mean_FK[0, kind] / mean_FK[0].sum()
    assert found.columns["label_share"][0].as_py() == pytest.approx(expected)


def test_symmetries_that_agree_are_told_from_those_dealt_out_at_random() -> None:
    same = told(list(SUBGROUPS))
    assert same.columns["tuning_stabiliser"].to_pylist()[:-1] == [each.name for each in SUBGROUPS]
    about = same.about["stimuli"]
    assert about["features"] == len(SUBGROUPS)
    assert (about["same_symmetry"], about["same_symmetry_beyond_chance"]) == (1.0, 1.0)
    assert about["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert about["same_symmetry_dealt"] < 0.4
    assert about["similarity_dealt"] < 0.6
    order = np.random.default_rng(1).permutation(len(SUBGROUPS))
    dealt = told([SUBGROUPS[i] for i in order]).about["stimuli"]
    assert abs(dealt["same_symmetry_beyond_chance"]) < 0.25
    assert dealt["similarity"] == pytest.approx(about["similarity_dealt"], abs=0.15)


def test_undecided_and_dead_features_do_not_count() -> None:
    assert told(list(SUBGROUPS), words="undecided").about["stimuli"]["features"] == 0
    dead_F = np.zeros(len(SUBGROUPS) + 1, bool)
    found = analyse.tuned(planted(), verdicts([*SUBGROUPS, SUBGROUPS[0]]), dead_F, GROUP, CONFIG)
    assert found.about["stimuli"]["same_symmetry"] is None
    assert found.about["stimuli"]["similarity"] is None


@pytest.mark.parametrize("shown", [True, False])
def test_what_stimuli_told_is_stored_and_without_them_columns_are_null(shown: bool, make_run: MakeRun) -> None:
    acts_NGC = np.random.default_rng(0).standard_normal((300, GROUP.order, 5)).astype(np.float32)
    run, count = make_run(acts_NGC, GROUP), len(SUBGROUPS) + 1
    model = random_crosscoder(group="D_4", dict_size=count).float()
    store = open_store(run)
    firing = merge_firing(
        [watch_shards(store, range(store.num_shards), model, top_examples=2)], store.image, top_examples=2
    )
    described = analyse.describe_features(model, np.arange(count))
    judged = analyse.judge(analyse.evidence_of_features(model, np.arange(count), (0.0, 0.0), CONFIG), GROUP, CONFIG)
    found = told(list(SUBGROUPS))
    for tuned in (found, found if shown else None):  # the second time over what the first left
        write_features(run, "one", described, judged, firing, numbered([], count), GROUP, {}, tuned)
    table = load_features(run, "one")
    for name in COLUMNS:
        expected = found.columns[name].to_pylist() if shown else [None] * count
        assert [row[name] for row in table.rows] == expected
    for name, values in found.arrays.items():
        assert (name in table.arrays) == shown
        if shown:
            np.testing.assert_array_equal(table.arrays[name], values)
    assert ("stimuli" in table.attrs) == shown
