"""Import direction: jobs -> gc_core; inside it orchestration -> stored data -> io -> integers, and orchestration ->
maths -> integers; jobs alone knows Ray."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = {
    "integers": {"groups", "arrays", "store.shards", "bounds", "config", "io.typed", "io.damage", "io.location"},
    "maths": {
        "transforms",
        "actions",
        "own_code",
        "backbones",
        "sparse",
        "crosscoder",
        "parallel",
        "losses",
        "train.row_adam",
        "metrics",
        "scoring",
        "symmetry",
        "families",
        "train.prototypes",
        "evaluate.scaling",
        "evaluate.linear_action",
        "sweep.laws",
        "sweep.halving",
        "sweep.cost",
    },
    "io": {"io"},
    "data": {"images", "manifest", "store", "stream"},
    "orchestration": {
        "harvest",
        "train",
        "analyse",
        "atlas",
        "evaluate",
        "export",
        "ingest",
        "sweep",
        "leftovers",
        "planning",
    },
}
MAY_IMPORT = {
    "integers": {"integers"},
    "maths": {"maths", "integers"},
    "io": {"io", "integers"},
    "data": {"data", "io", "integers"},  # storage knows no model
    "orchestration": {"orchestration", "data", "io", "maths", "integers"},
}
STORAGE = {"zarr", "numcodecs", "obstore", "fsspec", "s3fs", "tensorstore", "pyarrow", "boto3", "botocore"}
STRANGERS = {
    "integers": STORAGE | {"torch", "torchvision"},
    "maths": STORAGE,
    "io": {"torch", "torchvision"},
    "data": {"torchvision"},
    "orchestration": set(),
}
EXCEPTIONS = {
    # A crosscoder carries its own `load(url)` and `save(url)`: whoever has one found it, or keeps it, in one call.
    "gc_core/crosscoder/files.py": {
        "gc_core.io.objects",
        "gc_core.io.artefacts.DamagedError",
        "gc_core.io.artefacts.digest",
        "gc_core.io.artefacts.fault_of",
        "gc_core.io.artefacts.hashes_in",
        "gc_core.io.artefacts.checked_file",
        "gc_core.io.json_objects.read_json",
        "gc_core.io.json_objects.write_json",
    },
}
NEVER_IN_CORE = {"ray", "jobs", "infra", "tests"}
NEVER_IN_JOBS = {"infra", "tests"}


def imported(source: str, package: str) -> set[str]:
    """Dotted names of everything that a file of `package` imports, wherever in the file; relative imports resolved."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def faults(path: str, source: str) -> list[str]:
    """What the file at `path` (from the project's root) imports against the rules, one line each."""
    house, *inner = Path(path).with_suffix("").parts
    names = imported(source, ".".join([house, *inner[:-1]]))
    if house == "jobs":
        return [f"{path} imports {name}" for name in sorted(names) if name.split(".")[0] in NEVER_IN_JOBS]
    foreign = {name for name in names if name.split(".")[0] in NEVER_IN_CORE}
    if inner == ["__init__"]:
        return [f"{path} imports {name}" for name in sorted(foreign)]
    layer = layer_of(*inner)
    if layer is None:
        return [f"{path}: say where {inner[0]} lives, in LAYERS of {Path(__file__).name}"]
    foreign |= {name for name in names if name.split(".")[0] in STRANGERS[layer]}
    above = {name for name in names - EXCEPTIONS.get(path, set()) if _reaches_outside(name, layer)}
    return [f"{path} ({layer}) imports {name}" for name in sorted(foreign | above)]


def layer_of(*inner: str) -> str | None:
    """The layer that a module of gc_core belongs to, its own or that of its package; None if nobody said."""
    known = {module: layer for layer, modules in LAYERS.items() for module in modules}
    return known.get(".".join(inner[:2])) or known.get(inner[0])


def _reaches_outside(name: str, layer: str) -> bool:
    house, *inner = name.split(".")
    if house != "gc_core" or not inner or inner[0].startswith("__"):
        return False
    return layer_of(*inner) not in MAY_IMPORT[layer]


def _files(house: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / house).rglob("*.py"))


