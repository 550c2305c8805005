"""Why images are bad: counted by kind, and the end of a run where they are too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core import manifest
from gc_core.images import ImageRef
from gc_core.manifest import ImageRecord, rejections
from gc_core.manifest.rejections import Reason

ERRORS = ["empty file", "damaged image (truncated (3 bytes not processed))", "damaged image (bad)"]


def table_of(errors: list[str], status: str = "bad"):
    refs = [ImageRef(url=f"file:///{i}.png", member="inside" if i else "") for i in range(len(errors))]
    return manifest.records_table(
        [ImageRecord(ref=ref, status=status, error=error) for ref, error in zip(refs, errors, strict=True)]
    )


def test_reasons_are_counted_by_kind_with_a_whole_example() -> None:
    assert rejections.count(table_of(ERRORS), "bad") == {
        "empty file": Reason(count=1, example="file:///0.png"),
        "damaged image": Reason(count=2, example="file:///1.png/inside (truncated (3 bytes not processed))"),
    }


def test_only_the_statuses_asked_for_count() -> None:
    assert rejections.count(table_of(ERRORS, "small"), "bad") == {}
    assert rejections.count(table_of(["", ""], "ok"), "bad", "small") == {}


kinds = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9), max_size=5)


@given(kinds, kinds)
def test_counts_of_two_parts_are_their_sums(one: dict[str, int], other: dict[str, int]) -> None:
    left, right = (
        {k: Reason(count=n, example=f"{k}{side}") for k, n in c.items()} for side, c in enumerate((one, other))
    )
    both = rejections.together(left, right)
    assert {kind: reason.count for kind, reason in both.items()} == {
        kind: one.get(kind, 0) + other.get(kind, 0) for kind in one.keys() | other.keys()
    }
    assert all(reason.example == f"{kind}{0 if kind in one else 1}" for kind, reason in both.items())


COUNTS = {"a": 5, "b": 2000, "c": 7, "d": 1}
MANY = {kind: Reason(count=n, example=f"file:///{kind}.png (1)") for kind, n in COUNTS.items()}


def test_the_most_frequent_are_named_and_the_rest_counted() -> None:
    assert rejections.describe(MANY) == "2,000 b, 7 c, 5 a, 1 for other reasons"
    assert rejections.describe({"empty file": Reason(count=2, example="x")}) == "2 empty file"


def test_too_many_bad_images_are_one_line_with_the_three_most_common_reasons() -> None:
    with pytest.raises(ValueError, match=r"^images: ") as end:
        rejections.refuse_too_many(MANY, num_images=4000, max_fraction=0.25, images="/images")
    assert str(end.value) == (
        "images: /images: at least 2,013 of 4,000 images are bad, more than --max-bad-fraction 0.25: "
        "2,000 b, such as file:///b.png (1); 7 c, such as file:///c.png (1); 5 a, such as file:///a.png (1). "
        "Fix them or raise the fraction; the index continues"
    )


@pytest.mark.parametrize(("fraction", "total", "refused"), [(0.5, 4026, False), (0.5, 4025, True), (1, 2013, False)])
def test_exactly_the_fraction_is_allowed(fraction: float, total: int, refused: bool) -> None:
    def check() -> None:
        rejections.refuse_too_many(MANY, num_images=total, max_fraction=fraction, images="x")

    if refused:
        with pytest.raises(ValueError, match="more than --max-bad-fraction"):
            check()
    else:
        check()


def test_no_bad_image_is_never_too_many() -> None:
    rejections.refuse_too_many({}, num_images=1, max_fraction=0, images="x")
