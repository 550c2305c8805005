"""Objects under paths and URLs: what is written is read, under any name; races have one winner; errors are one line."""

import contextlib
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import GenericError

from gc_core.io import objects
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder, checked_name

ODD_NAMES = [
    "plain.jpg",
    "with space.jpg",
    "Größe/ñandú 猫.png",
    "50%25.jpg",
    "50%25/inner.jpg",
    "hash#1/c.jpg",
    "query?/d.jpg",
    "a+b=c&d/[1]*:e.jpg",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_what_is_written_under_any_name_is_read_and_listed_by_it(tmp_path: Path, name: str) -> None:
    objects.write(Location.parse(tmp_path), name, b"some bytes")
    assert objects.read(Location.parse(tmp_path), name) == b"some bytes"
    assert objects.sizes(Location.parse(tmp_path)) == {name: 10}
    assert objects.size(Location.parse(tmp_path), name) == 10
    assert (tmp_path / name).read_bytes() == b"some bytes"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_url_of_a_name_leads_back_to_it(tmp_path: Path, name: str) -> None:
    url = Location.parse(tmp_path) / name
    objects.write(Location.parse(tmp_path), name, b"x")
    assert objects.read(*url.split()) == b"x"
    assert url.local_path == tmp_path / name


PART = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=6)


@given(st.lists(PART, min_size=1, max_size=3))
def test_a_name_survives_its_url(parts: list[str]) -> None:
    run = Location.parse("s3://bucket/run")
    folder, last = (run / "/".join(parts)).split()
    assert last == parts[-1]
    assert folder == (run / "/".join(parts[:-1]) if parts[1:] else run)


def test_a_path_and_its_file_url_are_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my run"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings = [str(folder), f"{folder}/", folder.as_uri(), f"{folder.as_uri()}/", "my run", "./my run", "~/my run"]
    assert {Location.parse(spelling).url for spelling in spellings} == {folder.as_uri()}
    objects.write(Location.parse(folder), "a", b"1")
    assert [objects.read(Location.parse(spelling), "a") for spelling in spellings] == [b"1"] * len(spellings)
    assert RunFolder.at("my run") == RunFolder.at(folder.as_uri())


def test_an_object_store_url_stays_as_it_is() -> None:
    assert Location.parse("s3://bucket/some/prefix/").url == "s3://bucket/some/prefix"
    assert (Location.parse("s3://bucket/run/") / "a b.json").url == "s3://bucket/run/a%20b.json"
    assert [Location.parse(x).is_local for x in ("s3://bucket/run", "/run", "file:///run")] == [False, True, True]


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (
            "gs://bucket/run",
            r"^gs://bucket/run: scheme 'gs' found, expected a path, file:///path or s3://bucket/prefix$",
        ),
        ("http://host/run", r"^http://host/run: scheme 'http' found"),
        ("s3:///run", r"^s3:///run: no bucket found, expected s3://bucket/prefix$"),
        ("file://data/run", r"^file://data/run: host 'data' found, expected three slashes"),
        ("file:///data/run#2", r"a bare '\?' or '#' found in a URL; write %3F or %23$"),
        ("s3://bucket/run?x", r"a bare '\?' or '#' found"),
    ],
)
def test_a_location_that_means_nothing_is_refused_in_one_line(location: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Location.parse(location)


def test_write_replaces_and_write_once_does_not(tmp_path: Path) -> None:
    objects.write(Location.parse(tmp_path), "a", b"first")
    objects.write(Location.parse(tmp_path), "a", b"second")
    assert objects.write_once(Location.parse(tmp_path), "a", b"third") is False
    assert objects.read(Location.parse(tmp_path), "a") == b"second"
    assert objects.write_once(Location.parse(tmp_path), "new/b", b"third") is True
    assert objects.read(Location.parse(tmp_path), "new/b") == b"third"


def test_of_racing_writers_exactly_one_wins_and_its_bytes_stay(tmp_path: Path) -> None:
    racers = 8
    for round_number in range(5):
        barrier = threading.Barrier(racers)

        def race(racer: int, name: str = f"commit-{round_number}", start: threading.Barrier = barrier) -> bool:
            start.wait()
            return objects.write_once(Location.parse(tmp_path), name, bytes([racer]) * 1000)

        with ThreadPoolExecutor(racers) as threads:
            won = list(threads.map(race, range(racers)))
        assert won.count(True) == 1
        assert objects.read(Location.parse(tmp_path), f"commit-{round_number}") == bytes([won.index(True)]) * 1000


def test_what_is_not_there_is_file_not_found_and_an_empty_list(tmp_path: Path) -> None:
    assert objects.sizes(Location.parse(tmp_path / "gone")) == {}
    objects.delete(Location.parse(tmp_path), "gone")
    for ask in (objects.read, objects.size):
        for folder in (tmp_path, tmp_path / "gone"):
            with pytest.raises(FileNotFoundError, match=r"^file:///.*/no%20thing: not found$"):
                ask(Location.parse(folder), "no thing")


def test_deleted_is_gone(tmp_path: Path) -> None:
    objects.write(Location.parse(tmp_path), "a", b"1")
    objects.delete(Location.parse(tmp_path), "a")
    assert objects.sizes(Location.parse(tmp_path)) == {}


def test_a_file_where_a_folder_should_be_is_an_os_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"^file:///.*/file/a: "):
        objects.write(Location.parse(tmp_path / "file"), "a", b"1")


