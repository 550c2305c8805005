"""Locations are values: parsed once, equal by their URL, and the same in every process."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.io.location import Location, local_path

FOLDERS = ["s3://bucket", "s3://bucket/run/", "s3://bucket/my%20run", "file:///", "file:///data/my%20run/"]
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12)


@given(st.sampled_from(FOLDERS), NAMES)
def test_what_lies_below_has_its_name_and_its_folder_above(folder: str, name: str) -> None:
    location = Location.of_url(folder)
    assert (location / name).split() == (location, name)
    assert (location / name).parent.path == location.path


@given(st.sampled_from(FOLDERS), st.lists(NAMES, max_size=3))
def test_a_location_is_the_one_that_its_text_names(folder: str, names: list[str]) -> None:
    """Scheme, bucket and path, too, although they do not count where two are compared."""
    location = Location.of_url(folder)
    for name in names:
        location = location / name
    again = Location.of_url(str(location))
    assert (again, hash(again)) == (location, hash(location))
    assert (again.scheme, again.bucket, again.path) == (location.scheme, location.bucket, location.path)


@pytest.mark.parametrize("url", FOLDERS)
def test_a_location_travels_as_its_text(url: str) -> None:
    """So that an object's worth of a client, or a path of this machine, never does."""
    location = Location.of_url(url)
    assert location.__reduce__() == (Location.of_url, (location.url,))
    assert pickle.loads(pickle.dumps(location)) == location


def test_another_process_does_not_follow_links_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert Location.parse(tmp_path / "link").local_path == tmp_path / "there", "the control: at the door they are"
    link = Location.of_url((tmp_path / "link").as_uri())
    assert pickle.loads(pickle.dumps(link)).local_path == tmp_path / "link"


def test_parts_of_a_location_are_plain_text() -> None:
    location = Location.parse("s3://bucket/my%20runs/") / "a b/c%d"
    assert (location.scheme, location.bucket, location.path) == ("s3", "bucket", "my runs/a b/c%d")
    assert (location.name, location.without_scheme) == ("c%d", "bucket/my runs/a b/c%d")
    assert str(location) == "s3://bucket/my%20runs/a%20b/c%25d"
    assert Location.parse("s3://bucket").without_scheme == "bucket"


@pytest.mark.parametrize("whole", ["s3://bucket", "file:///"])
def test_nothing_lies_above_a_whole_bucket_or_disk(whole: str) -> None:
    location = Location.of_url(whole)
    assert (location.parent, location.name) == (location, "")


def test_a_location_is_parsed_once_and_then_itself(tmp_path: Path) -> None:
    location = Location.parse(tmp_path)
    assert Location.parse(location) is location
    assert location == Location.parse(str(tmp_path)) == Location.parse(tmp_path.as_uri())


@pytest.mark.parametrize("text", ["file:", "file://", "FILE:"])
def test_a_url_without_a_path_is_not_the_whole_disk(text: str) -> None:
    with pytest.raises(ValueError, match=r": no path found, expected a path, file:///path or s3://bucket/prefix$"):
        Location.parse(text)


def test_the_path_of_a_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^s3://b/x: scheme 's3' found, expected a path or file:///path on this mach"):
        local_path("s3://b/x")
    with pytest.raises(AssertionError, match="s3://b/x is not on this machine"):
        _ = Location.parse("s3://b/x").local_path
