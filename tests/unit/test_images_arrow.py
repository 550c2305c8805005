"""Images in Arrow files: every batch is found again by its offset, lists and paths too; damage is a bad row."""

from pathlib import Path

import pyarrow as pa
import pytest

from gc_core.images import ImageError, arrow
from gc_core.images.load import read
from gc_core.images.ref import Listed
from gc_core.io.location import Location
from support.image_files import as_arrow, as_folder, png

IMAGES = {f"{i}.png": png(i, 8 + i) for i in range(10)}
BYTES = list(IMAGES.values())
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def scanned(path: Path) -> list[Listed]:
    return list(arrow.scan(Location.parse(path.as_uri())))


@pytest.mark.parametrize("rows_per_batch", [1, 3, 100])
def test_images_saved_by_hugging_face_give_their_bytes(tmp_path: Path, rows_per_batch: int) -> None:
    listed = scanned(as_arrow(tmp_path / "a.arrow", IMAGES, rows_per_batch=rows_per_batch))
    assert [arrow.read(entry.ref) for entry in reversed(listed)] == BYTES[::-1]


def test_the_file_form_lists_and_paths_are_read(tmp_path: Path) -> None:
    as_folder(tmp_path, IMAGES)
    cells = [[{"bytes": content, "path": None}, {"bytes": None, "path": name}] for name, content in IMAGES.items()]
    table = pa.table({"images": pa.array(cells, pa.list_(STRUCT))})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=4)
    assert [read(entry.ref) for entry in scanned(tmp_path / "a.arrow")] == [b for b in BYTES for _ in range(2)]


@pytest.mark.parametrize("content", [b"", b"<html>" * 9, b"ARROW1\0\0"])
def test_what_is_no_arrow_file_is_one_bad_row(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.arrow").write_bytes(content)
    (entry,) = scanned(tmp_path / "a.arrow")
    assert entry.error.startswith("damaged Arrow file (")
    with pytest.raises(ImageError):
        arrow.read(entry.ref)


def test_a_cut_file_gives_what_is_whole(tmp_path: Path) -> None:
    path = as_arrow(tmp_path / "a.arrow", IMAGES)
    path.write_bytes(path.read_bytes()[:-200])
    listed = scanned(path)
    assert [entry.error[:19] for entry in listed] == [""] * 9 + ["damaged Arrow file "]
