"""Pages over a group of the user's own: a row for every element, no angles, labels escaped."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gc_core.atlas.page import write_page
from gc_core.atlas.records import check_page
from gc_core.atlas.view import describe
from support.table_page import table_page


def written(folder: Path, **options: object) -> str:
    labels = options.get("labels")
    assert labels is None or isinstance(labels, tuple)
    write_page(table_page(labels=labels), folder)
    return (folder / "index.html").read_text()


def test_every_element_has_its_label_and_two_numbers() -> None:
    page = table_page()
    view = describe(page)
    features = [member for family in view.families for member in family.members] + view.alone
    assert len(features) == 20
    for feature in features:
        assert [bar.label for bar in feature.elements] == [f"{half}{k}" for half in "rm" for k in range(8)]
        assert feature.elements[0].curve == pytest.approx(1)
        assert [bar.similarity for bar in feature.elements] == pytest.approx(feature.card.self_similarity_G.tolist())
        assert feature.pose in page.element_labels


def test_the_page_has_rows_and_no_angles(tmp_path: Path) -> None:
    html = written(tmp_path)
    assert html.count('<figure class="elements"') == 20
    assert 'class="polar' not in html
    assert not re.search(r"\d°", html.split("<script")[0]), "there are no angles"
    assert "transformed by every element of the group" in html


def test_labels_of_strangers_are_text(tmp_path: Path) -> None:
    labels = ("<script>alert(1)</script>", '"><b>', "a&b", *(f"x{number}" for number in range(13)))
    html = written(tmp_path, labels=labels)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert '"><b>' not in html


def test_labels_that_do_not_count_are_refused() -> None:
    with pytest.raises(ValueError, match="element_labels are 7, expected one of 16 elements each"):
        check_page(replace(table_page(), element_labels=tuple("abcdefg")))
