"""The analysis held against what is known of the paper's network: responses of InceptionV1's units to drawn lines and
curves that others measured (Cammarata et al. 2021, Curve Circuits; Olah et al. 2020, An Overview of Early Vision).

Units are read as features over C_36 with one channel. A unit that prefers a turned stimulus has its tuning curve moved
forward, where rho(h) D[g] = D[g h] moves a feature back: so block g is the response to the stimulus turned by g^-1.

The measurements are not the project's to publish: they are read where they lie beside it.

Letters: F units, T orientations, G group elements.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core import groups, symmetry
from gc_core.families import Families, Source, family_gaps, find_families, shown_poses, sketched
from gc_core.symmetry import Verdict

MEASURED = Path(__file__).parents[3] / "shared" / "distill"
pytestmark = pytest.mark.skipif(
    not MEASURED.is_dir(), reason=f"no measured responses of InceptionV1's units in {MEASURED}"
)

C36 = groups.cyclic(36)
STEP_DEG = 10
IDENTITY = C36.subgroups()[0]
KNOWN_DEG = np.array([243, 268.5, 290, 358, 22.5, 66.5, 91.5, 110, 145, 181])
"""Preferred orientations of the ten curve neurons, in the file's order."""


def responses(file: str) -> NDArray[np.float64]:
    """(F, T) of each unit at orientations half a degree apart."""
    return np.loadtxt(MEASURED / file, delimiter=",", skiprows=1)[:, 1:].T


def as_features(response_FT: NDArray[np.float64]) -> Tensor:
    """(F, G, 1) blocks over C_36 of responses to one whole turn, T = 720."""
    return torch.from_numpy(response_FT[:, -20 * np.arange(36) % 720])[:, :, None]


def families_of(decoder_FGC: Tensor) -> Families:
    """By the analysis's own defaults."""
    source = Source(
        group=C36, read=lambda some: decoder_FGC[some], features=np.arange(len(decoder_FGC)), invariant_share=0.9
    )
    return find_families(sketched(source), least_similarity=0.5)


def verdicts_of(decoder_FGC: Tensor) -> list[Verdict]:
    return symmetry.verdicts(decoder_FGC, C36, threshold=0.5, invariant_share=0.9)


@pytest.fixture(scope="module")
def curves() -> Tensor:
    return as_features(responses("mixed3b-curve-neurons.csv"))


@pytest.fixture(scope="module")
def lines() -> NDArray[np.float64]:
    """(256, 720) responses to a line turned by a whole turn: it was drawn through half of one, and is the same after
    that."""
    return np.tile(responses("mixed3a-lines.csv"), (1, 2))


@pytest.fixture(scope="module")
def kinds() -> dict[str, list[int]]:
    """Units of mixed3a by the families that people sorted them into."""
    return json.loads((MEASURED / "mixed3a-unit-groups.json").read_text())


def test_their_preferred_orientations_are_those_of_the_file() -> None:
    np.testing.assert_array_equal(responses("mixed3b-curve-neurons.csv").argmax(1) / 2, KNOWN_DEG)


def test_the_ten_curve_neurons_are_one_family(curves: Tensor) -> None:
    found = families_of(curves)
    assert found.family_F.tolist() == [0] * 10
    assert found.similarity_F.min() > 0.9
    assert found.consistency_F[0] > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_with_their_orientations_shuffled_they_are_not(curves: Tensor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shuffled = torch.stack([each[torch.from_numpy(rng.permutation(36))] for each in curves])
    largest = np.bincount(families_of(shuffled).family_F + 1)[1:].max(initial=0)
    assert largest <= 6


def test_their_poses_are_the_known_preferred_orientations_to_one_step(curves: Tensor) -> None:
    """In whole steps, of which a pose is one; unrounded, curves of different shapes differ by up to 1.15 of them."""
    found = families_of(curves)
    pose_F = shown_poses(found, [IDENTITY] * 10, C36)
    known_F = np.round((KNOWN_DEG - KNOWN_DEG[found.representative_F[0]]) / STEP_DEG).astype(int)
    assert np.abs((pose_F - known_F + 18) % 36 - 18).max() <= 1


def test_the_two_orientations_without_a_curve_neuron_are_named(curves: Tensor) -> None:
    found = families_of(curves)
    told = family_gaps(found, [IDENTITY] * 10, C36)[0]
    assert told is not None
    representative = KNOWN_DEG[found.representative_F[0]]
    ends = sorted(((gap.from_deg + representative) % 360, gap.to_deg - gap.from_deg) for gap in told)
    known = [(181, 243 - 181), (290, 358 - 290)]
    assert len(ends) == 2
    for (begin, width), (known_begin, known_width) in zip(ends, known, strict=True):
        assert abs(begin - known_begin) <= 1.15 * STEP_DEG
        assert 60 < width <= known_width + STEP_DEG


def test_a_curve_neurons_energy_lies_in_the_known_harmonics(curves: Tensor) -> None:
    energy_FR = symmetry.spectrum(symmetry.changing_part(curves), C36)
    share_FR = energy_FR / energy_FR.sum(1, keepdim=True)
    frequency_R = np.array([int(irrep.label.removeprefix("A_")) for irrep in C36.irreps()])
    mean = [float(share_FR[:, np.abs(frequency_R) == harmonic].sum(1).mean()) for harmonic in (1, 2, 3, 4)]
    assert mean == pytest.approx([0.47, 0.29, 0.13, 0.06], abs=0.02)


def test_curve_neurons_have_no_symmetry_under_rotation(curves: Tensor) -> None:
    assert {each.words for each in verdicts_of(curves)} == {"none"}


def test_line_units_are_2_fold_and_no_more(lines: NDArray[np.float64], kinds: dict[str, list[int]]) -> None:
    """That they are not less follows from the stimulus. What was measured is that they turn no more often, and that so
    much of them changes; of colour units, which a line's orientation hardly matters to, the most are not 2-fold."""
    words = {
        kind: [each.words for each in verdicts_of(as_features(lines[units]))]
        for kind, units in kinds.items()
        if kind in ("Lines", "Color Center-Surround")
    }
    assert words["Lines"] == ["2-fold"] * 14
    assert words["Color Center-Surround"].count("2-fold") < len(words["Color Center-Surround"]) / 2


def test_within_half_a_turn_line_units_repeat_nothing(lines: NDArray[np.float64], kinds: dict[str, list[int]]) -> None:
    """The half turn stretched to a whole one: whatever they repeat there, they repeat more than twice in a turn."""
    stretched = np.repeat(lines[kinds["Lines"], :360], 2, axis=1)
    assert {each.words for each in verdicts_of(as_features(stretched))} == {"none"}


def test_with_their_orientations_shuffled_line_units_are_not_2_fold(
    lines: NDArray[np.float64], kinds: dict[str, list[int]]
) -> None:
    rng = np.random.default_rng(0)
    features = as_features(lines[kinds["Lines"]])
    shuffled = torch.stack([each[torch.from_numpy(rng.permutation(36))] for each in features])
    assert "2-fold" not in {each.words for each in verdicts_of(shuffled)}
