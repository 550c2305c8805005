"""Small harvests and stores on disk, and buckets that are a folder or in memory, as fixtures.

Letters: N rows, G group elements, C channels, F features.
"""

import shutil
from pathlib import Path

import numpy as np
import obstore
import pytest
from numpy.typing import NDArray
from obstore.store import MemoryStore, ObjectStore

from gc_core import groups
from gc_core.groups import Group
from gc_core.io import objects, s3
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from support.small_runs import MakeRun, Planted, write_run
from support.small_store import write_all


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`write_run` into a folder of this test's own."""

    def make(acts_NGC: NDArray[np.float32], group: Group, name: str = "run", **options: object) -> RunFolder:
        return write_run(tmp_path / name, acts_NGC, group, **options)

    return make


@pytest.fixture(scope="session")
def numbered_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """300 rows (fewer chunks than lanes) over C_4, 6 channels: (n, g, c) holds n + 311 g + 53 c, exact in float16."""
    acts_NGC = np.arange(300)[:, None, None] + 311 * np.arange(4)[:, None] + 53 * np.arange(6)
    return write_run(tmp_path_factory.mktemp("numbered"), acts_NGC.astype(np.float32), groups.cyclic(4))


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """1,000 rows over C_4 with 8 channels, made of ten features; images 3 and 50 are held out."""
    rng = np.random.default_rng(0)
    decoder_FGC = rng.standard_normal((10, 4, 8))
    decoder_FGC /= np.linalg.norm(decoder_FGC, axis=(1, 2), keepdims=True)
    code_NF = np.zeros((1000, 10))
    for code_F in code_NF:
        code_F[rng.choice(10, 2, replace=False)] = rng.uniform(1, 2, 2)
    acts_NGC = np.einsum("nf,fgc->ngc", code_NF, decoder_FGC) + 0.3
    run = write_run(tmp_path_factory.mktemp("planted"), acts_NGC.astype(np.float32), groups.cyclic(4), (3, 50))
    return Planted(run=run, decoder_FGC=decoder_FGC)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for `s3://bucket`: what is no local location takes the way of object storage."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    open_folder = objects.open_folder

    def opened(location: Location, *, create: bool = False) -> ObjectStore:
        if location.bucket != "bucket":
            return open_folder(location, create=create)
        return open_folder(Location.parse(folder / location.path), create=True)  # a prefix without objects is no error

    monkeypatch.setattr(objects, "open_folder", opened)
    monkeypatch.setattr(
        objects, "client_and_key", lambda location, name, **options: (opened(location, **options), name)
    )
    return folder


@pytest.fixture
def memory_bucket(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """`s3://memory`, kept in this process alone. Folders of it are copies, to be read: such a store knows no prefix."""
    kept = MemoryStore()

    def copy_below(bucket: str, prefix: str) -> MemoryStore:
        below = MemoryStore()
        for entry in obstore.list(kept, prefix).collect():
            name = entry["path"].removeprefix(f"{prefix}/")
            obstore.put(below, name, obstore.get(kept, entry["path"]).bytes())
        return below

    monkeypatch.setattr(s3, "open_bucket", lambda bucket: kept)
    monkeypatch.setattr(s3, "open_prefix", copy_below)
    return kept


@pytest.fixture(scope="session")
def finished_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_all(folder)
    return folder


@pytest.fixture
def store_folder(finished_store: Path, tmp_path: Path) -> Path:
    """A finished small store of this test's own, on disk."""
    return Path(shutil.copytree(finished_store, tmp_path / "my run"))


@pytest.fixture
def store_run(store_folder: Path) -> RunFolder:
    return RunFolder.at(str(store_folder))
