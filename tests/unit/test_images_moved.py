"""Images that moved are found where the option says; those that did not are counted, with the option that helps."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core import manifest
from gc_core.images import ImageRef, load
from gc_core.images.load import content_key
from gc_core.images.moved import Absent, Move, ReplacedError, option, parse, relocate
from gc_core.io.location import Location
from support.image_files import png

NAMES = st.text(st.sampled_from("ab ü%=#"), min_size=1, max_size=3)
PATHS = st.lists(NAMES, min_size=1, max_size=3)


def test_a_prefix_is_replaced_locally_and_on_object_storage() -> None:
    moves = parse(["/old=/new place", "s3://bucket/a=s3://other", "/old/deep=s3://bucket/deep/"])
    urls = ["file:///old/x%20y.png", "file:///old/deep/z.tar", "s3://bucket/a/b%3Dc.jpg", "stimuli:31", "file:///older"]
    assert relocate(urls, moves) == [
        "file:///new%20place/x%20y.png",
        "s3://bucket/deep/z.tar",
        "s3://other/b%3Dc.jpg",
        "stimuli:31",
        "file:///older",
    ]


def test_one_file_can_move_alone() -> None:
    assert relocate(["file:///a/x.tar"], parse(["/a/x.tar=/b/y.tar"])) == ["file:///b/y.tar"]


@given(PATHS, PATHS, PATHS)
def test_what_moved_there_and_back_is_where_it_was(old: list[str], new: list[str], rest: list[str]) -> None:
    root = Location.parse("/r")
    there = Move((root / "/".join(old)).url, (root / "/".join(new)).url)
    (url, expected) = ((root / "/".join([*names, *rest])).url for names in (old, new))
    moved = relocate([url], [there])
    assert moved == [expected]
    assert relocate(moved, [Move(there.new, there.old)]) == [url]


@pytest.mark.parametrize("text", ["", "/a", "=", "/a=", "=/b", "gs://x=/y", "/x=s3://"])
def test_what_is_no_move_is_one_clear_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^images_at: [^\n]*$"):
        parse([text])


def test_a_move_of_nothing_is_one_clear_line_with_an_image_that_is_there() -> None:
    with pytest.raises(ValueError, match=r"^images_at: no image lies below file:///b; the first is file:///a/x\.png"):
        relocate(["file:///a/x.png"], parse(["/b=/c"]))


def test_an_image_that_moved_is_loaded_from_there_and_the_message_before_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a b.png").write_bytes(png(7))
    ref = ImageRef(url=(Location.parse(tmp_path / "old") / "a b.png").url)
    key = content_key(ref, png(7))
    with pytest.raises(FileNotFoundError, match=r"not found; .*say where to: --images-at .*/old=NEW$"):
        load(ref, 8, key=key)
    table = manifest.build([manifest.ImageRecord(ref=ref, status="ok", key=key)], {"a": 1})
    moved = manifest.relocated(table, parse([f"{tmp_path}/old={tmp_path}/new"]))
    assert moved.schema.equals(table.schema, check_metadata=True)
    assert load(manifest.refs_of(moved)[0], 8, key=key)[0, 0, 0] == 7
    assert manifest.relocated(table, ()) is table


@pytest.mark.parametrize("place", ["/data/my pics", "/a=b/c", "s3://bucket/x%20y"])
def test_the_option_that_is_named_is_understood(place: str) -> None:
    ref = ImageRef(url=(Location.parse(place) / "a.png").url)
    (move,) = parse([option(ref).removeprefix("--images-at ").replace("NEW", "/new")])
    assert relocate([ref.url], [move]) == ["file:///new/a.png"]


def test_missing_and_replaced_images_are_counted_apart() -> None:
    refs = [ImageRef(url=f"file:///p/{i}.png") for i in range(5)]
    errors = [None, FileNotFoundError("gone"), ReplacedError("other"), PermissionError("no"), None]
    told = Absent.among(zip(refs, errors, strict=True)).describe()
    assert told == (
        "of 5 images 2 are missing and 1 were replaced by others (the first: file:///p/1.png); "
        "put them back, or say where they are now: --images-at /p=NEW"
    )
    assert Absent.among((ref, None) for ref in refs).describe() == ""
