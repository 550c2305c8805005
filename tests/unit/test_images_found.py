"""Found beside the plain cases: files without a suffix, saved data sets, chosen columns; and what is left out."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gc_core.images import ImageRef, list_images, sources
from gc_core.images.load import read
from support.image_files import as_arrow, as_folder, as_parquet, as_tar, as_zip, encoded, png, write_parquet

FOUR = {f"{i}.png": png(i, 9 + i) for i in range(4)}


def listed(location: Path, image_key: str | None = None) -> list[ImageRef]:
    return list_images(str(location), stimulus_px=31, max_stimuli=1, image_key=image_key)


def notes(location: Path) -> list[str]:
    found = sources.find(str(location), stimulus_px=31, max_stimuli=1)
    return sources.joined(found, [sources.scan(file) for file in found.containers], None)[1]


def test_files_without_a_suffix_are_images_if_they_begin_like_one(tmp_path: Path) -> None:
    as_folder(tmp_path, {"n01/0001": png(1), "n01/0002": encoded(np.zeros((9, 9, 3), np.uint8), "JPEG")})
    as_folder(tmp_path, {"LICENSE": b"words", "empty": b"", "z.png": png(3)})
    assert [ref.name for ref in listed(tmp_path)] == ["0001", "0002", "z.png"]
    assert read(listed(tmp_path)[0]) == png(1)
    assert notes(tmp_path) == ["2 files there are not images by their names and are left out: 2 without a suffix"]


def test_one_file_without_a_suffix_is_an_image_or_a_list(tmp_path: Path) -> None:
    as_folder(tmp_path, {"image": png(1), "list": b"image\n"})
    assert read(listed(tmp_path / "image")[0]) == read(listed(tmp_path / "list")[0]) == png(1)


@pytest.mark.parametrize(("pack", "name"), [(as_tar, "a.tar"), (as_zip, "a.zip")])
def test_what_is_left_out_inside_archives_is_counted_as_in_folders(tmp_path: Path, pack: object, name: str) -> None:
    others = {"0.cls": b"1", "1.cls": b"1", "a/0.json": b"{}", "README": b"", ".DS_Store": b"", "__MACOSX/x": b""}
    pack(tmp_path / name, FOUR | others)
    assert notes(tmp_path / name) == [
        "4 files in archives are not images by their names and are left out: 2 .cls, 1 .json, 1 without a suffix"
    ]
    assert [read(ref) for ref in listed(tmp_path / name)] == list(FOUR.values())


def test_a_saved_data_set_has_the_files_that_its_state_names_in_that_order(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for part, name in enumerate(FOUR):
            as_arrow(tmp_path / f"{split}/data-{part:05}-of-00004.arrow", {f"{split} {name}": FOUR[name]})
        named = [{"filename": f"data-{part:05}-of-00004.arrow"} for part in (2, 0, 3)]
        (tmp_path / f"{split}/state.json").write_text(json.dumps({"_data_files": named}))
    assert [ref.member for ref in listed(tmp_path)] == [
        f"{split} {part}.png[0]" for split in ("test", "train") for part in (2, 0, 3)
    ]
    assert "2 .arrow" in " ".join(notes(tmp_path))


def test_half_a_saved_data_set_is_refused_in_one_line(tmp_path: Path) -> None:
    as_arrow(tmp_path / "data-00000-of-00003.arrow", FOUR)
    with pytest.raises(
        ValueError, match=r"^images: an incomplete saved data set: 2 of 3 files below \./ not found \([^\n]*$"
    ):
        listed(tmp_path)
    named = [{"filename": f"data-{part:05}-of-00002.arrow"} for part in range(2)]
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": named}))
    with pytest.raises(
        ValueError, match=r"^images: an incomplete saved data set: data-00000-of-00002\.arrow not found"
    ):
        listed(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"_data_files": 3}', '{"_data_files": [{"filename": 3}]}', "[" * 10**5])
def test_a_state_that_says_nothing_is_one_clear_line(tmp_path: Path, content: str) -> None:
    as_arrow(tmp_path / "data-00000-of-00001.arrow", FOUR)
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(ValueError, match=r"^images: state\.json does not say which files[^\n]*save it again$"):
        listed(tmp_path)


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("key", ["mask", "MASK", "image", "photo_path"])
def test_the_column_of_a_table_is_chosen_by_name(tmp_path: Path, form: str, key: str) -> None:
    as_folder(tmp_path, FOUR)
    masks = [png(100 + i, 9) for i in range(4)]
    table = pa.table(
        {
            "image": pa.array(FOUR.values(), pa.binary()),
            "mask": pa.array([{"bytes": mask, "path": f"[image]{i}"} for i, mask in enumerate(masks)]),
            "photo_path": list(FOUR),
        }
    )
    if form == "parquet":
        write_parquet(tmp_path / "a.parquet", dict(zip(table.column_names, table.columns, strict=True)), 2)
    else:
        with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as out:
            out.write_table(table, max_chunksize=2)
    expected = masks if key.lower() == "mask" else list(FOUR.values())
    assert [read(ref) for ref in listed(tmp_path / f"a.{form}", key)] == expected


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet", FOUR)
    with pytest.raises(ValueError, match=r"no column of images called 'jpg' \(--image-key; expected one of image\)"):
        listed(tmp_path / "a.parquet", "jpg")
