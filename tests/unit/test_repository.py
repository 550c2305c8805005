"""The repository as a whole: pages say what exists, no check is silenced in place, no test touches private names."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PATCHES = {"setattr", "delattr", "getattr", "patch"}
HOUSES = ("gc_core", "jobs", "infra")
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SOURCES = sorted(path for house in (*HOUSES, "tests") for path in (ROOT / house).rglob("*.py"))

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


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.endswith("__")


def defined(tree: ast.AST) -> set[str]:
    """Private names of functions, classes, variables and attributes that a module makes itself."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in found if is_private(name)}


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every private name that a test imports, takes from something, or names as text to patch it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in HOUSES:
            yield from ((node.lineno, alias.name) for alias in node.names)
            yield from ((node.lineno, part) for part in (node.module or "").split("."))
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] in PATCHES:
            texts = (given.value for given in node.args if isinstance(given, ast.Constant))
            yield from ((node.lineno, part) for text in texts for part in str(text).split("."))


@cache
def private_names() -> frozenset[str]:
    """All that the library, the jobs and the benchmarks keep to themselves."""
    modules = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in HOUSES]
    return frozenset().union(*(defined(ast.parse(path.read_text())) for path in modules))


def touched(text: str) -> list[tuple[int, str]]:
    """Private names of the project that a test uses, and does not make itself."""
    tree = ast.parse(text)
    foreign = private_names() - defined(tree)
    return [(line, name) for line, name in named(tree) if name in foreign]


@pytest.mark.parametrize("test", TESTS, ids=lambda test: str(test.relative_to(ROOT)))
def test_no_test_touches_a_private_name(test: Path) -> None:
    assert touched(test.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "from gc_core.io.s3 import _open",
        "s3._open.cache_clear()",
        "monkeypatch.setattr(s3, '_open', None)",
        "monkeypatch.setattr('gc_core.io.s3._open', None)",
        "def counted(self): return self._folder",
    ],
)
def test_a_private_name_is_found(text: str) -> None:
    assert len(touched(text)) == 1


def test_names_that_a_test_makes_itself_are_its_own() -> None:
    own = "class Made:\n    def __init__(self): self._folder = 1\n    def get(self): return self._folder"
    assert touched(own) == []
    assert touched("ray_function._function; time.sleep(1)") == []
