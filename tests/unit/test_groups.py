"""Laws of the groups, checked over every element for n up to 32."""

from itertools import combinations

import numpy as np
import pytest

from gc_core import groups
from gc_core.groups import Group

SIZES = range(1, 33)
ALL = [groups.trivial(), *(groups.cyclic(n) for n in SIZES), *(groups.dihedral(n) for n in SIZES)]
every_group = pytest.mark.parametrize("group", ALL, ids=lambda g: g.name)


@every_group
def test_product_is_associative_with_identity_zero_and_inverses(group: Group) -> None:
    table = group.cayley
    everything = np.arange(group.order)
    np.testing.assert_array_equal(table[table], table[everything[:, None, None], table[None]])
    np.testing.assert_array_equal(table[0], everything)
    np.testing.assert_array_equal(table[:, 0], everything)
    np.testing.assert_array_equal(table[everything, group.inverse], 0)
    np.testing.assert_array_equal(table[group.inverse, everything], 0)


@every_group
def test_matrices_multiply_as_the_table_says(group: Group) -> None:
    products = np.einsum("gij,hjk->ghik", group.matrices, group.matrices)
    np.testing.assert_allclose(products, group.matrices[group.cayley], atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(group.matrices), np.where(group.mirrored, -1, 1), atol=1e-12)


def test_first_rotation_lifts_what_was_on_the_right_and_the_mirror_swaps_left_and_right() -> None:
    group = groups.dihedral(8)
    right, up = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert (group.matrices[1] @ right)[1] > 0
    np.testing.assert_array_equal(group.matrices[2] @ right, up)
    np.testing.assert_array_equal(group.matrices[8] @ right, -right)
    np.testing.assert_array_equal(group.matrices[8] @ up, up)


def test_mirrored_elements_mirror_first_and_then_rotate() -> None:
    group = groups.dihedral(32)
    for k in range(32):
        assert group.cayley[k, 32] == 32 + k


@every_group
def test_mirror_axes_are_kept_by_their_elements(group: Group) -> None:
    for g in np.flatnonzero(group.mirrored):
        angle = np.deg2rad(group.axes_deg[g])
        axis = np.array([np.cos(angle), np.sin(angle)])
        np.testing.assert_allclose(group.matrices[g] @ axis, axis, atol=1e-12)


@every_group
def test_subgroups_are_closed_and_distinct(group: Group) -> None:
    found = group.subgroups()
    assert len({h.elements for h in found}) == len(found)
    assert found[0].elements == (0,)
    assert found[-1].order == group.order
    for h in found:
        members = np.array(h.elements)
        assert set(group.cayley[np.ix_(members, members)].ravel()) == set(h.elements)
        assert (h.axis_deg is not None) == bool(group.mirrored[members].any())


@pytest.mark.parametrize("group", [g for g in ALL if g.order <= 12], ids=lambda g: g.name)
def test_no_subgroup_is_forgotten(group: Group) -> None:
    """Generate from every pair of elements: each subgroup of a dihedral group has two generators."""
    generated = {_closure(group, {0, a, b}) for a, b in combinations(range(group.order), 2)} | {(0,)}
    assert {h.elements for h in group.subgroups()} == generated


def _closure(group: Group, members: set[int]) -> tuple[int, ...]:
    while True:
        products = {int(group.cayley[a, b]) for a in members for b in members}
        if products <= members:
            return tuple(sorted(members))
        members |= products


@every_group
def test_representations_multiply_and_are_complete(group: Group) -> None:
    irreps = group.irreps()
    assert sum(r.dim**2 for r in irreps) == group.order
    for r in irreps:
        products = np.einsum("gij,hjk->ghik", r.matrices, r.matrices)
        np.testing.assert_allclose(products, r.matrices[group.cayley], atol=1e-9)


@every_group
def test_matrix_entries_of_representations_are_orthogonal(group: Group) -> None:
    """Schur: the scaled entries of all representations form an orthonormal basis of functions on the group."""
    rows = [np.sqrt(r.dim / group.order) * r.matrices.reshape(group.order, -1).T for r in group.irreps()]
    basis = np.concatenate(rows)
    np.testing.assert_allclose(basis @ basis.conj().T, np.eye(group.order), atol=1e-9)
    np.testing.assert_allclose(group.irreps()[0].matrices, 1)


@pytest.mark.parametrize(
    ("part", "whole"), [("D16", "D32"), ("C8", "D32"), ("trivial", "D32"), ("D32", "D32"), ("C2", "C6")]
)
def test_embedding_keeps_products(part: str, whole: str) -> None:
    small, large = groups.parse(part), groups.parse(whole)
    index = groups.embed(small, large)
    np.testing.assert_array_equal(large.cayley[np.ix_(index, index)], index[small.cayley])
    np.testing.assert_allclose(large.matrices[index], small.matrices, atol=1e-12)


@pytest.mark.parametrize(("part", "whole"), [("D3", "D32"), ("D8", "C8"), ("D64", "D32")])
def test_embedding_refuses_what_is_not_contained(part: str, whole: str) -> None:
    with pytest.raises(ValueError, match="is not contained in"):
        groups.embed(groups.parse(part), groups.parse(whole))


@every_group
def test_names_are_read_back(group: Group) -> None:
    assert groups.parse(group.name) == group


@pytest.mark.parametrize("text", ["", "32", "D", "D0", "E8", "D32x", "cyclic"])
def test_an_unknown_name_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected D followed by a number"):
        groups.parse(text)
