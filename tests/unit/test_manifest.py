"""The manifest: what was found of each image, and a split by content that keeps copies together."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gc_core import manifest
from gc_core.images import ImageRef, list_images
from gc_core.images.load import content_key, read
from gc_core.io.location import Location
from gc_core.manifest import ImageRecord, inspection

SOURCE = {"images": "/somewhere", "resize_px": 32, "window_px": 9}


def png(height: int, width: int, grey: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def look_at(folder: Path, files: dict[str, bytes]) -> dict[str, ImageRecord]:
    """Records of files, by name, at 32 px with a field of 9 px."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    refs = list_images(str(folder), stimulus_px=9, max_stimuli=1)
    return {ref.name: manifest.inspect(ref, manifest.InspectionSettings(resize_px=32, window_px=9)) for ref in refs}


def made_up(keys: list[int], status: str = "ok") -> list[ImageRecord]:
    refs = [ImageRef(url=f"file:///{i}.png", member="") for i in range(len(keys))]
    return [ImageRecord(ref=ref, status=status, key=key) for ref, key in zip(refs, keys, strict=True)]


def test_good_small_and_bad_images_are_told_apart_with_reasons(tmp_path: Path) -> None:
    found = look_at(
        tmp_path,
        {
            "large.png": png(64, 100),
            "just.png": png(9, 9),
            "small.png": png(8, 300),
            "page.jpg": b"<html>\nsecond line",
            "empty.jpg": b"",
        },
    )
    assert {name: record.status for name, record in found.items()} == {
        "large.png": "ok",
        "just.png": "ok",
        "small.png": "small",
        "page.jpg": "bad",
        "empty.jpg": "bad",
    }
    assert (found["large.png"].height, found["large.png"].width) == (32, 50)  # at working scale
    assert (found["just.png"].height, found["just.png"].width) == (9, 9)
    assert [found[name].error for name in ("large.png", "just.png", "empty.jpg")] == ["", "", "empty file"]
    assert (
        found["small.png"].error
        == "smaller than the field (300 x 8 px; the rotated field needs 9 px; --enlarge scales up)"
    )
    assert found["page.jpg"].error.startswith(
        "not a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, JPEG 2000 or PNM image (starts with b'<html>"
    )
    assert found["large.png"].key == content_key(found["large.png"].ref, png(64, 100))


def test_an_image_that_vanished_is_bad_but_a_store_out_of_reach_is_no_image_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ImageRef(url=(Location.parse(tmp_path) / "gone.png").url, member="")
    record = manifest.inspect(gone, manifest.InspectionSettings(resize_px=32, window_px=9))
    assert (record.status, record.error) == ("bad", "not found")

    def unreachable(ref: ImageRef) -> bytes:
        raise OSError("no route")

    monkeypatch.setattr(inspection, "read", unreachable)
    with pytest.raises(OSError, match="no route"):
        manifest.inspect(gone, manifest.InspectionSettings(resize_px=32, window_px=9))


def test_stimuli_are_looked_at_without_a_file() -> None:
    for ref in list_images("stimuli", stimulus_px=9, max_stimuli=4):
        record = manifest.inspect(ref, manifest.InspectionSettings(resize_px=4, window_px=9))
        assert (record.status, record.height, record.width) == ("ok", 9, 9)
        assert record.key == content_key(ref, read(ref))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = look_at(tmp_path, {"a ü.png": png(40, 40), "b.png": png(2, 2), "c.jpg": b"no"})
    url = Location.parse(tmp_path) / "manifest.parquet"
    table = manifest.build(list(found.values()), SOURCE)
    manifest.write(url, table)
    back = manifest.load_table(url)
    assert back.equals(table)
    assert back.schema.equals(manifest.SCHEMA)
    assert back["image"].to_pylist() == [0, 1, 2]
    assert back["status"].to_pylist() == ["ok", "small", "bad"]
    assert manifest.refs_of(back) == [record.ref for record in found.values()]
    assert [read(ref)[:2] for ref in manifest.refs_of(back)] == [b"\x89P", b"\x89P", b"no"]


def test_records_come_back_from_their_table_and_from_the_manifest(tmp_path: Path) -> None:
    records = list(look_at(tmp_path, {"a.png": png(40, 40), "b.png": png(2, 2), "c.jpg": b"no"}).values())
    assert manifest.records_in(manifest.records_table(records)) == records
    assert manifest.records_in(manifest.build(records, SOURCE)) == records
    assert manifest.records_in(manifest.records_table([])) == []


def test_a_manifest_of_other_images_is_refused(tmp_path: Path) -> None:
    url = Location.parse(tmp_path) / "manifest.parquet"
    assert manifest.load_if_of(url, SOURCE) is None
    manifest.write(url, manifest.build(made_up([1, 2]), SOURCE))
    known = manifest.load_if_of(url, dict(reversed(SOURCE.items())))
    assert known is not None
    assert len(known) == 2
    with pytest.raises(ValueError, match=r"lists other images \(.*'resize_px': 32.*expected .*'resize_px': 64"):
        manifest.load_if_of(url, SOURCE | {"resize_px": 64})


def split(records: list[ImageRecord]) -> list[bool]:
    table = manifest.build(records, SOURCE)
    held = manifest.held_out(table)
    assert set(table["split"].to_pylist()) <= {"train", "validation"}
    return held.tolist()


keys = st.integers(0, 2**63 - 1)


@given(st.lists(keys, min_size=2, max_size=40), st.data())
def test_copies_stand_on_the_same_side_in_any_order(distinct: list[int], data: st.DataObject) -> None:
    listing = data.draw(st.permutations(distinct * 2))
    held = split(made_up(listing))
    sides = {key: {held[i] for i, other in enumerate(listing) if other == key} for key in distinct}
    assert all(len(side) == 1 for side in sides.values())
    if len(set(distinct)) > 1:
        assert 0 < sum(held) < len(held)


def test_about_two_percent_are_held_out() -> None:
    refs = list_images("stimuli", stimulus_px=9, max_stimuli=10_000)
    records = [ImageRecord(ref=ref, status="ok", key=content_key(ref, b"")) for ref in refs]
    assert 150 < sum(split(records)) < 250


def test_in_a_large_set_whether_an_image_is_held_out_depends_on_itself_alone() -> None:
    generator = np.random.default_rng(0)
    listing = generator.integers(0, 2**63, 2000).tolist()
    together, halves = split(made_up(listing)), split(made_up(listing[:1000])) + split(made_up(listing[1000:]))
    assert together == halves
    assert together == [key < 0.02 * 2**63 for key in listing]


@pytest.mark.parametrize("keys_of_set", [[5 * 2**60, 3 * 2**60], [2**62, 2**61, 2**61], [1, 2], [1, 1, 2]])
def test_a_small_set_holds_out_one_image_and_trains_on_one(keys_of_set: list[int]) -> None:
    held = split(made_up(keys_of_set))
    assert held == [key == min(keys_of_set) for key in keys_of_set]


@pytest.mark.parametrize("keys_of_set", [[], [7], [7, 7, 7]])
def test_a_single_image_is_trained_on(keys_of_set: list[int]) -> None:
    assert not any(split(made_up(keys_of_set)))


def test_the_image_held_out_is_one_that_can_be_used() -> None:
    """Images that cannot be read have key 0; they would be all of the 2%."""
    records = made_up([0] * 5, "bad") + made_up([3, 4], "small") + made_up([2**62, 2**61])
    assert split(records) == [False] * 8 + [True]
