"""Each score of planted truth is right where the answer is known, and low for what must fail."""

import numpy as np
import pytest

from gc_core import groups
from infra.bench import planted_scores as scores

D8 = groups.dihedral(8)
MIRRORS = [each for each in D8.subgroups() if each.name == "D_1"]
NOTHING, HALF_TURN = D8.subgroups()[0], next(each for each in D8.subgroups() if each.name == "C_2")
FAMILY = np.array([0, 0, 0, 1, 1, 2])
MISSING = scores.UNMATCHED


def test_matching_is_one_to_one_and_best_together() -> None:
    cosine = np.array([[0.9, 0.8], [0.9, 0.1], [0.2, 0.3]], np.float32)
    assert scores.match(cosine).tolist() == [1, 0, MISSING], "the first gives way to the second"
    assert scores.match(np.array([[0.75, 0.1], [0.1, 0.6]], np.float32)).tolist() == [0, MISSING], "too far away"
    assert scores.match(np.zeros((2, 0), np.float32)).tolist() == [MISSING, MISSING]


def test_mean_max_cosine_may_take_one_learned_feature_twice() -> None:
    cosine = np.array([[0.9, 0.8], [0.7, -0.1]], np.float32)
    assert scores.mean_max_cosine(cosine) == pytest.approx(0.8)
    assert scores.mean_max_cosine(cosine[:, :0]) == 0


def test_equal_families_score_one_whatever_their_numbers() -> None:
    label = np.array([7, 7, 5, 5, 5, 3])
    assert scores.family_ari(FAMILY, label, np.array([2, 3, 4, 0, 1, 5])) == 1


def test_families_that_are_split_joined_or_missed_score_less() -> None:
    own = np.arange(6)
    split = scores.family_ari(FAMILY, np.array([0, 0, 1, 2, 2, 3]), own)
    joined = scores.family_ari(FAMILY, np.array([0, 0, 0, 0, 0, 1]), own)
    missed = scores.family_ari(FAMILY, FAMILY, np.array([0, 1, MISSING, 3, 4, 5]))
    nothing = scores.family_ari(FAMILY, np.zeros(0, np.int64), np.full(6, MISSING))
    assert 0 < split < 1
    assert 0 < joined < 1
    assert missed == split, "what is not matched is a family of its own"
    assert nothing == pytest.approx(0)


def test_families_at_random_score_about_zero() -> None:
    rng = np.random.default_rng(0)
    family, label = rng.integers(5, size=(2, 2000))
    assert abs(scores.family_ari(family, label, np.arange(2000))) < 0.01


def test_a_family_is_found_where_most_of_its_features_are() -> None:
    label, partner = np.array([4, 4, 6, 6, 4]), np.array([0, 1, 2, 3, MISSING, MISSING])
    assert scores.found_in(FAMILY, label, partner) == [4, 6, None]


def test_each_family_counts_alike_for_stabilisers_and_what_is_missed_is_wrong() -> None:
    words, told, own = ["none", "mirror", "2-fold"], ["none", "none", "none", "mirror", "none", "2-fold"], np.arange(6)
    assert scores.stabiliser_accuracy(FAMILY, words, told, own) == pytest.approx((1 + 0.5 + 1) / 3)
    missing = np.array([0, 1, 2, 3, 4, MISSING])
    assert scores.stabiliser_accuracy(FAMILY, words, told, missing) == pytest.approx(0.5)
    undecided = ["undecided"] * 6
    assert scores.stabiliser_accuracy(FAMILY, words, undecided, own) == 0


def test_what_is_learned_is_judged_by_what_it_is_nearest_to() -> None:
    cosine = np.array([[0.9, 0.1, 0.5, 0.8], [0.1, 0.8, 0.6, 0.1]], np.float32)
    nearest = scores.nearest_family(cosine, np.array([4, 2]))
    assert nearest.tolist() == [4, 2, MISSING, 4]
    assert scores.learned_family_ari(nearest, np.array([1, 0, 5, 1])) == 1, "those that are missing do not count"
    assert scores.learned_family_ari(nearest, np.array([1, 0, 1, 1])) < 1, "what is near nothing belongs to nothing"
    words = ["", "", "mirror", "", "2-fold"]
    assert scores.learned_stabiliser_accuracy(nearest, words, ["2-fold", "mirror", "none", "none"]) == 0.75
    assert scores.learned_stabiliser_accuracy(nearest[:0], words, []) == 0


def test_false_positives_are_symmetries_and_not_doubts() -> None:
    assert scores.false_positive_rate(["none", "undecided", "mirror", "invariant"]) == 0.5
    assert scores.false_positive_rate([]) == 0


def test_an_axis_turns_with_the_feature() -> None:
    """What a mirror leaves as it is, turned by p, is left as it is by the mirror about the turned axis."""
    first = MIRRORS[0]
    for pose in range(D8.order):
        moved = scores.conjugated(first, pose, D8)
        told = next(each for each in MIRRORS if {*each.elements} == moved)
        right = scores.axis_accuracy([first], np.array([pose]), [told], np.array([0]), D8)
        unturned = scores.axis_accuracy([first], np.array([0]), [told], np.array([0]), D8)
        assert right == 1
        assert unturned == (told == first)


def test_axes_are_judged_where_the_class_is_right_and_has_one() -> None:
    zeros = np.zeros(3, np.int64)
    assert (
        scores.axis_accuracy([NOTHING, HALF_TURN, MIRRORS[0]], zeros, [NOTHING, HALF_TURN, HALF_TURN], zeros, D8)
        is None
    )
    both = scores.axis_accuracy([MIRRORS[0]] * 2, zeros[:2], [MIRRORS[0], MIRRORS[3]], zeros[:2], D8)
    assert both == 0.5


def test_steps_are_the_shorter_way_round_and_a_mirror_is_the_whole_way() -> None:
    told, truth = np.array([0, 1, 7, 4, 8, 9]), np.array([0, 0, 0, 0, 0, 8])
    assert scores.steps_between(told, truth, D8).tolist() == [0, 1, 1, 4, 4, 1]


@pytest.mark.parametrize("stabiliser", [NOTHING, HALF_TURN, MIRRORS[1]], ids=lambda each: each.name)
def test_a_pose_is_right_from_any_first_pose_up_to_the_stabiliser(stabiliser: groups.Subgroup) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(D8.order, size=50)
    same = np.array(stabiliser.elements)[rng.integers(stabiliser.order, size=50)]
    for first in range(D8.order):
        told = D8.cayley[D8.cayley[truth, same], first]
        assert not scores.pose_errors(told, truth, stabiliser, D8).any()


def test_poses_one_step_off_not_found_or_at_random_are_errors() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(D8.order, size=400)
    one_off = truth.copy()
    one_off[0] = D8.cayley[1, truth[0]]
    assert scores.pose_errors(one_off, truth, NOTHING, D8).tolist() == [1] + [0] * 399
    missed = truth.copy()
    missed[0] = -1
    assert scores.pose_errors(missed, truth, NOTHING, D8).tolist() == [4] + [0] * 399
    assert np.median(scores.pose_errors(rng.integers(D8.order, size=400), truth, NOTHING, D8)) > 2
    assert (scores.pose_errors(np.full(5, -1), truth[:5], NOTHING, D8) == 4).all()
