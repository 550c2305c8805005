"""The repository as a whole: pages link to what exists, and no check is silenced in place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted(path for house in ("gc_core", "jobs", "infra", "tests") for path in (ROOT / house).rglob("*.py"))

INDENTED = re.compile(r"  (\S.*?)  ")
LOCAL_LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
SILENCED = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore)\b")


def dead_links(page: Path, text: str) -> list[str]:
    """Relative links of a Markdown page that lead to no file or folder."""
    return [link for link in LOCAL_LINK.findall(text) if not (page.parent / link).exists()]


def tree() -> str:
    """The annotated tree with which the README ends."""
    _, text, after = (ROOT / "README.md").read_text().rsplit("```", 2)
    assert after == "\n"
    return text.strip()


def library_of(text: str) -> set[str]:
    """Modules and packages of `gc_core/` that a tree names: indented lines, names parted by commas."""
    lines = text.split("gc_core/", 1)[1].split("\njobs/", 1)[0].splitlines()
    return {name for line in lines if (found := INDENTED.match(line)) for name in found[1].split(", ")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(page: Path) -> None:
    assert dead_links(page, page.read_text()) == []


def test_a_dead_link_is_found() -> None:
    text = "[a](README.md) [b](gone.md#part) [c](https://example.org/gone.md) [d](#here) ![e](gone.png)"
    assert dead_links(ROOT / "README.md", text) == ["gone.md", "gone.png"]


def test_the_tree_of_the_readme_names_the_library_as_it_is() -> None:
    modules = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "gc_core").iterdir()}
    assert library_of(tree()) == modules - {"__init__.py", "__pycache__/"}


def test_what_the_tree_of_the_readme_names_first_exists() -> None:
    names = [line.split()[0] for line in tree().splitlines() if not line.startswith(" ")]
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert {"gc_core/", "jobs/", "infra/", "tests/", "docs/", "cluster.yaml"} <= set(names)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_no_check_is_silenced_in_place(source: Path) -> None:
    assert SILENCED.search(source.read_text()) is None


@pytest.mark.parametrize("what", ["noqa: E501", "type: ignore[misc]", "pyright: ignore"])
def test_a_silenced_check_is_found(what: str) -> None:
    assert SILENCED.search(f"x = 1  # {what}") is not None
