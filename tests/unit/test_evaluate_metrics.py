"""Metrics that other libraries report equal their plain formulas on arrays, and tell chance from structure.

Letters: B N samples, I images, F features, G group elements, C channels, K classes.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csc_array
from sklearn.metrics import roc_auc_score
from torch import Tensor

from gc_core import groups
from gc_core.evaluate import (
    classes_of,
    density_histogram,
    geometry,
    histogram,
    hoyer_sparsity,
    largest_cosines,
    one_feature_auc,
    probe,
    purity,
)
from gc_core.evaluate.classes import class_name
from gc_core.images import ImageRef
from gc_core.symmetry import translate

D4 = groups.dihedral(4)


def decoder(num_features: int, seed: int = 0) -> Tensor:
    return torch.randn(num_features, 8, 5, generator=torch.Generator().manual_seed(seed))


def sparse_codes(num_samples: int, num_features: int, seed: int = 0) -> np.ndarray:
    """(N, F), two thirds zero, with many equal values."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 5, (num_samples, num_features)) * (rng.random((num_samples, num_features)) < 1 / 3) / 4


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(geometry, "COLUMNS_AT_ONCE", 4)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("num_features", [2, 3, 10])
def test_the_largest_cosine_is_the_plain_one_with_any_other(num_features: int) -> None:
    features = decoder(num_features)
    unit_FD = torch.nn.functional.normalize(features.flatten(1), dim=1)
    plain_FF = (unit_FD @ unit_FD.T).fill_diagonal_(-2)
    torch.testing.assert_close(largest_cosines(features), plain_FF.amax(1))
    some = torch.linspace(0, num_features - 1, min(4, num_features), dtype=torch.float64).long()
    torch.testing.assert_close(largest_cosines(features, most=4), plain_FF.amax(1)[some])


@pytest.mark.usefixtures("small_blocks")
def test_a_turned_twin_is_found_up_to_pose_alone_and_no_feature_is_its_own_twin() -> None:
    features = decoder(9)
    twins = torch.cat([features, 3 * translate(features[[4]], 5, D4)])
    assert largest_cosines(twins).max() < 0.95
    nearest = largest_cosines(twins, up_to_pose_of=D4)
    assert nearest[[4, 9]].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert nearest[[0, 1, 2, 3, 5, 6, 7, 8]].max() < 0.95


def test_a_feature_alone_has_no_nearest_and_one_with_zeros_a_cosine_of_zero() -> None:
    assert largest_cosines(decoder(1)).isnan().all()
    assert largest_cosines(torch.cat([decoder(1), torch.zeros(1, 8, 5)])).tolist() == [0, 0]


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30).filter(lambda v: max(map(abs, v)) > 1e-3))
def test_hoyer_sparsity_is_between_even_and_one_alone_and_keeps_to_itself_under_scale(values: list[float]) -> None:
    found = float(hoyer_sparsity(torch.tensor(values, dtype=torch.float64)))
    ratio = sum(map(abs, values)) / sum(value**2 for value in values) ** 0.5
    assert found == pytest.approx((len(values) ** 0.5 - ratio) / (len(values) ** 0.5 - 1), abs=1e-9)
    assert -1e-9 <= found <= 1 + 1e-9
    assert float(hoyer_sparsity(-7 * torch.tensor(values, dtype=torch.float64))) == pytest.approx(found, abs=1e-9)


def test_hoyer_sparsity_has_its_two_ends_and_is_undefined_for_zeros() -> None:
    found = hoyer_sparsity(torch.tensor([[0.0, 3, 0], [2, -2, 2], [0, 0, 0]]))
    assert found[:2].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert found[2].isnan()
    assert hoyer_sparsity(torch.ones(4, 1)).isnan().all()
    assert hoyer_sparsity(torch.tensor([[0.0, 1], [3, 1]]), dim=0).tolist() == pytest.approx([1, 0], abs=1e-6)


def test_histograms_count_each_value_once_those_outside_at_the_ends() -> None:
    found = histogram(np.array([-9, 0.1, 0.5, 1, 9]), np.array([0, 0.5, 1]))
    assert found.counts == [2, 3]
    rare = density_histogram(np.array([0, 1e-9, 1e-6, 0.5, 1]))
    assert sum(rare.counts) == 4, "the dead one is left out"
    assert (rare.counts[0], rare.counts[-2], rare.counts[-1]) == (2, 1, 1)


