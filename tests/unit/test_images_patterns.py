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
        ("a[*]b[?].png", ["a*b?.png"], ["axb?.png", "a*bx.png"]),
        ("[[&&||~~\\]x", ["[x", "&x", "|x", "~x", "\\x"], ["ax"]),
        ("a[+-9]b", ["a+b", "a0b"], ["a/b"]),
        ("**/x*/**/*b*.png", ["x/b.png", "u/x1/v/w/abc.png", "x/x/x/b.png"], ["b.png", "x/y/c.png", "u/b.png"]),
        ("a**/b", ["a/b", "ax/b"], ["ab", "ax/y/b"]),
        ("*a*b*", ["ab", "xaxbx", "aabb"], ["ba", "a/b", "bbaa"]),
        ("a/**", ["a/b"], ["a/b/c", "b"]),
    ],
)
def test_wildcards(pattern: str, matches: list[str], others: list[str]) -> None:
    means = matcher(pattern)
    assert [name for name in matches + others if means.fullmatch(name)] == matches


@given(st.text("ab*?.+(^$\\", max_size=8), st.text("ab.+(^$\\", max_size=8))
def test_inside_one_folder_wildcards_mean_what_the_standard_library_says(pattern: str, name: str) -> None:
    assert bool(matcher(pattern).fullmatch(name)) == fnmatch.fnmatchcase(name, pattern)


def in_plain_words(pattern: str, name: str) -> bool:
    """Every way to match is tried, one character after the other."""
    if not pattern:
        return not name
    if pattern.startswith("**/"):
        rests = [name, *(name[place + 1 :] for place, char in enumerate(name) if char == "/")]
        return any(in_plain_words(pattern[3:], rest) for rest in rests)
    if pattern[0] == "*":
        folder = name.partition("/")[0]
        return any(in_plain_words(pattern[1:], name[place:]) for place in range(len(folder) + 1))
    fits = bool(name) and (pattern[0] == name[0] or (pattern[0] == "?" and name[0] != "/"))
    return fits and in_plain_words(pattern[1:], name[1:])


@given(st.lists(st.sampled_from(["**", "*a*b*", "a*", "*", "?b", "a", "b"]), max_size=5), st.text("ab/\n", max_size=9))
def test_wildcards_over_folders_mean_what_they_say(folders: list[str], name: str) -> None:
    pattern = "/".join([*folders, "*a"])
    assert bool(matcher(pattern).fullmatch(name)) == in_plain_words(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*a" * 30 + "b", "a" * 3000),
        ("*?" * 30 + "b", "a" * 3000),
        ("**/a/" * 30 + "b", "a/" * 1500),
        ("**/*a*/" * 30 + "b", "xaax/" * 600),
    ],
)
def test_a_pattern_of_many_wildcards_is_decided_soon(pattern: str, name: str) -> None:
    """Where every way was tried, three wildcards fewer took a second; these would take years."""
    assert not matcher(pattern).fullmatch(name)
    assert matcher(pattern).fullmatch(f"{name}b")


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
