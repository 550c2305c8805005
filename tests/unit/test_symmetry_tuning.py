"""Tuning curves: the symmetry in responses is the one that was planted, and none where none was.

Letters: F features, S stimuli, L elements under which stimuli are shown, G group elements.
"""

from functools import reduce

import numpy as np
import pytest
from numpy.typing import NDArray

from gc_core import groups, symmetry
from gc_core.groups import Group, Subgroup
from gc_core.symmetry import Tuning
from gc_core.symmetry.tuning import LEAST_ANGLES

NUM_STIMULI, NUM_KINDS = 6, 3
SAME_NEVER = np.eye(1, 48, dtype=bool)[0]
"""A stimulus without a symmetry: only the first element leaves it as it is."""


def tuned(response_SFL: NDArray[np.float32], group: Group, same_SL: NDArray[np.bool_] | None = None) -> Tuning:
    """Responses to stimuli of three kinds in turn."""
    same_SL = np.tile(SAME_NEVER, (len(response_SFL), 1)) if same_SL is None else same_SL
    every = zip(response_SFL, same_SL, strict=True)
    parts = [
        symmetry.tuning_of(
            response_FL, group, stimulus=number, kind=number % NUM_KINDS, num_kinds=NUM_KINDS, same_L=same_L
        )
        for number, (response_FL, same_L) in enumerate(every)
    ]
    return reduce(symmetry.merged, parts)


def symmetric(subgroups: tuple[Subgroup, ...], group: Group, seed: int = 0) -> NDArray[np.float32]:
    """(S, F, L) one feature a subgroup, whose responses to any l.s and h.l.s are the same, and nothing else is."""
    shown = symmetry.shown_group(group)
    own_G = groups.embed(group, shown)
    noise_SFL = np.random.default_rng(seed).uniform(0, 1, (NUM_STIMULI, len(subgroups), shown.order))
    for feature, subgroup in enumerate(subgroups):
        moved = shown.cayley[own_G[list(subgroup.elements)]]  # (H, L)
        noise_SFL[:, feature] = noise_SFL[:, feature][:, moved].mean(1)
    return noise_SFL.astype(np.float32)


def found(tuning: Tuning, group: Group) -> list[Subgroup | None]:
    similarity_FG, steady_F = symmetry.tuned_similarity(tuning), symmetry.steady_share(tuning)
    return [
        symmetry.tuned_subgroup(each, float(steady), group, threshold=0.8, invariant_share=2.0)
        for each, steady in zip(similarity_FG, steady_F, strict=True)
    ]


@pytest.mark.parametrize(("name", "finer"), [("D4", "D_24"), ("D8", "D_24"), ("C6", "C_24"), ("D32", "D_32")])
def test_stimuli_are_shown_under_the_group_s_elements_and_finer_turns(name: str, finer: str) -> None:
    assert symmetry.shown_group(groups.parse(name)).name == finer


def test_no_group_shows_more_than_its_elements_and_the_missing_angles() -> None:
    """The analysis plans memory by it."""
    for n in range(1, 80):
        for group in (groups.dihedral(n), groups.cyclic(n)):
            assert symmetry.shown_group(group).order <= group.order + 2 * LEAST_ANGLES
            assert symmetry.shown_group(group).n >= LEAST_ANGLES


def test_the_plain_autoencoder_s_stimuli_are_turned_too() -> None:
    assert symmetry.shown_group(groups.trivial()).name == "C_24"


@pytest.mark.parametrize("name", ["D4", "D8", "C6"])
def test_every_planted_subgroup_is_found_axis_and_all(name: str) -> None:
    group = groups.parse(name)
    proper = tuple(each for each in group.subgroups() if each.order < group.order)
    order = symmetry.shown_group(group).order
    same_SL = np.tile(np.eye(1, order, dtype=bool), (NUM_STIMULI, 1))
    assert found(tuned(symmetric(proper, group), group, same_SL), group) == list(proper)


def test_what_is_symmetric_from_the_other_side_is_no_symmetry_of_the_feature() -> None:
    """The control: t[l h] = t[l] is the stimulus' symmetry. About an oblique axis it is another thing."""
    group = groups.parse("D8")
    shown, own_G = symmetry.shown_group(group), groups.embed(group, symmetry.shown_group(group))
    mirror = own_G[group.n + 1]
    noise_SFL = np.random.default_rng(0).uniform(0, 1, (NUM_STIMULI, 4, shown.order))
    right_SFL = (noise_SFL + noise_SFL[:, :, shown.cayley[:, mirror]]).astype(np.float32)
    assert [each and each.name for each in found(tuned(right_SFL, group), group)] == ["C_1"] * 4