@pytest.mark.parametrize("seed", range(4))
def test_the_area_of_one_feature_is_scikit_learns(seed: int) -> None:
    z_NF, label_N = sparse_codes(50, 7, seed), np.random.default_rng(seed).integers(0, 3, 50)
    z_NF[:, 6] = 0
    found = one_feature_auc(z_NF, label_N, 4)
    for feature in range(7):
        for k in range(3):
            assert found[feature, k] == pytest.approx(roc_auc_score(label_N == k, z_NF[:, feature]))
    assert np.isnan(found[:, 3]).all(), "no sample is of the last class"
    np.testing.assert_array_equal(found, one_feature_auc(csc_array(z_NF), label_N, 4))


def test_purity_is_the_best_classs_share_of_mean_codes() -> None:
    z_NF, label_N = sparse_codes(40, 6), np.repeat([0, 1, 2], [5, 10, 25])
    z_NF[:, 4], z_NF[:, 5] = 0, label_N == 1
    mean_KF = np.stack([z_NF[label_N == k].mean(0) for k in range(3)])
    found = purity(z_NF, label_N, 3)
    np.testing.assert_allclose(found[:4], mean_KF.max(0)[:4] / mean_KF.sum(0)[:4])
    assert np.isnan(found[4])
    assert found[5] == 1
    assert purity(np.ones((40, 1)), label_N, 3) == pytest.approx(1 / 3)


def two_classes(num_images: int = 40, per_image: int = 5, tells: bool = True) -> tuple[np.ndarray, ...]:
    """Codes of 30 features of which the eighth fires for the second class alone, if one tells; the last image is of no
    known class."""
    image_N = np.repeat(np.arange(num_images), per_image)
    label_I = np.arange(num_images) % 2
    z_NF = sparse_codes(len(image_N), 30)
    if tells:
        z_NF[:, 8] = label_I[image_N] * (0.5 + z_NF[:, 8])
    label_I[-1] = -1
    return z_NF, image_N, label_I


def test_a_feature_that_tells_a_class_is_found_well_above_chance() -> None:
    z_NF, image_N, label_I = two_classes()
    found = probe(csc_array(z_NF), image_N, label_I, ["a", "b"])
    assert found is not None
    assert [(each.name, each.num_images) for each in found.classes] == [("a", 20), ("b", 19)]
    assert (found.classes[1].feature, found.classes[1].auc) == (8, 1)
    assert found.chance_mean_auc < 0.75
    assert found.purity > found.chance_purity


def test_where_no_feature_tells_the_best_of_many_is_what_chance_gives() -> None:
    z_NF, image_N, label_I = two_classes(tells=False)
    found = probe(z_NF, image_N, label_I, ["a", "b"])
    assert found is not None
    assert found.mean_auc > 0.55, "the best of thirty"
    assert found.mean_auc == pytest.approx(found.chance_mean_auc, abs=0.05)
    assert found.purity == pytest.approx(found.chance_purity, abs=0.03)


def test_probing_needs_two_classes_and_a_feature_that_fires() -> None:
    z_NF, image_N, label_I = two_classes()
    assert probe(np.zeros_like(z_NF), image_N, label_I, ["a", "b"]) is None
    with pytest.raises(ValueError, match="images of 1 classes found, expected of each of 2, and two at least"):
        probe(z_NF, image_N, np.zeros_like(label_I), ["a", "b"])


@pytest.mark.parametrize(
    ("url", "member", "expected"),
    [
        ("stimuli:61", "curve-12", "curve"),
        ("builtin:skimage", "astronaut.png", None),
        ("file:///data/cats%20and%20dogs/1.jpg", "", "cats and dogs"),
        ("file:///1.jpg", "", None),
        ("s3://bucket/val/dog/1.jpg", "", "dog"),
        ("file:///data/all.tar", "train/dog/1.jpg", "dog"),
        ("file:///data/all.tar", "1.jpg", None),
    ],
)
def test_a_class_is_the_folder_or_the_kind_of_a_stimulus(url: str, member: str, expected: str | None) -> None:
    assert class_name(ImageRef(url=url, member=member)) == expected


def test_classes_are_of_two_images_at_least_and_two_in_number() -> None:
    folders = ["dog", "cat", "dog", "cat", "fox"]
    refs = [ImageRef(url=f"file:///{folder}/{place}.jpg") for place, folder in enumerate(folders)]
    found = classes_of(refs)
    assert found is not None
    assert (found.names, found.label_I.tolist()) == (["cat", "dog"], [1, 0, 1, 0, -1])
    assert classes_of(refs[:3]) is None
    assert classes_of([refs[0]] * 5) is None
