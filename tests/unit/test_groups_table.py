"""Laws of groups that are given by their tables, checked over every element."""

from itertools import combinations

import numpy as np
import pytest

from gc_core import groups
from gc_core.groups import FiniteGroup, direct_product, embed, from_record, from_table, from_text
from support.table_groups import NAMES, table_group

every_table = pytest.mark.parametrize("name", NAMES)
ORDERS = {"S3": 6, "Q8": 8, "A4": 12, "V4": 4, "D4t": 8, "C5t": 5, "S4": 24, "D4xC2": 16, "Q8xC3": 24}
NUM_SUBGROUPS = {"S3": 6, "Q8": 6, "A4": 10, "V4": 5, "D4t": 10, "C5t": 2, "S4": 30, "D4xC2": 35, "Q8xC3": 12}
NUM_CLASSES = {"S3": 4, "Q8": 6, "A4": 5, "V4": 5, "D4t": 8, "C5t": 2, "S4": 11, "D4xC2": 27, "Q8xC3": 12}
DIMS = {
    "S3": [1, 1, 2],
    "Q8": [1, 1, 1, 1, 2],
    "A4": [1, 1, 1, 3],
    "V4": [1] * 4,
    "D4t": [1, 1, 1, 1, 2],
    "C5t": [1] * 5,
    "S4": [1, 1, 2, 3, 3],
    "D4xC2": [1] * 8 + [2, 2],
    "Q8xC3": [1] * 12 + [2] * 3,
}
KINDS = {"S3": {1}, "Q8": {1, 4}, "A4": {1, 2}, "V4": {1}, "D4t": {1}, "C5t": {1, 2}, "S4": {1}, "Q8xC3": {1, 2, 4}}


@every_table
def test_a_table_becomes_a_group_with_the_same_products(name: str) -> None:
    group, everything = table_group(name), np.arange(ORDERS[name])
    assert group.order == len(group.labels) == ORDERS[name]
    np.testing.assert_array_equal(
        group.cayley[group.cayley], group.cayley[everything[:, None, None], group.cayley[None]]
    )
    np.testing.assert_array_equal(group.cayley[everything, group.inverse], 0)
    np.testing.assert_array_equal(from_table(group.cayley, name="again").cayley, group.cayley)


@every_table
def test_a_group_is_read_back_from_its_text_and_its_record(name: str) -> None:
    group = table_group(name)
    assert from_text(group.text) == from_record(group.as_record()) == group
    assert len({group, from_text(group.text)}) == 1


