"""Where pictures come from: folders of any depth, pictures inside packages, drawn ones; found again by content."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gc_core import objects
from gc_core.images import ImageError, ImageRef, list_images, load, some_images
from gc_core.images.sources import SUFFIXES, content_key, read


def png(grey: int, side_px: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side_px, side_px), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def listed(location: str, max_stimuli: int = 3) -> list[ImageRef]:
    return list_images(location, stimulus_px=31, max_stimuli=max_stimuli)


def ref_of(path: Path) -> ImageRef:
    return ImageRef(url=objects.join(str(path.parent), path.name), member="")


def fill(folder: Path, names: list[str]) -> None:
    for grey, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(grey))


PICTURES = ["a.jpg", "b/c/d/e.PNG", "b/z.jpeg", "my cat.webp", "ü/ñ.tif", "50%25/x#1?.gif", "z.bmp", "z.tiff"]
OTHERS = ["notes.txt", "b/c/data.csv", "jpg", ".DS_Store", "archive.jpg.zip"]


def test_a_folder_lists_its_pictures_at_any_depth_sorted_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, PICTURES + OTHERS)
    refs = listed(str(tmp_path))
    assert [objects.local_path(ref.url) for ref in refs] == [str(tmp_path / name) for name in sorted(PICTURES)]
    assert [ref.name for ref in refs] == [Path(name).name for name in sorted(PICTURES)]
    assert [ref.size for ref in refs] == [(tmp_path / name).stat().st_size for name in sorted(PICTURES)]
    for ref, name in zip(refs, sorted(PICTURES), strict=True):
        assert read(ref) == (tmp_path / name).read_bytes()
        assert load(ref, 8)[0, 0, 0] == PICTURES.index(name)


def test_a_path_and_its_url_list_alike(tmp_path: Path) -> None:
    folder = tmp_path / "my pictures"
    fill(folder, ["a.png", "b/b.png"])
    assert listed(str(folder)) == listed(folder.as_uri()) == listed(f"{folder}/")


def test_links_to_pictures_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, ["real/a.png"])
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/linked.png").symlink_to(tmp_path / "real/a.png")
    (tmp_path / "pictures/folder").symlink_to(tmp_path / "real")
    assert [ref.name for ref in listed(str(tmp_path / "pictures"))] == ["a.png", "linked.png"]


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^images: .*/gone is no folder; expected a folder of pictures, `builtin`.*$"):
        listed(str(tmp_path / "gone"))


def test_a_single_file_is_no_folder(tmp_path: Path) -> None:
    fill(tmp_path, ["a.png"])
    with pytest.raises(ValueError, match=r"^images: .*/a.png is no folder"):
        listed(str(tmp_path / "a.png"))


@pytest.mark.parametrize(("others", "count"), [([], 0), (OTHERS, 5)])
def test_a_folder_without_pictures_is_one_clear_line(tmp_path: Path, others: list[str], count: int) -> None:
    fill(tmp_path, others)
    with pytest.raises(ValueError, match=rf"^images: no picture among the {count} files below .*; expected \.bmp, .*$"):
        listed(str(tmp_path))


def test_all_packaged_photographs_exist_and_decode() -> None:
    refs = listed("photographs")
    assert len(refs) == 16
    assert {ref.url for ref in refs} == {"builtin:skimage", "builtin:sklearn"}
    for ref in refs:
        pixels_CHW = load(ref, 64)
        assert min(pixels_CHW.shape[1:]) == 64
        assert pixels_CHW.std() > 5
    assert len({content_key(ref, read(ref)) for ref in refs}) == len(refs)


def test_builtin_is_the_photographs_and_then_the_stimuli() -> None:
    assert listed("builtin") == listed("photographs") + listed("stimuli")
    assert [(ref.url, ref.member) for ref in listed("stimuli", 2)] == [
        ("stimuli:31", "line-0"),
        ("stimuli:31", "curve-0"),
    ]


def test_a_stimulus_is_drawn_at_the_side_that_its_url_says() -> None:
    assert [load(ref, 8).shape for ref in listed("stimuli")] == [(3, 31, 31)] * 3


def test_equal_copies_have_equal_keys_wherever_they_lie(tmp_path: Path) -> None:
    fill(tmp_path, ["a.png", "b.png"])
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/copy of a.jpg").write_bytes((tmp_path / "a.png").read_bytes())
    keys = {ref.name: content_key(ref, read(ref)) for ref in listed(str(tmp_path))}
    assert keys["copy of a.jpg"] == keys["a.png"] != keys["b.png"]
    assert all(0 <= key < 2**63 for key in keys.values())


def test_stimuli_have_keys_of_their_own() -> None:
    refs = listed("stimuli", 50) + list_images("stimuli", stimulus_px=33, max_stimuli=50)
    assert len({content_key(ref, read(ref)) for ref in refs}) == 100


def test_a_picture_that_changed_is_not_loaded_as_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(10))
    ref = ref_of(path)
    key = content_key(ref, read(ref))
    assert load(ref, 8, key=key)[0, 0, 0] == 10
    path.write_bytes(png(20))  # the same size, in pixels
    with pytest.raises(OSError, match=r"/a\.png: its bytes changed since it was indexed; put the picture back"):
        load(ref, 8, key=key)
    path.write_bytes(b"")
    with pytest.raises(OSError, match="changed since it was indexed"):
        load(ref, 8, key=key)
    assert [load(stimulus, 8, key=content_key(stimulus, b"")).shape for stimulus in listed("stimuli", 1)] == [
        (3, 31, 31)
    ]


def test_a_picture_that_is_gone_and_one_that_is_none_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png: not found"):
        load(ref_of(tmp_path / "gone.png"), 8)
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    with pytest.raises(ImageError, match="not a JPEG"):
        load(ref_of(tmp_path / "page.jpg"), 8)


def test_some_images_are_a_seeded_choice_in_the_order_given() -> None:
    refs = listed("stimuli", 200)
    chosen = some_images(refs, 20, seed=3)
    assert chosen == some_images(refs, 20, seed=3) != some_images(refs, 20, seed=4)
    assert len(chosen) == len(set(chosen)) == 20
    places = [refs.index(ref) for ref in chosen]
    assert places == sorted(places)
    assert max(places) > 100


@pytest.mark.parametrize("at_most", [None, 5, 9])
def test_all_images_are_taken_where_there_are_no_more(at_most: int | None) -> None:
    assert some_images(listed("stimuli", 5), at_most, seed=0) == listed("stimuli", 5)


def test_every_suffix_is_one_that_decodes() -> None:
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in SUFFIXES} == {"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"}
