"""The index and the harvest on a real Ray: the same photographs in any form give the same numbers; an interrupted index
continues; bad images end a run only where they are too many."""

import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from gc_core import backbones, manifest, store
from gc_core.config import HarvestConfig
from gc_core.images import list_images, load
from gc_core.images.formats import NAMES
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from jobs import analyse, pipeline
from jobs.common import index
from jobs.common.options import Workers
from jobs.harvest import run_harvest
from support.image_files import as_folder, as_parquet, as_tar, encoded, png
from support.processes import interrupted

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

CONFIG = HarvestConfig(group="D4", layer="maxpool1", resize_px=64, centres_per_image=20, dtype="float32")


def photographs() -> dict[str, bytes]:
    """A dozen built-in photographs, small, as files by name; in PNG and JPEG, whose copies are the same bytes."""
    refs = sorted(list_images("photographs", stimulus_px=1, max_stimuli=1), key=lambda ref: ref.name)[:12]
    kinds = ["PNG", "JPEG"]
    return {
        f"{kinds[i % 2].lower()}/{i:02}-{Path(ref.name).stem}.{kinds[i % 2].lower()}": encoded(
            load(ref, 90).transpose(1, 2, 0), kinds[i % 2]
        )
        for i, ref in enumerate(refs)
    }


def harvested(at: Path, images: str) -> RunFolder:
    run = RunFolder.at(str(at))
    run_harvest(run, HarvestConfig(**{**CONFIG.to_json(), "images": images}), Workers(num_workers=1))
    return run


def rows_of(run: RunFolder) -> dict[str, np.ndarray]:
    """All that is stored, and the content key of each row's image."""
    opened, table = open_store(run), manifest.load_table(run.manifest)
    keys = table["key"].to_numpy()
    return {
        "activations": opened.read(0, opened.num_rows),
        "image": opened.image,
        "centre_yx": opened.centre_yx,
        "key": keys[opened.image],
    }


def test_the_same_photographs_in_any_form_give_the_same_activations(tmp_path: Path) -> None:
    images = dict(sorted(photographs().items()))
    as_folder(tmp_path / "folder", images)
    as_tar(tmp_path / "all.tar", images)
    as_parquet(tmp_path / "all.parquet", images, rows_per_group=5)
    (tmp_path / "list.txt").write_text("\n".join(f"folder/{name}" for name in images))
    first, *others = (
        rows_of(harvested(tmp_path / f"run-{i}", str(tmp_path / location)))
        for i, location in enumerate(["folder", "all.tar", "all.parquet", "list.txt"])
    )
    assert len(first["key"]) == 240
    assert len(np.unique(first["key"])) == 12
    for other in others:
        for name, values in first.items():
            assert values.tobytes() == other[name].tobytes(), name


def strips(run: Path) -> dict[str, bytes]:
    """Example images of the atlas, by name."""
    return {path.name: path.read_bytes() for path in sorted((run / "atlas/topk-16/examples").iterdir())}


def test_images_that_moved_are_told_of_and_found_where_they_are_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, old, new = tmp_path / "run", as_folder(tmp_path / "old", photographs()), tmp_path / "new"
    options = ["--group", "D4", "--layer", "maxpool1", "--resize-px", "64", "--centres-per-image", "20"]
    sizes = ["--train.dict-size", "16", "--train.k", "4", "--train.steps", "10", "--train.batch", "32"]
    pipeline.main(["--images", str(old), "--out", str(run), "--dtype", "float32", *options, *sizes])
    drawn = strips(run)
    assert len(drawn) > 3
    assert "missing" not in capsys.readouterr().out
    old.rename(new)
    analyse.main(["--run", str(run)])
    missing = rf"of(\d+)images\1aremissing\(thefirst:file://{old}/"
    for told in (capsys.readouterr().out, (run / "atlas/topk-16/index.html").read_text()):
        plain = "".join(told.split())  # lines are folded where the console ends
        assert re.search(missing, plain)
        assert "saywheretheyarenow:--images-at" in plain
    grey = strips(run)
    assert grey.keys() == drawn.keys()
    assert all(np.ptp(np.asarray(Image.open(io.BytesIO(strip)))) < 3 for strip in grey.values())
    analyse.main(["--run", str(run), "--images-at", f"{old}={new}"])
    assert "missing" not in capsys.readouterr().out
    assert strips(run) == drawn


def test_another_order_in_the_archives_changes_the_numbers_of_images_and_nothing_else(tmp_path: Path) -> None:
    images = photographs()
    names = list(np.random.default_rng(0).permutation(list(images)))
    for part in range(3):
        as_tar(tmp_path / f"tars/{part}.tar", {name: images[name] for name in names[part::3]})
    plain = rows_of(harvested(tmp_path / "plain", str(as_folder(tmp_path / "folder", images))))
    mixed = rows_of(harvested(tmp_path / "mixed", str(tmp_path / "tars/{0..2}.tar")))
    assert (plain["image"] != mixed["image"]).any()
    for name in ("key", "centre_yx", "activations"):
        assert plain[name].tobytes() == mixed[name].tobytes(), name


