"""What is said of features: the largest symmetry that is strong and more than chance, the same however they are split.

Letters: F features, Q classes of subgroups, P p-values.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from gc_core import groups, symmetry
from gc_core.analyse import FeatureSymmetry
from gc_core.arrays import joined
from gc_core.groups import Group
from gc_core.symmetry.verdict import significance_level
from infra.bench.planted_symmetries import changing_unit, planted

D8, D16 = groups.dihedral(8), groups.dihedral(16)


def test_a_class_is_one_symmetry_about_any_axis_and_every_proper_subgroup_is_in_one() -> None:
    for group in (groups.cyclic(12), D8, groups.dihedral(9), groups.dihedral(12)):
        numbers = [number for one in symmetry.classes(group) for number in one.numbers]
        orders = [each.order for each in group.subgroups()]
        assert sorted(numbers) == [n for n, order in enumerate(orders) if 1 < order < group.order]
        for one in symmetry.classes(group):
            members = [group.subgroups()[number] for number in one.numbers]
            assert {each.name for each in members} == {one.name}
            conjugate = {
                frozenset(int(group.cayley[group.cayley[g, h], group.inverse[g]]) for h in each.elements)
                for g in range(group.order)
                for each in members
            }
            assert conjugate == {frozenset(each.elements) for each in members}
            assert one.order == members[0].order


@pytest.mark.parametrize(("group", "each"), [(D8, 4), (D16, 1), (groups.cyclic(16), 8)], ids=["D8", "D16", "C16"])
@pytest.mark.parametrize("imperfect", [0.0, 0.15])
def test_planted_symmetries_are_found_in_a_smooth_dictionary(group: Group, each: int, imperfect: float) -> None:
    rng, truth = np.random.default_rng(1), [h for h in group.subgroups() for _ in range(each)]
    features = [
        planted(group, h, each, rng=rng, width=3.0, imperfect=imperfect, invariant_share=0.5) for h in group.subgroups()
    ]
    found = symmetry.verdicts(torch.cat(features), group, threshold=0.5, invariant_share=0.9)
    right = [mine.words == symmetry.in_words(theirs, group) for mine, theirs in zip(found, truth, strict=True)]
    assert np.mean(right) >= 0.98
    axes = [(mine.subgroup == theirs) for mine, theirs in zip(found, truth, strict=True) if theirs.axis_deg is not None]
    assert np.mean([*axes, True]) >= 0.98


def test_an_exact_quarter_turn_is_no_weak_eighth_and_an_imperfect_eighth_is_no_quarter() -> None:
    rng = np.random.default_rng(2)
    quarter, eighth = (next(h for h in D8.subgroups() if h.name == name) for name in ("C_4", "C_8"))
    exact = planted(D8, quarter, 12, rng=rng, width=2.0)
    found = symmetry.verdicts(exact, D8, threshold=0.5, invariant_share=0.9)
    turned = symmetry.self_similarity(symmetry.changing_part(exact), D8)[:, 1:8]
    assert (turned > 0.5).all(), "every eighth of a turn is strong"
    assert {each.words for each in found} == {"chiral 4-fold"}
    imperfect = planted(D8, eighth, 12, rng=rng, width=2.0, imperfect=0.15)
    found = symmetry.verdicts(imperfect, D8, threshold=0.5, invariant_share=0.9)
    assert {each.words for each in found} == {"chiral 8-fold"}


@pytest.fixture(scope="module")
def mixed() -> torch.Tensor:
    rng = np.random.default_rng(3)
    return torch.cat([planted(D8, h, 5, rng=rng, channels=24, width=2.0) for h in D8.subgroups()])


def test_evidence_is_the_same_whichever_way_features_are_split(mixed: torch.Tensor) -> None:
    whole = symmetry.evidence_of(mixed, D8, surrogates=99, seed=4)
    squares, count = symmetry.alignment_of(mixed, D8).sum(0)
    parts = [
        symmetry.evidence_of(mixed[a:b], D8, features=range(a, b), alignment_2=(squares, count), surrogates=99, seed=4)
        for a, b in ((0, 1), (1, 30), (30, len(mixed)))
    ]
    together = joined(parts)
    for each in fields(symmetry.Evidence):
        np.testing.assert_allclose(
            getattr(together, each.name), getattr(whole, each.name), rtol=0, atol=1e-9, err_msg=each.name
        )
    other = symmetry.evidence_of(mixed, D8, surrogates=99, seed=5)
    assert not np.array_equal(other.p_FQ, whole.p_FQ)


def test_turning_the_stimulus_turns_the_axis_and_nothing_else(mixed: torch.Tensor) -> None:
    whole = symmetry.evidence_of(mixed, D8, surrogates=99)
    moved = symmetry.evidence_of(symmetry.translate(mixed, 3, D8), D8, surrogates=99)
    np.testing.assert_allclose(moved.strength_FQ, whole.strength_FQ, atol=1e-6)
    assert np.abs(moved.p_FQ - whole.p_FQ).mean() < 0.03


def test_an_interval_holds_the_score_and_narrows_with_channels(mixed: torch.Tensor) -> None:
    found = symmetry.verdicts(mixed, D8, threshold=0.5, invariant_share=0.95, surrogates=99)
    assert all(each.low <= each.score + 1e-9 and each.score <= each.high + 1e-9 for each in found)
    mirror, rng = next(h for h in D8.subgroups() if h.name == "D_1"), np.random.default_rng(0)

    def width(channels: int) -> float:
        features = planted(D8, mirror, 20, rng=rng, channels=channels, imperfect=0.2)
        found = symmetry.verdicts(features, D8, threshold=0.5, invariant_share=0.9)
        return float(np.mean([each.high - each.low for each in found]))

    assert width(320) < 0.7 * width(80)


def test_intervals_cover_the_similarity_of_the_channels_that_these_are_a_sample_of() -> None:
    """Of features whose channels are drawn alike; 95% nominally, and the bounds of the binomial."""
    mirror, rng = next(h for h in D8.subgroups() if h.name == "D_1"), np.random.default_rng(1)
    many = planted(D8, mirror, 1, rng=rng, channels=20_000, imperfect=0.2, invariant_share=0.0)[0]
    truth = float(symmetry.self_similarity(symmetry.changing_part(many[None].double()), D8)[0, mirror.elements[1]])
    samples = torch.stack([many[:, rng.integers(20_000, size=100)] for _ in range(100)])
    evidence = symmetry.evidence_of(samples, D8, surrogates=0)
    q = next(q for q, one in enumerate(symmetry.classes(D8)) if D8.subgroups().index(mirror) in one.numbers)
    covered = (evidence.low_FQ[:, q] <= truth) & (truth <= evidence.high_FQ[:, q])
    assert 85 <= covered.sum() <= 100


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.sampled_from([0.01, 0.05, 0.3]))
def test_significance_is_that_of_benjamini_and_hochberg(p_P: list[float], rate: float) -> None:
    level = significance_level(np.array(p_P)[:, None], rate)
    adjusted = false_discovery_control(p_P)
    clear = np.abs(adjusted - rate) > 1e-9
    np.testing.assert_array_equal((np.array(p_P) <= level)[clear], (adjusted <= rate)[clear])


def test_only_living_features_count_among_the_tests() -> None:
    rng = np.random.default_rng(0)
    mirror = next(h for h in D8.subgroups() if h.name == "D_1")
    features = torch.cat([planted(D8, h, n, rng=rng) for h, n in ((mirror, 1), (D8.subgroups()[0], 60))])
    evidence = symmetry.evidence_of(features, D8, surrogates=999)
    evidence = replace(evidence, p_FQ=np.maximum(evidence.p_FQ, 0.002))
    alone = np.arange(len(features)) == 0
    found, *_ = symmetry.decide(evidence, D8, threshold=0.5, invariant_share=0.9, tested_F=alone)
    hidden, *_ = symmetry.decide(evidence, D8, threshold=0.5, invariant_share=0.9)
    assert (found.words, hidden.words) == ("mirror", "none")


def test_a_rate_of_one_asks_only_whether_a_symmetry_is_strong() -> None:
    rng = np.random.default_rng(0)
    features = planted(D8, D8.subgroups()[0], 40, rng=rng, directions=1, width=1.0)
    similarity = symmetry.self_similarity(symmetry.changing_part(features.double()), D8).numpy()
    strong = [
        max(h.order for h in D8.subgroups() if h.order == 1 or similarity[f, list(h.elements[1:])].min() >= 0.5)
        for f in range(40)
    ]
    found = symmetry.verdicts(features, D8, threshold=0.5, invariant_share=0.99, rate=1.0, surrogates=0)
    assert [each.changing_subgroup.order for each in found] == strong
    assert len(set(strong)) > 1


def test_mirrors_that_one_direction_has_by_necessity_make_no_feature_chiral() -> None:
    """Every quarter turn the same in one direction of the channels: whether mirrored or not cannot be told."""
    curve_N = np.cos(2 * np.pi * 4 * np.arange(16) / 16)
    direction_C = np.random.default_rng(0).standard_normal(40)
    features = changing_unit((np.concatenate([curve_N, curve_N])[:, None] * direction_C)[None])
    (found,) = symmetry.verdicts(torch.from_numpy(features), D16, threshold=0.5, invariant_share=0.9)
    assert (found.words, found.subgroup.name) == ("undecided", "C_4")


def test_parts_are_joined_in_every_array() -> None:
    arrays = {each.name: np.arange(6.0).reshape(3, 2) for each in fields(FeatureSymmetry)}
    first = FeatureSymmetry(**arrays)
    second = FeatureSymmetry(**{name: array + 10 for name, array in arrays.items()})
    found = joined([first, second])
    for each in fields(FeatureSymmetry):
        assert getattr(found, each.name)[:, 0].tolist() == [0, 2, 4, 10, 12, 14], each.name
