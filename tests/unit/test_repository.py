"""The repository as a whole: pages link to what exists, and no check is silenced in place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted(path for house in ("gc_core", "jobs", "infra", "tests") for path in (ROOT / house).rglob("*.py"))

LOCAL_LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
SILENCED = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore)\b")


def dead_links(page: Path, text: str) -> list[str]:
    """Relative links of a Markdown page that lead to no file or folder."""
    return [link for link in LOCAL_LINK.findall(text) if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(page: Path) -> None:
    assert dead_links(page, page.read_text()) == []


def test_a_dead_link_is_found() -> None:
    text = "[a](README.md) [b](gone.md#part) [c](https://example.org/gone.md) [d](#here) ![e](gone.png)"
    assert dead_links(ROOT / "README.md", text) == ["gone.md", "gone.png"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_no_check_is_silenced_in_place(source: Path) -> None:
    assert SILENCED.search(source.read_text()) is None


@pytest.mark.parametrize("what", ["noqa: E501", "type: ignore[misc]", "pyright: ignore"])
def test_a_silenced_check_is_found(what: str) -> None:
    assert SILENCED.search(f"x = 1  # {what}") is not None