def many(folder: Path, *, good: int, bad: int) -> str:
    content = {f"{i:03}.png": png(i % 250, 40) for i in range(good)}
    return str(as_folder(folder, content | {f"page {i:03}.jpg": b"<html>" for i in range(bad)}))


def indexed(run: RunFolder, images: str, **changes: object) -> pa.Table:
    config = HarvestConfig(**{**CONFIG.to_json(), "images": images, **changes})
    return index.manifest_of(run, config, backbones.load(config.backbone, layer=config.layer))


def test_an_interrupted_index_continues_and_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = many(tmp_path / "images", good=150, bad=5)
    whole = indexed(RunFolder.at(str(tmp_path / "whole")), images)
    run = RunFolder.at(str(tmp_path / "run"))
    with monkeypatch.context() as patched:
        patched.setattr(index.cluster, "in_order", _stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            indexed(run, images)
    kept = sorted(name.rpartition("/")[2] for name in objects.sizes(run.index))
    assert kept == ["part-00000.parquet", "part-00001.parquet"]
    before = {name: objects.read(run.index, name) for name in objects.sizes(run.index)}
    with monkeypatch.context() as patched:
        patched.setattr(index.manifest, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            indexed(run, images)
    assert len(objects.sizes(run.index)) == 5
    assert {name: objects.read(run.index, name) for name in before} == before
    table = indexed(run, images)
    assert table.equals(whole)
    assert objects.sizes(run.index) == {}
    assert indexed(run, images).equals(whole)


def _stop_after_two(submit, items, *, in_flight, lost):
    import ray

    yield from (ray.get(submit(item)) for item in list(items)[:2])
    raise KeyboardInterrupt


def test_too_many_bad_images_stop_the_index_and_mended_ones_are_seen(tmp_path: Path) -> None:
    """It stops with the part that makes them too many: places 64 to 95 of the listing hold 32 of the 40."""
    images, run = many(tmp_path / "images", good=60, bad=40), RunFolder.at(str(tmp_path / "run"))
    line = r"at least 36 of 100 images are bad, more than --max-bad-fraction 0\.2: 36 not a JPEG, .* file://.*page%20"
    with pytest.raises(ValueError, match=line):
        indexed(run, images)
    with pytest.raises(FileNotFoundError):
        manifest.load_table(run.manifest)
    for i in range(30):
        (tmp_path / f"images/page {i:03}.jpg").write_bytes(png(i, 40))
    table = indexed(run, images)
    assert table["status"].to_pylist().count("bad") == 10
    assert dict(index.describe(table)) == {
        "images": "90 used of 100",
        "not used": f"10 not a {NAMES} image; each with its reason in the manifest",
    }
    with pytest.raises(ValueError, match=r"10 of 100 images are bad, more than --max-bad-fraction 0\.05"):
        indexed(run, images, max_bad_fraction=0.05)


def test_small_images_are_not_bad_and_a_fraction_of_one_goes_on(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "images", {f"{i}.png": png(i, 5 if i else 40) for i in range(10)})
    table = indexed(RunFolder.at(str(tmp_path / "small")), str(folder), max_bad_fraction=0)
    assert table["status"].to_pylist() == ["ok"] + ["small"] * 9
    images = many(tmp_path / "bad", good=1, bad=9)
    assert len(indexed(RunFolder.at(str(tmp_path / "bad run")), images, max_bad_fraction=1)) == 10


def test_an_archive_that_cannot_be_read_is_one_bad_row_among_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading this file of the kernel is an error of input and output, as on a broken disk."""
    monkeypatch.setattr(index.lost_workers, "PAUSE_S", 0.0)
    for part in range(2):
        as_tar(tmp_path / f"tars/{part}.tar", {f"{part}.png": png(part, 40)})
    (tmp_path / "tars/2.tar").symlink_to("/proc/self/mem")
    table = indexed(RunFolder.at(str(tmp_path / "run")), str(tmp_path / "tars"), max_bad_fraction=0.5)
    assert table["status"].to_pylist() == ["ok", "ok", "bad"]
    assert table["error"].to_pylist()[2].startswith(("cannot be read", "damaged archive"))


def test_a_seeded_choice_of_images_does_not_depend_on_their_form(tmp_path: Path) -> None:
    images = {f"{i:03}.png": png(i, 40) for i in range(50)}
    folder, tar = as_folder(tmp_path / "folder", images), as_tar(tmp_path / "all.tar", images)
    one, other = (
        indexed(RunFolder.at(str(tmp_path / f"run {place.name}")), str(place), max_images=7) for place in (folder, tar)
    )
    assert len(one) == 7
    assert one["key"].to_pylist() == other["key"].to_pylist()
    assert store.finished_commits(RunFolder.at(str(tmp_path / "run folder"))) == {}