def test_a_stores_page_long_error_becomes_one_line_that_retries_understand() -> None:
    """`retry_exceptions=[OSError]` is what jobs ask for."""
    with (
        pytest.raises(OSError, match=r"^s3://bucket/a: no answer$"),
        objects.one_line_errors(Location.parse("s3://bucket"), "a"),
    ):
        raise GenericError("no answer\n\nDebug source:\nGeneric {\n}")


def test_json_records_come_back(tmp_path: Path) -> None:
    record = {"a": [1, 2.5, None], "b": {"c": "ü"}}
    write_json(Location.parse(tmp_path), "r.json", record)
    assert read_json(Location.parse(tmp_path), "r.json") == record


def test_a_run_lists_its_finished_crosscoders(tmp_path: Path) -> None:
    run = RunFolder.at(str(tmp_path / "my run"))
    assert run.crosscoder_names() == []
    for name in ("l1-2", "topk"):
        objects.write(run.crosscoder(name), "model.safetensors", b"")
    objects.write(run.crosscoder("unfinished"), "config.json", b"{}")
    objects.write(run.crosscoder("topk"), "checkpoints/model.safetensors", b"")
    assert run.crosscoder_names() == ["l1-2", "topk"]


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "ü", "a\n"])
def test_names_that_are_no_folder_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name: found .*expected letters"):
        checked_name(name)


@pytest.mark.parametrize("name", ["topk-1024", "a", "A_b.c-0"])
def test_names_that_are_folder_names_are_kept(name: str) -> None:
    assert checked_name(name) == name


@pytest.fixture(params=["local", "object storage"])
def location(request: pytest.FixtureRequest, tmp_path: Path, bucket: Path) -> Location:
    return Location.parse("s3://bucket/run" if request.param == "object storage" else tmp_path / "run")


def test_a_stream_becomes_an_object_that_reads_back_as_a_file(location: Location) -> None:
    content = random.Random(0).randbytes(objects.STREAM_BYTES + 1000)
    with objects.stream_to(location, "a/b.bin") as stream:
        for part in (content[:10], memoryview(content)[10:], b""):
            stream.write(part)
        assert objects.sizes(location) == {}, "not before it is whole"
    assert objects.sizes(location) == {"a/b.bin": len(content)}
    with objects.as_file(location, "a/b.bin") as path:
        assert path.read_bytes() == content


def test_what_breaks_off_leaves_the_old_object(location: Location) -> None:
    objects.write(location, "x", b"old")
    with contextlib.suppress(KeyError), objects.stream_to(location, "x") as stream:
        stream.write(b"new")
        raise KeyError
    assert objects.read(location, "x") == b"old"


def test_folders_are_listed_and_own_names_deleted_whatever_else_is_there(location: Location) -> None:
    assert objects.folders(location) == []
    for name in ("one/a", "one/deep/b", "two/a", "file"):
        objects.write(location, name, b"")
    assert objects.folders(location) == ["one", "two"]
    objects.delete_named(location, "one/(a|deep/b)|two/.+x")
    objects.delete_named(location / "never there", ".*")
    assert set(objects.sizes(location)) == {"two/a", "file"}
    assert {"file", "two"} <= set(objects.first_names(location, most=5))


def test_a_missing_object_is_no_file(location: Location) -> None:
    objects.write(location, "other", b"")
    with (
        pytest.raises(FileNotFoundError, match=r"run/x: not found"),
        objects.as_file(location, "x") as path,
    ):
        path.read_bytes()


def test_what_is_written_to_a_disk_is_there_before_the_next_thing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit record must not outlast its data when the power fails."""
    synced: list[str] = []
    really = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        really(handle)

    monkeypatch.setattr(objects.os, "fsync", fsync)
    objects.create(Location.parse(tmp_path), "c/data", b"1")
    objects.write(Location.parse(tmp_path), "record", b"2")
    with objects.stream_to(Location.parse(tmp_path), "part") as stream:
        stream.write(b"3")
    assert synced == ["data", "c", "record", tmp_path.name, "part", tmp_path.name]


def test_a_folder_that_two_clear_at_once_is_no_error_of_either(tmp_path: Path) -> None:
    for number in range(30):
        top = tmp_path / str(number)
        for name in range(40):
            (top / str(name)).mkdir(parents=True)
            (top / str(name) / "own").write_bytes(b"")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _, top=top: objects.delete_named(Location.parse(top), r"\d+/own"), range(4)))
        assert not top.exists()
