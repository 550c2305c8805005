"""Kinds of samples that features of their own explain are kept apart, and kinds dealt out at random are not.

Letters: N samples, R features, K classes, G group elements, C channels.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gc_core import groups
from gc_core.images import ImageRef
from gc_core.io.run_folder import RunFolder
from gc_core.symmetry import spectrum
from infra.bench import separation
from infra.bench import separation_scores as scores
from infra.bench.planted_symmetries import planted as planted_features
from support.small_runs import write_run

GROUP, CHANNELS, IMAGES, ROWS_PER_IMAGE = groups.dihedral(4), 16, 80, 10
KINDS = ("circle", "curve", "line")


def test_families_of_one_class_each_are_pure_and_mixed_ones_are_not() -> None:
    activity_RK = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    assert scores.purity(scores.by_family(activity_RK, np.array([0, 0, 1]))) == 1
    assert scores.purity(scores.by_family(activity_RK, np.array([0, 1, 0]))) == pytest.approx((3 + 1) / 6)
    assert scores.purity(scores.by_family(activity_RK, np.array([0, 0, 0]))) == 0.5


def test_classes_count_alike_however_many_samples_they_have() -> None:
    activity_NR = np.array([[1.0], [1.0], [1.0], [1.0]])
    np.testing.assert_array_equal(scores.class_activity(activity_NR, np.array([0, 0, 0, 1]), 2), [[1.0, 1.0]])


def test_features_alone_are_pure_by_being_alone() -> None:
    activity_RK = np.random.default_rng(0).random((30, 3))
    alone = np.arange(30)
    assert scores.dealt_purity(activity_RK, alone, 0) == pytest.approx(scores.purity(activity_RK))
    together = alone // 10
    assert scores.dealt_purity(activity_RK, together, 0) < scores.purity(activity_RK)
    assert scores.rand_index(np.zeros(30, int), alone) is None


def test_a_silhouette_needs_classes_that_show_in_the_similarity() -> None:
    class_R = np.repeat([0, 1], 10)
    similarity_RR = np.where(class_R[:, None] == class_R, 0.9, 0.1)
    told = scores.silhouette(similarity_RR, class_R)
    assert told == pytest.approx(1 - 0.1 / 0.9)
    dealt = scores.silhouette(similarity_RR, np.tile([0, 1], 10))
    assert dealt is not None
    assert abs(dealt) < 0.2
    assert scores.silhouette(similarity_RR, np.zeros(20, int)) is None


def test_an_interval_holds_the_mean_and_narrows_with_features() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 400)
    mean, low, high = scores.mean_interval(values)
    assert low < mean < high
    _, few_low, few_high = scores.mean_interval(values[:25])
    assert few_high - few_low > 2 * (high - low)


@pytest.mark.parametrize("name", ["D8", "C9", "D2"])
def test_harmonics_are_shares_of_the_spectrum_without_the_unchanging_part(name: str) -> None:
    group = groups.parse(name)
    decoder_RGC = torch.randn(5, group.order, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    energy_RI, labels = spectrum(decoder_RGC, group), [irrep.label for irrep in group.irreps()]
    total_R = energy_RI.sum(1) - energy_RI[:, labels.index("A1" if group.has_mirrors else "A_0")]
    of_first = {"D8": ["E1"], "C9": ["A_1", "A_-1"], "D2": ["B1", "B2"]}[name]
    first_R = energy_RI[:, [n for n, label in enumerate(labels) if label in of_first]].sum(1)
    np.testing.assert_allclose(separation.harmonics(decoder_RGC, group)[:, 0], first_R / total_R, rtol=1e-6)


@pytest.fixture(scope="module")
def stimuli_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Samples of three kinds, each made of features of its own: with every pose of a rotation kept, of one mirror, of
    two."""
    rng, classes = np.random.default_rng(0), [4, 1, 2]
    kinds = []
    for mirrors in classes:
        subgroup = next(each for each in GROUP.subgroups() if each.name == f"D_{mirrors}")
        share = 1.0 if mirrors == GROUP.n else 0.3
        kinds.append(planted_features(GROUP, subgroup, 2, rng=rng, channels=CHANNELS, invariant_share=share).numpy())
    acts_NGC = np.zeros((IMAGES * ROWS_PER_IMAGE, GROUP.order, CHANNELS), np.float32)
    for row in range(len(acts_NGC)):
        features = kinds[row // ROWS_PER_IMAGE % len(KINDS)]
        feature_GC, turn = features[rng.integers(len(features))], rng.integers(GROUP.order)
        acts_NGC[row] = 3 * feature_GC[GROUP.cayley[:, turn]]
    acts_NGC += 0.02 * rng.standard_normal(acts_NGC.shape).astype(np.float32)
    refs = [ImageRef(url="stimuli:64", member=f"{KINDS[n % len(KINDS)]}-{n // len(KINDS)}") for n in range(IMAGES)]
    return write_run(tmp_path_factory.mktemp("stimuli"), acts_NGC, GROUP, refs=refs)


def test_kinds_are_kept_apart_and_the_control_s_are_not(stimuli_run: RunFolder, tmp_path: Path) -> None:
    args = ["--run", stimuli_run.url, "--seeds", "0", "--held-out", "150", "--prototypes", "8", "--features", "32"]
    args += ["--k", "1", "--steps", "150", "--json", str(tmp_path / "rows.json")]
    separation.main(args)
    rows: dict[tuple[str, bool], Any] = {
        (row["kind"], row["control"]): row for row in json.loads((tmp_path / "rows.json").read_text())
    }
    assert set(rows) == {(kind, control) for kind in ("tied", "untied", "sae") for control in (False, True)}
    for kind in ("tied", "untied", "sae"):
        assert rows[kind, False]["purity"] > 0.9
        assert rows[kind, True]["purity"] < 0.6
        assert rows[kind, False]["silhouette"] > rows[kind, True]["silhouette"] + 0.1
    assert rows["tied", False]["stimuli"]["circle"]["words"] == {"invariant": 1.0}
    assert rows["sae", False]["best_purity"] is not None
    selective = [
        sum(about["features"] for about in rows["untied", dealt]["stimuli"].values()) for dealt in (False, True)
    ]
    assert selective[1] < selective[0] == rows["untied", False]["living"]


def test_images_of_no_kind_are_refused(planted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        separation.main(["--run", planted.run.url, "--steps", "2", "--held-out", "20"])
    assert "expected drawn stimuli, or images" in " ".join(capsys.readouterr().out.split())