@pytest.mark.parametrize("path", _files("gc_core") + _files("jobs"))
def test_imports_point_downwards(path: str) -> None:
    assert faults(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize("path", _files("jobs") + _files("infra"))
def test_what_a_door_imports_is_there(path: str) -> None:
    """Types are checked loosely where Ray's own are wrong, so a name that has moved would be met in a run only."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("gc_core", "jobs", "infra"):
            assert missing(str(node.module), [alias.name for alias in node.names]) == []


def missing(module: str, names: list[str]) -> list[str]:
    """Those that the module neither holds nor has as a module inside it."""
    found = importlib.import_module(module)
    inside = {each.name for each in pkgutil.iter_modules(getattr(found, "__path__", []))}
    return [name for name in names if not hasattr(found, name) and name not in inside]


def test_a_name_that_is_not_there_is_found() -> None:
    assert missing("gc_core.parallel", ["Mesh", "mesh", "nothing"]) == ["nothing"]
    assert missing("gc_core.parallel.mesh", ["Mesh", "join"]) == ["join"]


def test_a_module_lives_in_one_layer() -> None:
    modules = [module for layer in LAYERS.values() for module in layer]
    assert len(modules) == len(set(modules))


@pytest.mark.parametrize("path", EXCEPTIONS)
def test_an_exception_is_still_needed(path: str) -> None:
    assert imported((ROOT / path).read_text(), "gc_core") >= EXCEPTIONS[path]


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("gc_core/groups.py", "import ray", "gc_core/groups.py (integers) imports ray"),
        (
            "gc_core/train.py",
            "from ray.train import report",
            "gc_core/train.py (orchestration) imports ray.train.report",
        ),
        ("gc_core/losses.py", "def f():\n    import zarr", "gc_core/losses.py (maths) imports zarr"),
        ("gc_core/losses.py", "from gc_core import store", "gc_core/losses.py (maths) imports gc_core.store"),
        ("gc_core/losses.py", "from gc_core.io import s3", "gc_core/losses.py (maths) imports gc_core.io.s3"),
        (
            "gc_core/crosscoder/untied.py",
            "from gc_core import store",
            "gc_core/crosscoder/untied.py (maths) imports gc_core.store",
        ),
        ("gc_core/store.py", "from . import crosscoder", "gc_core/store.py (data) imports gc_core.crosscoder"),
        (
            "gc_core/store.py",
            "import gc_core.backbones.layers",
            "gc_core/store.py (data) imports gc_core.backbones.layers",
        ),
        ("gc_core/store/s3.py", "from ..train import x", "gc_core/store/s3.py (data) imports gc_core.train.x"),
        ("gc_core/io/s3.py", "from gc_core import manifest", "gc_core/io/s3.py (io) imports gc_core.manifest"),
        ("gc_core/io/location.py", "import obstore", "gc_core/io/location.py (integers) imports obstore"),
        ("gc_core/io/json.py", "from gc_core.store import x", "gc_core/io/json.py (io) imports gc_core.store.x"),
        ("gc_core/store/shards.py", "import torch", "gc_core/store/shards.py (integers) imports torch"),
        ("gc_core/newcomer.py", "", "gc_core/newcomer.py: say where newcomer lives, in LAYERS of test_layers.py"),
        ("gc_core/__init__.py", "import jobs.train", "gc_core/__init__.py imports jobs.train"),
        ("jobs/train.py", "from infra import bench", "jobs/train.py imports infra.bench"),
    ],
)
def test_an_import_that_points_upwards_is_found(path: str, source: str, fault: str) -> None:
    assert faults(path, source) == [fault]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("gc_core/train.py", "from gc_core import crosscoder, losses, stream\nimport torch, zarr"),
        ("gc_core/backbones/googlenet.py", "from ..groups import dihedral\nfrom .layers import Conv"),
        ("jobs/train.py", "import ray\nfrom gc_core import train\nfrom jobs.common.options import Options"),
        ("gc_core/store.py", "from gc_core import __version__"),
        ("gc_core/losses.py", "from gc_core.io.location import Location"),  # a value, which reads nothing
    ],
)
def test_an_import_that_points_downwards_is_let_through(path: str, source: str) -> None:
    assert faults(path, source) == []