@every_table
def test_representations_are_unitary_and_multiply_and_are_complete(name: str) -> None:
    group = table_group(name)
    irreps = group.irreps()
    assert sorted(irrep.dim for irrep in irreps) == DIMS[name]
    assert len({irrep.label for irrep in irreps}) == len(irreps)
    np.testing.assert_allclose(irreps[0].matrices, 1)
    for irrep in irreps:
        products = np.einsum("gij,hjk->ghik", irrep.matrices, irrep.matrices)
        np.testing.assert_allclose(products, irrep.matrices[group.cayley], atol=1e-9)
        inverses = irrep.matrices[group.inverse]
        np.testing.assert_allclose(irrep.matrices.conj().transpose(0, 2, 1), inverses, atol=1e-9)
    rows = [np.sqrt(r.dim / group.order) * r.matrices.reshape(group.order, -1).T for r in irreps]
    np.testing.assert_allclose(np.concatenate(rows) @ np.concatenate(rows).conj().T, np.eye(group.order), atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_real_representations_are_of_the_kinds_that_the_group_has(name: str) -> None:
    group = table_group(name)
    assert {each.kind for each in group.real_irreps} == KINDS[name]
    assert sum(each.matrices.shape[1] ** 2 / each.kind for each in group.real_irreps) == group.order
    for each in group.real_irreps:
        products = np.einsum("gij,hjk->ghik", each.matrices, each.matrices)
        np.testing.assert_allclose(products, each.matrices[group.cayley], atol=1e-9)
        np.testing.assert_allclose(each.matrices.transpose(0, 2, 1), each.matrices[group.inverse], atol=1e-9)


@every_table
def test_representations_are_real_where_they_can_be(name: str) -> None:
    """Frobenius and Schur: the mean of the character over squares is 1 where they can."""
    group = table_group(name)
    for irrep in group.irreps():
        character_G = np.trace(irrep.matrices, axis1=1, axis2=2)
        indicator = character_G[np.diagonal(group.cayley)].mean().real
        assert irrep.is_real == (round(indicator) == 1)


@every_table
def test_subgroups_are_closed_and_all_there_up_to_two_generators(name: str) -> None:
    group = table_group(name)
    found = group.subgroups()
    assert len({h.elements for h in found}) == len(found) == NUM_SUBGROUPS[name]
    assert found[0].elements == (0,)
    assert found[-1].order == group.order
    for h in found:
        assert set(group.cayley[np.ix_(h.elements, h.elements)].ravel()) == set(h.elements)
    generated = {_closure(group, {0, a, b}) for a, b in combinations(range(group.order), 2)}
    assert generated <= {h.elements for h in found}


@every_table
def test_conjugate_subgroups_have_one_name_and_others_have_others(name: str) -> None:
    group = table_group(name)
    by_elements = {h.elements: h.name for h in group.subgroups()}
    assert len(set(by_elements.values())) == NUM_CLASSES[name]
    for elements, own in by_elements.items():
        for g in range(group.order):
            moved = sorted(int(group.cayley[group.cayley[g, h], group.inverse[g]]) for h in elements)
            assert by_elements[tuple(moved)] == own


def _closure(group: FiniteGroup, members: set[int]) -> tuple[int, ...]:
    while True:
        products = {int(group.cayley[a, b]) for a in members for b in members}
        if products <= members:
            return tuple(sorted(members))
        members |= products


def test_a_dihedral_group_as_a_table_has_the_same_subgroups_and_characters() -> None:
    table, plane = table_group("D4t"), groups.dihedral(4)
    assert [h.elements for h in table.subgroups()] == [h.elements for h in plane.subgroups()]
    found, expected = (
        {tuple(np.round(np.trace(r.matrices, axis1=1, axis2=2).real, 6) + 0.0) for r in group.irreps()}
        for group in (table, plane)
    )
    assert found == expected


def test_a_direct_product_multiplies_each_with_its_own() -> None:
    one, other = groups.dihedral(3), table_group("Q8")
    both = direct_product(one, other)
    assert (both.name, both.order, both.labels[9]) == ("D3xQ8", 48, "r1,i")
    for g, h in [(5, 17), (23, 42), (47, 31)]:
        left, right = divmod(int(both.cayley[g, h]), 8)
        assert left == one.cayley[g // 8, h // 8]
        assert right == other.cayley[g % 8, h % 8]


def test_the_largest_group_of_a_table_is_taken_apart() -> None:
    group = direct_product(groups.dihedral(16), groups.dihedral(4))
    assert sum(irrep.dim**2 for irrep in group.irreps()) == group.order == 256


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([[0, 1], [1, 1]], "an element twice in a row or column"),
        ([[1, 0], [0, 1]], "expected the identity first"),
        ([[0, 1, 2], [1, 2, 0]], "expected a square table"),
        ([[0, 1.5], [1.5, 0]], "expected a square table of whole numbers"),
        ([[0, 1], [1, 2]], "product 2 found, expected elements 0 to 1"),
        ([[0, -1], [-1, 0]], "product -1 found"),
        (np.zeros((0, 0), int), "0 elements found, expected 1 to 256"),
        (np.zeros((257, 257), int), "257 elements found, expected 1 to 256"),
        # A Latin square with an identity that is no group: the smallest loop.
        (
            [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]],
            "expected a table that is associative",
        ),
    ],
)
def test_what_is_no_table_of_a_group_is_refused_in_one_line(table: list[list[int]], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        from_table(table, name="wrong")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ["e", "a", "a"]}, "a label found twice"),
        ({"labels": ["e", "a b", "c"]}, "expected printable characters without blanks"),
        ({"labels": ["e", "a" * 5000, "c"]}, "labels of 5,002 characters found"),
        ({"name": "D_4"}, "expected a letter"),
        ({"rows": "!"}, "not base64"),
        ({"rows": "AAA="}, "rows of 2 bytes found"),
        ({"rows": "AQIA"}, None),
        ({"rows": "AQIH"}, "element 7 found"),
        ({"rows": "AQAC"}, "SHA-256"),
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"colour": "red"}, "unknown fields"),
        ({"kind": "cube"}, "kind"),
    ],
)
def test_a_record_that_was_changed_is_refused(changes: dict[str, object], said: str | None) -> None:
    record = from_table(groups.cyclic(3).cayley, name="C3t").as_record()
    if said is None:
        assert from_record(record | changes).as_record() == record
        return
    with pytest.raises(ValueError, match=said):
        from_record(record | changes)


def test_text_that_is_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match="which is JSON"):
        from_text("{not")


def test_too_many_subgroups_are_refused() -> None:
    group = table_group("V4")
    for _ in range(2):
        group = direct_product(group, table_group("V4"), name="many")
    with pytest.raises(ValueError, match="more than 1,000 subgroups"):
        group.subgroups()


def test_a_table_group_contains_itself_and_the_identity_alone() -> None:
    group = table_group("A4")
    np.testing.assert_array_equal(embed(group, group), np.arange(12))
    np.testing.assert_array_equal(embed(groups.trivial(), group), [0])
    with pytest.raises(ValueError, match="C_3 is not contained in A4; choose A4 or trivial"):
        embed(groups.cyclic(3), group)


def test_what_knows_rotations_alone_refuses_other_groups() -> None:
    assert groups.of_the_plane(groups.dihedral(4)) == groups.dihedral(4)
    with pytest.raises(ValueError, match="A4 found, expected rotations and mirrors"):
        groups.of_the_plane(table_group("A4"))
