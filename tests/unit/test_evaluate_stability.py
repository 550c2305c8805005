"""Matching finds a permutation again, and the same features turned; dictionaries with nothing in common match badly.

Letters: F features, J features of the other crosscoder, G group elements, C channels.
"""

from itertools import permutations

import numpy as np
import pytest
import torch

from gc_core.crosscoder import GroupCrosscoder
from gc_core.evaluate import compare, matching, stability
from gc_core.evaluate.matching import matched_among_nearest, matched_cosines
from gc_core.evaluate.stability import cosine_rows
from support.random_crosscoders import random_crosscoder


def dictionary(seed: int, *, num_features: int = 30, channels: int = 24) -> GroupCrosscoder:
    model = random_crosscoder(dict_size=num_features, channels=channels)
    generator = torch.Generator().manual_seed(seed)
    model.W_dec.data = torch.randn(model.W_dec.shape, dtype=torch.float64, generator=generator)
    return model


def permuted(model: GroupCrosscoder, *, pose: int | None = None, noise: float = 0.0) -> GroupCrosscoder:
    """The same features in another order, of other sizes, seen after all were turned, not quite exact."""
    other = dictionary(0)
    order = torch.randperm(len(model.W_dec), generator=torch.Generator().manual_seed(7))
    decoder_FGC = model.W_dec.data[order]
    if pose is not None:
        decoder_FGC = decoder_FGC[:, model.group.cayley[:, pose]]
    blur_FGC = torch.randn(decoder_FGC.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    other.W_dec.data = (decoder_FGC + noise * blur_FGC) * torch.linspace(0.5, 4, len(order))[:, None, None]
    return other


def all_cosines(mine_FGC: torch.Tensor, theirs_JGC: torch.Tensor, *up_to_pose_of: GroupCrosscoder) -> np.ndarray:
    return np.concatenate(list(cosine_rows(mine_FGC, theirs_JGC, *up_to_pose_of)))


def test_the_same_features_in_another_order_match_perfectly() -> None:
    model = dictionary(1)
    found = compare(model, permuted(model), up_to_pose=False)
    assert found.num_pairs == 30
    assert found.as_is.mean == pytest.approx(1, abs=1e-6)
    assert (found.as_is.share_above_70, found.as_is.share_above_90) == (1, 1)
    assert found.as_is.chance_mean < 0.35
    assert found.up_to_pose is None


def test_noise_lowers_the_match_by_as_much_as_it_turns_vectors() -> None:
    model = dictionary(1)
    found = compare(model, permuted(model, noise=0.5), up_to_pose=False).as_is
    assert found.mean == pytest.approx(1 / np.sqrt(1.25), abs=0.02)
    assert (found.share_above_70, found.share_above_90) == (1, pytest.approx(0.5, abs=0.35))


def test_turned_features_match_only_up_to_pose() -> None:
    model = dictionary(1)
    found = compare(model, permuted(model, pose=4), up_to_pose=True)
    assert found.up_to_pose is not None
    assert found.up_to_pose.mean == pytest.approx(1, abs=1e-5)
    assert found.as_is.mean < 0.35


def test_unrelated_dictionaries_match_no_better_than_chance_says() -> None:
    found = compare(dictionary(1), dictionary(2), up_to_pose=True)
    assert found.up_to_pose is not None
    for agreement in (found.as_is, found.up_to_pose):
        assert agreement.mean == pytest.approx(agreement.chance_mean, abs=0.03)
        assert agreement.mean < 0.4
        assert agreement.share_above_70 == 0


def test_the_pairs_are_the_best_of_all_assignments() -> None:
    cosine_FJ = np.random.default_rng(0).uniform(-1, 1, (4, 6)).astype(np.float32)
    best = max(sum(cosine_FJ[f, j] for f, j in enumerate(chosen)) for chosen in permutations(range(6), 4))
    assert matched_cosines(lambda: [cosine_FJ[:3], cosine_FJ[3:]], 4, 6).sum() == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(("num_features", "num_others"), [(60, 60), (40, 60), (60, 40), (1, 5), (5, 1)])
def test_matching_among_the_nearest_is_matching_of_all_where_partners_are_near(
    monkeypatch: pytest.MonkeyPatch, num_features: int, num_others: int
) -> None:
    monkeypatch.setattr(matching, "NEAREST", 8)
    rng, count = np.random.default_rng(0), max(num_features, num_others)
    theirs = rng.standard_normal((count, 30))
    mine = theirs[rng.permutation(count)] + 0.6 * rng.standard_normal((count, 30))
    cosine_FJ = np.corrcoef(mine[:num_features], theirs[:num_others])[:num_features, num_features:].astype(np.float32)

    def rows() -> list[np.ndarray]:
        return [cosine_FJ[:17], cosine_FJ[17:]] if num_features > 17 else [cosine_FJ]

    every = np.sort(matched_cosines(rows, num_features, num_others))
    np.testing.assert_allclose(np.sort(matched_among_nearest(rows, num_features, num_others)), every, atol=1e-6)
    assert len(every) == min(num_features, num_others)


def test_where_all_want_the_same_partner_more_candidates_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "NEAREST", 1)
    cosine_FJ = np.random.default_rng(0).uniform(-1, 1, (12, 12)).astype(np.float32)
    cosine_FJ[:, 0] = np.linspace(0.99, 1, 12)
    found = matched_among_nearest(lambda: [cosine_FJ], 12, 12)
    best = matched_cosines(lambda: [cosine_FJ], 12, 12)
    assert len(found) == 12
    assert best.sum() - 0.5 < found.sum() <= best.sum() + 1e-5