def test_a_stimulus_says_nothing_of_a_symmetry_that_it_has_itself() -> None:
    """All responses to lines repeat after half a turn, so lines alone tell nothing of it."""
    group = groups.parse("D8")
    shown = symmetry.shown_group(group)
    half = shown.n // 2
    noise_SFL = np.random.default_rng(0).uniform(0, 1, (NUM_STIMULI, 5, shown.order))
    line_SFL = (noise_SFL + noise_SFL[:, :, shown.cayley[:, half]]).astype(np.float32)
    same_L = np.zeros(shown.order, bool)
    same_L[[0, half]] = True
    of_lines = tuned(line_SFL, group, np.tile(same_L, (NUM_STIMULI, 1)))
    assert np.isnan(symmetry.tuned_similarity(of_lines)[:, group.n // 2]).all()
    assert found(of_lines, group) == [None] * 5
    as_if_none = tuned(line_SFL, group)
    assert [each and each.name for each in found(as_if_none, group)] == ["C_2"] * 5, (
        "the control: counted, they mislead"
    )
    with_others = symmetry.merged(of_lines, tuned(noise_SFL.astype(np.float32), group))
    assert [each and each.name for each in found(with_others, group)] == ["C_1"] * 5


def test_circles_tell_nothing_of_invariance() -> None:
    group = groups.parse("D8")
    circle_SFL = np.full((NUM_STIMULI, 2, 48), 3.0, np.float32)
    of_circles = tuned(circle_SFL, group, np.ones((NUM_STIMULI, 48), bool))
    assert np.isnan(symmetry.steady_share(of_circles)).all()
    np.testing.assert_allclose(symmetry.steady_share(tuned(circle_SFL, group)), 1.0)


def test_steady_responses_are_invariant_and_changing_ones_are_not() -> None:
    group = groups.parse("D4")
    for steady, expected in ((0.95, "D_4"), (0.5, "C_1")):
        similarity_G = np.zeros(group.order)
        similarity_G[0] = 1.0
        told = symmetry.tuned_subgroup(similarity_G, steady, group, threshold=0.5, invariant_share=0.9)
        assert told is not None
        assert told.name == expected


def test_merging_is_the_same_in_any_bracketing_and_keeps_the_best_stimulus() -> None:
    group = groups.parse("D8")
    response_SFL = symmetric(group.subgroups()[:5], group)
    parts = [tuned(response_SFL[[number]], group) for number in range(NUM_STIMULI)]
    left = reduce(symmetry.merged, parts)
    right = symmetry.merged(parts[0], reduce(symmetry.merged, parts[1:]))
    for name in ("product_FG", "told_FG", "changing_F", "steady_F", "activity_FK"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name))
    whole = tuned(response_SFL, group)
    np.testing.assert_array_equal(whole.stimulus_F, response_SFL.max(2).argmax(0))
    np.testing.assert_array_equal(whole.largest_F, response_SFL.max((0, 2)))
    for feature, stimulus in enumerate(whole.stimulus_F):
        np.testing.assert_array_equal(whole.curve_FL[feature], response_SFL[stimulus, feature])
    by_kind = [response_SFL[kind::NUM_KINDS].mean(2).sum(0) for kind in range(NUM_KINDS)]
    np.testing.assert_allclose(whole.activity_FK, np.stack(by_kind, 1), rtol=1e-6)


def test_a_feature_that_nothing_drives_has_no_stimulus_and_no_numbers() -> None:
    group = groups.parse("D8")
    silent = tuned(np.zeros((NUM_STIMULI, 1, 48), np.float32), group)
    assert silent.stimulus_F.tolist() == [-1]
    assert np.isnan(symmetry.tuned_similarity(silent)).all()
    assert np.isnan(symmetry.steady_share(silent)).all()
    assert np.isnan(symmetry.selectivity(silent.curve_FL)).all()


def test_selectivity_is_zero_of_a_flat_curve_and_near_one_of_a_needle() -> None:
    curve_FL = np.stack([np.full(48, 2.0), np.eye(1, 48)[0], np.tile([1.0, 0.0], 24)]).astype(np.float32)
    np.testing.assert_allclose(symmetry.selectivity(curve_FL), [0.0, 47 / 48, 0.5])


def test_agreement_is_whole_with_itself_and_chance_when_dealt_out() -> None:
    group = groups.parse("D8")
    one, two = group.subgroups()[0], group.subgroups()[3]
    named = [one] * 30 + [two] * 20
    whole = symmetry.agreement([*named, None], [*named, one])
    assert whole is not None
    assert (whole.num_features, whole.same, whole.beyond_chance) == (50, 1.0, 1.0)
    assert whole.dealt == pytest.approx(0.6**2 + 0.4**2)
    rng = np.random.default_rng(0)
    deals = [symmetry.agreement(named, [named[i] for i in rng.permutation(50)]) for _ in range(400)]
    assert np.mean([each.same for each in deals if each]) == pytest.approx(whole.dealt, abs=0.02)
    assert symmetry.agreement([None], [one]) is None
    alike = symmetry.agreement([one], [one])
    assert alike is not None
    assert alike.beyond_chance is None


def test_planted_symmetries_have_high_similarity_and_dealt_ones_do_not() -> None:
    group = groups.parse("D8")
    proper = tuple(each for each in group.subgroups() if 1 < each.order < group.order)
    similarity_FG = symmetry.tuned_similarity(tuned(symmetric(proper, group), group))
    np.testing.assert_allclose(symmetry.similarity_over(similarity_FG, proper), 1.0, atol=1e-5)
    dealt = symmetry.dealt_similarity(similarity_FG, proper)
    assert dealt is not None
    assert dealt < 0.5
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(proper)) for _ in range(300)]
    deals = [symmetry.similarity_over(similarity_FG, [proper[i] for i in order]) for order in orders]
    assert np.mean(deals) == pytest.approx(dealt, abs=0.02)
    assert symmetry.dealt_similarity(similarity_FG, [None] * len(proper)) is None
    assert np.isnan(symmetry.similarity_over(similarity_FG[:2], [None, group.subgroups()[0]])).all()
