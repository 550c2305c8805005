"""Hidden twins are no images; of several images of one sample one may be asked for."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from gc_core.images import choice, sources
from gc_core.images.sources import find, joined, list_images, scan

HIDDEN = [
    "._x.jpg",
    "a/._x.jpg",
    ".DS_Store",
    "a/.ipynb_checkpoints/x.jpg",
    "__MACOSX/a/x.jpg",
    "@eaDir/x.jpg",
    ".git/x.png",
]
SHOWN = ["x.jpg", "./a/x.jpg", "a..b/x.jpg", "..x/y.jpg"[3:], "_x.jpg", "a/x.DS_Store.jpg"]


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, "JPEG")
    return stream.getvalue()


def folder_of(top: Path, names: list[str]) -> str:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(jpeg())
    return str(top)


def tar_of(path: Path, names: list[str]) -> str:
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(jpeg())
            tar.addfile(member, io.BytesIO(jpeg()))
    return str(path)


def made(top: Path, form: str, names: list[str]) -> str:
    return folder_of(top / "set", names) if form == "folder" else tar_of(top / "a.tar", names)


def told(location: str, image_key: str | None = None) -> tuple[list[str], list[str]]:
    """Names of the images, and what is said of them."""
    found = find(location, stimulus_px=59, max_stimuli=1)
    table, notes = joined(found, [scan(file) for file in found.containers], image_key)
    return sorted(entry.ref.name for entry in sources.ref.listed_in(table)), notes


@pytest.mark.parametrize("name", HIDDEN)
def test_what_systems_leave_is_hidden(name: str) -> None:
    assert choice.is_hidden(name)


@pytest.mark.parametrize("name", SHOWN)
def test_what_somebody_named_is_shown(name: str) -> None:
    assert not choice.is_hidden(name)


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_hidden_twins_are_passed_over_and_said(tmp_path: Path, form: str) -> None:
    names = [f"cats/p{i}.jpg" for i in range(5)]
    twins = [f"cats/._p{i}.jpg" for i in range(5)] + ["cats/.ipynb_checkpoints/p0-checkpoint.jpg"]
    location = (
        folder_of(tmp_path / "set", names + twins) if form == "folder" else tar_of(tmp_path / "a.tar", names + twins)
    )
    found, notes = told(location)
    assert len(found) == 5
    assert notes == ["6 hidden files there (such as ._x.jpg or .ipynb_checkpoints) are skipped"]


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_of_several_images_of_a_sample_the_one_asked_for_is_taken(tmp_path: Path, form: str) -> None:
    names = [f"{i:06}.{key}" for i in range(4) for key in ("jpg", "seg.png", "depth.png")] + ["lonely.jpg"]
    location = made(tmp_path, form, names)
    everything, notes = told(location)
    assert len(everything) == 13
    assert len(notes) == 1
    assert "(4 depth.png, 4 jpg, 4 seg.png)" in notes[0].replace(
        "4 jpg, 4 seg.png, 4 depth.png", "4 depth.png, 4 jpg, 4 seg.png"
    )
    assert "--image-key" in notes[0]
    found, notes = told(location, "jpg")
    assert (len(found), notes) == (5, [])
    assert len(told(location, "SEG.png")[0]) == 4
    with pytest.raises(
        ValueError, match=r"image_key: no image with 'webp' found, expected one of depth.png, jpg, seg.png"
    ):
        told(location, "webp")


def test_one_image_a_sample_needs_no_key(tmp_path: Path) -> None:
    location = folder_of(tmp_path, ["a/1.jpg", "b/1.jpg", "a/2.v2.jpg", "a/2b.jpg"])
    assert told(location) == (["1.jpg", "1.jpg", "2.v2.jpg", "2b.jpg"], [])
    assert len(list_images(location, stimulus_px=59, max_stimuli=1)) == 4


def test_what_datasets_keeps_beside_a_saved_set_is_no_data(tmp_path: Path) -> None:
    for name in ("data-00000-of-00001.arrow", "cache-1f3a9c0e.arrow", "state.json"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    found = find(str(tmp_path), stimulus_px=59, max_stimuli=1)
    assert [file.location.name for file in found.containers] == ["data-00000-of-00001.arrow"]
    assert "1 .arrow" in found.note
