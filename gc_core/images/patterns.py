"""Locations that name many files: braces as WebDataset writes them, `train-{000..146}.tar`, and * ? [] **."""

import re
from collections.abc import Iterator
from itertools import islice

MOST_FILES = 100_000
MOST_BRACES = 100

_BRACES = re.compile(r"\{([0-9]{1,18}\.\.[0-9]{1,18}|[^{}]*,[^{}]*)\}")
_WILD = re.compile(r"\*\*/|\*|\?|\[[^\]/]+\]")


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
    found = list(islice(_expanded(pattern), MOST_FILES + 1))
    if len(found) > MOST_FILES:
        raise ValueError(f"images: {pattern} means more than {MOST_FILES:,} files; name a folder instead")
    return list(dict.fromkeys(found))


def split_root(pattern: str) -> tuple[str, str]:
    """The folder that is fixed, and what is to be matched below it, of an absolute path or a URL."""
    wild = _WILD.search(pattern)
    root = pattern[: wild.start() if wild else None].rpartition("/")[0]
    return root or "/", pattern[len(root) + 1 :]


def matcher(pattern: str) -> re.Pattern[str]:
    """Names that a pattern without braces means: * and ? stay inside one folder, **/ is any number of folders.

    Raises:
        ValueError: what stands in square brackets is no set of characters.
    """
    parts, end = [], 0
    pattern = re.sub(r"(\*\*/)+", "**/", re.sub(r"\*{3,}", "**", pattern))  # the same, and matched soon
    for wild in _WILD.finditer(pattern):
        parts += [re.escape(pattern[end : wild.start()]), _expression(wild[0])]
        end = wild.end()
    try:
        return re.compile("".join([*parts, re.escape(pattern[end:])]))
    except re.error as error:
        raise ValueError(f"images: {pattern[:200]} is no pattern ({error.msg}); look at its square brackets") from None


def _expression(wild: str) -> str:
    if wild.startswith("["):
        negated, inside = wild[1] in "!^", wild[1:-1].lstrip("!^").replace("\\", r"\\")
        return f"[{'^/' if negated else ''}{inside}]"
    return {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}[wild]


def _expanded(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if not found:
        yield pattern
        return
    for choice in _choices(found[1]):
        yield from _expanded(pattern[: found.start()] + choice + pattern[found.end() :])


def _choices(inside: str) -> Iterator[str]:
    numbers = re.fullmatch(r"([0-9]+)\.\.([0-9]+)", inside)
    if not numbers:
        yield from inside.split(",")
        return
    first, last = int(numbers[1]), int(numbers[2])
    for number in range(first, last + 1) if last >= first else range(first, last - 1, -1):
        yield f"{number:0{len(numbers[1])}}"
