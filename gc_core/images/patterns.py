"""Locations that name many files: braces as WebDataset writes them, `train-{000..146}.tar`, and * ? [] **."""

import re
from collections.abc import Iterator
from itertools import islice

MOST_FILES = 100_000
MOST_BRACES = 100

_BRACES = re.compile(r"\{([0-9]{1,18}\.\.[0-9]{1,18}|[^{}]*,[^{}]*)\}")
_WILD = re.compile(r"\*|\?|\[[^\]/]+\]")
_STARS_OR_SET = re.compile(r"\*+|\[[^\]/]+\]")
_ONE = re.compile(r"\?|\[[^\]/]+\]")
_ANY_DEPTH = re.compile(r"(?:(?<=/)|^)(?:\*{2,}/)+")


def is_pattern(location: str) -> bool:
    """Whether a location has braces or wildcards."""
    return bool(_WILD.search(location) or _BRACES.search(location))


def expand_braces(pattern: str) -> list[str]:
    """`a-{08..10}{,.x}` as a-08, a-08.x, a-09, ...; without braces the pattern itself.

    Raises:
        ValueError: more than 100,000.
    """
    if (braces := pattern.count("{")) > MOST_BRACES:
        raise ValueError(f"images: a pattern with {braces:,} braces found, expected at most {MOST_BRACES}")
    expanded = list(islice(_expanded(pattern), MOST_FILES + 1))
    if len(expanded) > MOST_FILES:
        raise ValueError(f"images: {pattern} means more than {MOST_FILES:,} files; name a folder instead")
    return list(dict.fromkeys(expanded))


def split_root(pattern: str) -> tuple[str, str]:
    """The folder that is fixed, and what is to be matched below it, of an absolute path or a URL."""
    wild = _WILD.search(pattern)
    root = pattern[: wild.start() if wild else None].rpartition("/")[0]
    return root or "/", pattern[len(root) + 1 :]


def matcher(pattern: str) -> re.Pattern[str]:
    """Names that a pattern without braces means: * and ? stay inside one folder, **/ is any number of folders.

    What lies between two wildcards is taken where it comes first, and nowhere else afterwards: a later place would
    leave less for what follows. So a name is decided soon, however many wildcards there are.

    Raises:
        ValueError: what stands in square brackets is no set of characters.
    """
    first, *others = (_folders(part) for part in _ANY_DEPTH.split(pattern))
    middle, last = [f"(?>(?:[^/]*/)*?{part})" for part in others[:-1]], [f"(?:[^/]*/)*{part}" for part in others[-1:]]
    try:
        return re.compile("".join([first, *middle, *last]))
    except re.error as error:
        raise ValueError(f"images: {pattern[:200]} is not a pattern ({error.msg}); check its square brackets") from None


def _folders(pattern: str) -> str:
    """The expression of names of folders, with the slashes between and behind them."""
    return "/".join(_name(each) for each in pattern.split("/"))


def _name(pattern: str) -> str:
    """The expression of one name."""
    first, *others = (_characters(part) for part in _between_stars(pattern))
    middle, last = [f"(?>[^/]*?{part})" for part in others[:-1]], [f"[^/]*{part}" for part in others[-1:]]
    return "".join([first, *middle, *last])


def _between_stars(pattern: str) -> list[str]:
    stars = [match.span() for match in _STARS_OR_SET.finditer(pattern) if match[0].startswith("*")]
    begins, ends = [0, *(end for _, end in stars)], [*(start for start, _ in stars), len(pattern)]
    return [pattern[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _characters(pattern: str) -> str:
    """The expression of as many characters as the pattern has."""
    pieces, end = [], 0
    for wild in _ONE.finditer(pattern):
        pieces += [re.escape(pattern[end : wild.start()]), "[^/]" if wild[0] == "?" else _set(wild[0])]
        end = wild.end()
    return "".join([*pieces, re.escape(pattern[end:])])


def _set(wild: str) -> str:
    negated, inside = wild[1] in "!^", re.sub(r"[\\\[&|~]", r"\\\g<0>", wild[1:-1].lstrip("!^"))
    return f"(?!/)[{'^' if negated else ''}{inside}]"


def _expanded(pattern: str) -> Iterator[str]:
    braces = _BRACES.search(pattern)
    if not braces:
        yield pattern
        return
    for choice in _choices(braces[1]):
        yield from _expanded(pattern[: braces.start()] + choice + pattern[braces.end() :])


def _choices(inside: str) -> Iterator[str]:
    numbers = re.fullmatch(r"([0-9]+)\.\.([0-9]+)", inside)
    if not numbers:
        yield from inside.split(",")
        return
    first, last = int(numbers[1]), int(numbers[2])
    for number in range(first, last + 1) if last >= first else range(first, last - 1, -1):
        yield f"{number:0{len(numbers[1])}}"
