"""Patterns: braces as WebDataset writes them, wildcards as shells read them."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.images.patterns import expand_braces, is_pattern, matcher, split_root


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("{train-{0..1},val}.tar", ["train-0.tar", "val.tar", "train-1.tar"]),
        ("a{,.b}", ["a", "a.b"]),
        ("{a,a}", ["a"]),
        ("{single}", ["{single}"]),
        ("{a..c}", ["{a..c}"]),
        ("{", ["{"]),
    ],
)
def test_braces(pattern: str, expected: list[str]) -> None:
    assert expand_braces(pattern) == expected


@pytest.mark.parametrize("pattern", ["{0..999999999999}", "{0..9999}{0..9999}"])
def test_a_pattern_of_too_many_files_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"means more than 100,000 files; name a folder instead"):
        expand_braces(pattern)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("*.tar", ["a.tar", ".tar"], ["b/a.tar", "a.tar.gz", "atar"]),
        ("train-??.tar", ["train-00.tar"], ["train-0.tar", "train-0/.tar"]),
        ("**/*.tar", ["a.tar", "b/a.tar", "b/c/a.tar"], ["a.parquet"]),
        ("a/**/b.png", ["a/b.png", "a/x/y/b.png"], ["a/xb.png", "b.png"]),
        ("[ab]?.png", ["a1.png", "b2.png"], ["c1.png", "a.png"]),
        ("[!ab].png", ["c.png"], ["a.png", "/.png"]),
        ("a+b(c).png", ["a+b(c).png"], ["aab(c).png"]),
    ],
)
def test_wildcards(pattern: str, matches: list[str], others: list[str]) -> None:
    means = matcher(pattern)
    assert [name for name in matches + others if means.fullmatch(name)] == matches


@given(st.text("ab*?.+(^$\\", max_size=8), st.text("ab.+(^$\\", max_size=8))
def test_inside_one_folder_wildcards_mean_what_the_standard_library_says(pattern: str, name: str) -> None:
    assert bool(matcher(pattern).fullmatch(name)) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("pattern", "root", "below"),
    [
        ("/data/a/*.tar", "/data/a", "*.tar"),
        ("/data/a/x-*/b.tar", "/data/a", "x-*/b.tar"),
        ("/data/a/b.tar", "/data/a", "b.tar"),
        ("/*.tar", "/", "*.tar"),
        ("s3://bucket/*.tar", "s3://bucket", "*.tar"),
        ("s3://bucket/a/**/b.tar", "s3://bucket/a", "**/b.tar"),
    ],
)
def test_the_fixed_folder_of_a_pattern(pattern: str, root: str, below: str) -> None:
    assert split_root(pattern) == (root, below)


@pytest.mark.parametrize(
    ("location", "expected"), [("/a/b", False), ("a{1}", False), ("a*", True), ("a{1,2}", True), ("a[1].png", True)]
)
def test_what_is_a_pattern(location: str, expected: bool) -> None:
    assert is_pattern(location) == expected
