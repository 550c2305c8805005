"""A folder is this project's when it is marked, empty, or recognised; every other one is left as it is."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gc_core.io import objects, ownership
from gc_core.io.location import Location
from gc_core.io.ownership import MARKER, ForeignError
from gc_core.io.run_folder import RunFolder


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", [False, True])
def test_a_new_or_empty_folder_becomes_ours_and_stays_so(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / ".DS_Store").write_bytes(b"")
    for _ in range(2):
        ownership.claim(Location.parse(tmp_path / "run"), "run")
    told = json.loads((tmp_path / "run" / MARKER).read_text())
    assert (told["group_crosscoders"], told["format_version"]) == ("run", 1)


@pytest.mark.parametrize(
    "stranger", ["index/src/thesis.tex", ".git/config", "README.md", "index/part-00000.parquet.txt"]
)
def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path, stranger: str) -> None:
    path = tmp_path / "mysite" / stranger
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ForeignError, match=r"mysite: holds other files \(such as .* and is no run of this program"):
        RunFolder.at(str(tmp_path / "mysite")).claim()
    assert everything_in(tmp_path / "mysite") == {stranger: b"mine"}


def test_a_marker_of_another_kind_or_of_others_is_refused(tmp_path: Path) -> None:
    ownership.claim(Location.parse(tmp_path / "export"), "export")
    with pytest.raises(ForeignError, match="is marked as 'export', version 1; expected 'run', version 1"):
        RunFolder.at(str(tmp_path / "export")).claim()
    for content in (b"", b"[]", b"{}", b"null", b"[" * 100_000):
        (tmp_path / "export" / MARKER).write_bytes(content)
        with pytest.raises(ForeignError, match="not this program's marker"):
            RunFolder.at(str(tmp_path / "export")).claim()


@pytest.mark.s3
def test_a_prefix_of_a_bucket_is_claimed_alike(s3_url: str) -> None:
    objects.write(Location.parse(s3_url), "theirs/thesis.tex", b"mine")
    with pytest.raises(ForeignError, match="holds other files"):
        RunFolder.at(f"{s3_url}/theirs").claim()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: RunFolder.at(f"{s3_url}/new").claim(), range(8)))
    assert list(objects.sizes(Location.parse(f"{s3_url}/new"))) == [MARKER]


def test_racing_claims_of_an_empty_folder_all_succeed(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: RunFolder.at(str(tmp_path / "run")).claim(), range(50)))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [MARKER]


@pytest.mark.parametrize("location", ["", " ", "\t\n"])
def test_no_location_is_not_the_current_folder(location: str) -> None:
    with pytest.raises(ValueError, match=r"^location: .* found, expected a path"):
        RunFolder.at(location)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"/file"):
        RunFolder.at(str(tmp_path / "file")).claim()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_marker_that_another_is_writing_or_left_unfinished_is_no_stranger(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{MARKER}#{number}").write_bytes(b"{")
    RunFolder.at(str(tmp_path)).claim()
    assert ownership.read_marker(Location.parse(tmp_path), "run")
    (tmp_path / MARKER).unlink()
    (tmp_path / f"{MARKER}#mine").write_bytes(b"mine")
    with pytest.raises(ForeignError, match="holds other files"):
        RunFolder.at(str(tmp_path)).claim()
