"""Symmetries over groups that are given by their tables: planted ones are found, and chance gives none.

Letters: F features, G group elements, C channels.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups, symmetry
from gc_core.groups import Subgroup, TableGroup
from support.table_groups import table_group

CHANNELS = 48
NAMES = ["S3", "Q8", "A4", "D4xC2"]


def planted(group: TableGroup, subgroup: Subgroup, count: int, *, imperfect: float = 0.0, seed: int = 0) -> Tensor:
    """(F, G, C) noise made the same under right translation by the subgroup, about a large steady part."""
    noise_FGC = torch.randn(count, group.order, CHANNELS, generator=torch.Generator().manual_seed(seed)).double()
    same_FGC = sum(symmetry.translate(noise_FGC, h, group) for h in subgroup.elements) / subgroup.order**0.5
    return 2 + same_FGC + imperfect * torch.randn(noise_FGC.shape, generator=torch.Generator().manual_seed(seed + 1))


@pytest.mark.parametrize("imperfect", [0.0, 0.3])
@pytest.mark.parametrize("name", NAMES)
def test_planted_subgroups_are_found_and_named(name: str, imperfect: float) -> None:
    group = table_group(name)
    subgroups = group.subgroups()[:-1]
    decoder_FGC = torch.cat(
        [planted(group, each, 2, imperfect=imperfect, seed=2 * n) for n, each in enumerate(subgroups)]
    )
    found = symmetry.verdicts(decoder_FGC, group, threshold=0.5, invariant_share=0.97, surrogates=199)
    truth = [each for each in subgroups for _ in range(2)]
    assert np.mean([one.subgroup == each for one, each in zip(found, truth, strict=True)]) >= 0.95
    words = {one.words for one in found}
    assert {"none", f"subgroup of order {subgroups[-1].order}"} <= words


@pytest.mark.parametrize("name", NAMES)
def test_noise_has_no_symmetry(name: str) -> None:
    group = table_group(name)
    decoder_FGC = planted(group, group.subgroups()[0], 60, seed=7)
    found = symmetry.verdicts(decoder_FGC, group, threshold=0.0, invariant_share=0.97, surrogates=199)
    assert np.mean([one.subgroup.order > 1 for one in found]) <= 0.05


def test_one_column_in_one_direction_of_the_channels_is_symmetric_by_necessity() -> None:
    group = table_group("D4t")
    plane = next(each for each in group.real_irreps if each.matrices.shape[1] == 2)
    mirrored = next(
        h for h in group.subgroups() if h.order == 2 and abs(np.trace(plane.matrices[h.elements[1]])) < 1e-6
    )
    values, vectors = np.linalg.eigh(plane.matrices[mirrored.elements[1]])
    curve_G = plane.matrices[:, 0] @ vectors[:, values.argmax()]
    decoder_FGC = torch.from_numpy(curve_G)[None, :, None] * torch.randn(6, 1, CHANNELS).double()
    found = symmetry.verdicts(decoder_FGC, group, threshold=0.5, invariant_share=0.9, surrogates=199)
    assert {one.words for one in found} == {"undecided"}


def test_a_feature_that_nothing_changes_is_invariant() -> None:
    group = table_group("A4")
    steady = planted(group, group.subgroups()[-1], 3)
    found = symmetry.verdicts(steady, group, threshold=0.5, invariant_share=0.9, surrogates=19)
    assert {one.words for one in found} == {"invariant"}


def test_a_dihedral_group_as_a_table_gives_the_same_energies_and_similarities() -> None:
    table, plane = table_group("D4t"), groups.dihedral(4)
    decoder_FGC = planted(table, table.subgroups()[0], 5)
    torch.testing.assert_close(
        symmetry.self_similarity(decoder_FGC, table), symmetry.self_similarity(decoder_FGC, plane)
    )
    found, expected = (
        dict(
            zip(
                (tuple(np.round(np.trace(r.matrices, axis1=1, axis2=2).real, 6) + 0.0) for r in group.irreps()),
                symmetry.spectrum(decoder_FGC, group).T,
                strict=True,
            )
        )
        for group in (table, plane)
    )
    torch.testing.assert_close([found[key] for key in expected], list(expected.values()))


@pytest.mark.parametrize("name", NAMES)
def test_energies_of_representations_sum_to_that_of_the_feature(name: str) -> None:
    group = table_group(name)
    decoder_FGC = planted(group, group.subgroups()[0], 4)
    energy_F = symmetry.spectrum(decoder_FGC, group).sum(1)
    torch.testing.assert_close(energy_F, decoder_FGC.square().sum((1, 2)))


def test_the_result_is_the_same_however_features_are_split() -> None:
    group = table_group("S3")
    decoder_FGC = planted(group, group.subgroups()[1], 4)
    whole = symmetry.evidence_of(decoder_FGC, group, surrogates=49)
    squares, count = symmetry.alignment_of(decoder_FGC, group).sum(0)
    part = symmetry.evidence_of(
        decoder_FGC[2:], group, features=[2, 3], alignment_2=(float(squares), float(count)), surrogates=49
    )
    np.testing.assert_array_equal(part.p_FQ, whole.p_FQ[2:])
    np.testing.assert_allclose(part.low_FQ, whole.low_FQ[2:])
