"""The atlas of a run whose images are away: grey patches, and said so; found again where they are now."""

import errno
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gc_core import groups, manifest
from gc_core.analyse.table import FeatureTable
from gc_core.atlas import build
from gc_core.images import ImageRef
from gc_core.images.load import content_key
from gc_core.images.moved import parse
from gc_core.io.json_objects import write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import ImageRecord
from support.image_files import png

NUM_IMAGES = 4
ROW = {
    "feature": 0,
    "alive": True,
    "density": 0.5,
    "family": -1,
    "pose": 0,
    "symmetry": "none",
    "stabiliser": "C_1",
    "axis_deg": None,
    "stabiliser_score": 0.1,
    "stabiliser_weakest": 0.1,
    "changing_stabiliser": "C_1",
    "invariant_share": 1.0,
    "spectrum": [1.0],
}
TRAINED = {
    "train": {"activation": "topk", "k": 4, "steps": 1, "batch": 1, "encoder_reads": "identity"},
    "results": {"held_out_fvu": 0.5},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """An analysed run of four even grey images below `pics`, one feature, one example of each."""
    (tmp_path / "pics").mkdir()
    records = []
    for i in range(NUM_IMAGES):
        content = png(40 * i, 9)
        (tmp_path / f"pics/{i}.png").write_bytes(content)
        ref = ImageRef(url=(Location.parse(tmp_path / "pics") / f"{i}.png").url)
        records.append(ImageRecord(ref=ref, status="ok", height=9, width=9, key=content_key(ref, content)))
    run = RunFolder.at(str(tmp_path / "run"))
    manifest.write(run.manifest, manifest.build(records, {}))
    write_json(run.crosscoder("a"), "config.json", TRAINED)
    ones = np.ones((1, 1))
    arrays = {"curves": ones, "self_similarity": ones, "block_norms": ones}
    arrays |= {"top_rows": np.arange(NUM_IMAGES)[None], "top_values": np.ones((1, NUM_IMAGES))}
    about = {"fvu": 0.1, "l0": 1.0, "group": {"kind": "trivial", "n": 1}}
    table = FeatureTable(rows=[ROW], arrays=arrays, irrep_labels=["1"], attrs=about)
    attrs = {"receptive_field_px": 5, "resize": {"shorter_side_px": 64}, "config": {"weights": "x"}}
    attrs |= {"backbone": "googlenet", "layer": "l"}
    image_N, centre_N2 = np.arange(NUM_IMAGES), np.full((NUM_IMAGES, 2), 4, np.int32)
    known = {"image": image_N, "centre_yx": centre_N2, "attrs": attrs, "num_rows": NUM_IMAGES}
    store = SimpleNamespace(**known, group=groups.trivial())
    monkeypatch.setattr(build, "load_features", lambda run, name: table)
    monkeypatch.setattr(build, "open_store", lambda run: store)
    return run


def page_of(run: RunFolder, moves: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """The page's text, and what was warned of."""
    warned: list[str] = []
    url = build.build_atlas(run, "a", lambda count: None, moves=parse(moves), warn=warned.append)
    return url.local_path.read_text(), warned


def test_a_page_with_all_its_images_warns_of_nothing(run: RunFolder) -> None:
    page, warned = page_of(run)
    assert warned == []
    assert "missing" not in page


def test_tables_of_earlier_versions_have_no_interval_and_no_p() -> None:
    assert build.chance_of(ROW) == {}
    chance = {"stabiliser_low": 0.05, "stabiliser_high": 0.2, "stabiliser_p": 0.03}
    assert build.chance_of(ROW | chance) == {"stabiliser_interval": (0.05, 0.2), "stabiliser_p": 0.03}
    assert build.chance_of(ROW | chance | {"stabiliser": "C_1", "stabiliser_score": 0.0}) == {}, "no stabiliser"


def test_a_stimulus_is_told_with_its_angle_and_tables_of_earlier_versions_have_none() -> None:
    assert build.words_of_stimulus(ROW) == ""
    told = {"label": "bar", "tuning_stimulus": "bar: width 3 px", "tuning_angle_deg": 11.25, "tuning_mirrored": True}
    assert build.words_of_stimulus(ROW | told) == "bar: width 3 px, mirrored, at 11.25°"
    assert build.words_of_stimulus(ROW | told | {"tuning_mirrored": False}) == "bar: width 3 px, at 11.25°"
    assert build.words_of_stimulus(ROW | dict.fromkeys(told)) == "", "no stimulus drives it"


def test_images_that_are_away_are_counted_on_the_page_and_aloud(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "pics").rename(tmp_path / "away")
    page, (line,) = page_of(run)
    assert line.startswith("of 4 images 4 are missing (the first: file://")
    assert line.endswith(f"--images-at {tmp_path}/pics=NEW")
    assert "of 4 images 4 are missing" in page
    page, warned = page_of(run, (f"{tmp_path}/pics={tmp_path}/away",))
    assert warned == []
    assert "missing" not in page


def test_an_image_that_was_replaced_is_no_example_and_is_said(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "pics/2.png").write_bytes(png(99, 9))
    (tmp_path / "pics/3.png").write_bytes(b"no image")
    page, (line,) = page_of(run)
    assert line.startswith("of 4 images 2 were replaced by others")
    assert "2 were replaced by others" in page


def test_a_disk_that_is_full_is_named(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says of it names no file."""

    def full(page: object, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "write_page", full)
    with pytest.raises(
        OSError, match=r"atlas/a: no space left on the disk; free some, then run the same command again$"
    ):
        page_of(run)