def test_large_sets_are_matched_among_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    model = dictionary(1)
    expected = compare(model, permuted(model, noise=0.5), up_to_pose=False).as_is
    monkeypatch.setattr(matching, "MOST_AT_ONCE", 20)
    monkeypatch.setattr(matching, "linear_sum_assignment", None)  # of all pairs
    found = compare(model, permuted(model, noise=0.5), up_to_pose=False).as_is
    assert found.mean == pytest.approx(expected.mean, rel=1e-6)
    assert found.chance_mean == pytest.approx(expected.chance_mean, rel=1e-3)


def test_blocks_do_not_change_similarities(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = dictionary(1), dictionary(2)
    whole = all_cosines(model.W_dec.data, other.W_dec.data, model)
    monkeypatch.setattr(stability, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(all_cosines(model.W_dec.data, other.W_dec.data, model), whole, atol=1e-6)
    turned_HJGC = torch.stack([other.W_dec.data[:, model.group.cayley[:, h]] for h in range(model.group.order)])
    plain = np.max([all_cosines(model.W_dec.data, turned_JGC) for turned_JGC in turned_HJGC], axis=0)
    np.testing.assert_allclose(whole, plain, atol=1e-6)


def test_a_decoder_of_zeros_is_like_nothing() -> None:
    model = dictionary(1)
    model.W_dec.data[0] = 0
    found = all_cosines(model.W_dec.data, model.W_dec.data)
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(np.diagonal(found)[1:], 1, rtol=1e-6)


def test_dictionaries_of_two_sizes_match_as_many_as_the_smaller_has() -> None:
    model, larger = dictionary(1, num_features=10), dictionary(1)
    larger.W_dec.data[5:15] = model.W_dec.data
    found = compare(model, larger, up_to_pose=False)
    assert (found.num_pairs, found.as_is.mean) == (10, pytest.approx(1, abs=1e-6))


def test_crosscoders_over_other_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="a crosscoder over C_4 with 24 channels found, expected one over D_3 with 24"):
        compare(dictionary(1), random_crosscoder(group="C_4", channels=24), up_to_pose=False)
