"""Files of others inside this project's own folders outlast everything that it writes, replaces and deletes there."""

import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_run_damage import NAME, analysed, finished_run

from gc_core import evaluate, store
from gc_core.analyse import faults_of_artefacts
from gc_core.atlas import build
from gc_core.crosscoder import GroupCrosscoder
from gc_core.evaluate import Evaluation, measure_held_out
from gc_core.export import Story, write_hub
from gc_core.images import ImageRef
from gc_core.images.ref import Listed
from gc_core.io import objects
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import resumable_index
from gc_core.manifest.resumable_index import InspectionSettings
from gc_core.store.disk_cache import OWN_FOLDER, DiskCache
from gc_core.train import Worker, train
from gc_core.train.checkpoint import Keep, checkpoints
from gc_core.train.recovery import Checkpointing
from support.small_trainings import opened

NAMES = ("thesis.tex", "src/part-00000.parquet", "src/0", "part-00000.parquet.txt", "0.bak", ".git/config")
"""Some look nearly as this project's do."""
LATER = (
    "index",
    "index/of-mine",
    f"crosscoders/again/checkpoints/step-00000002-{'ab' * 4}",
    f"atlas/{NAME}",
    f"atlas/{NAME}/examples",
)
"""Folders that this run has not made, or not yet."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(params=["disk", pytest.param("bucket", marks=pytest.mark.s3)])
def run(finished: RunFolder, tmp_path: Path, request: pytest.FixtureRequest) -> RunFolder:
    copy = RunFolder.at(str(tmp_path / "run") if request.param == "disk" else request.getfixturevalue("s3_url"))
    for name in objects.sizes(finished.location):
        objects.write(copy.location, name, objects.read(finished.location, name))
    return copy


def plant(url: str) -> dict[str, bytes]:
    """A file of others under every name in every folder of a run; what was planted, by name."""
    own = objects.sizes(Location.parse(url))
    folders = {str(parent) for name in own for parent in Path(name).parents} | set(LATER)
    assert len(folders) > 20, "the control: a run has many folders"
    planted = [os.path.normpath(f"{folder}/{name}") for folder, name in itertools.product(sorted(folders), NAMES)]
    contents = {name: f"mine: {name}".encode() for name in planted if name not in own}
    for name, content in contents.items():
        objects.write(Location.parse(url), name, content)
    return contents


def lost(url: str, planted: dict[str, bytes]) -> list[str]:
    """Those that are gone or changed."""
    left = objects.sizes(Location.parse(url))
    return [
        name for name, mine in planted.items() if name not in left or objects.read(Location.parse(url), name) != mine
    ]


def do_everything_again(run: RunFolder) -> None:
    """All that writes, replaces or deletes in a run."""
    run.claim()
    for where in (run.index, resumable_index.folder_of(run.index, {"images": "x"})):
        gone = [Listed(ref=ImageRef(url="/nowhere/gone.png", member=""))]
        resumable_index.look_at_part(where, 0, gone, InspectionSettings(resize_px=8, window_px=4))
        resumable_index.clear(where)
    arrays = store.open_store(run).verify(0)
    store.discard_commit(run, 0)
    store.write_shard(run, 0, arrays, attempt="again")
    store.finish(run)
    config, data = opened(run, dict_size=8, steps=12, batch=32, checkpoint_every=2)
    write_json(run.crosscoder("again"), "config.json", {"format_version": 2, "train": config.to_json()})
    for _ in range(2):
        again = [run.crosscoder("again")]
        train(
            [config],
            data,
            Worker(),
            report=lambda metrics: None,
            checkpointing=Checkpointing(folders=again, keep=Keep(last=1, best=0)),
        )
    model = GroupCrosscoder.load(run.crosscoder(NAME))
    model.save(run.crosscoder(NAME))
    analysed(run, model)
    found = Evaluation(held_out=measure_held_out(run, model), stability={}, downstream=None)
    evaluate.write_evaluation(run, NAME, found)
    for _ in range(2):
        build.build_atlas(run, NAME, tick=lambda count: None)


def test_nothing_of_others_in_a_run_is_touched_and_nothing_of_the_run_is_disturbed(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_store = store.open_store(run)
    about = {"receptive_field_px": 5, "resize": {"shorter_side_px": 64}, "config": {"weights": "x"}}
    about |= {"backbone": "googlenet", "layer": "l"}
    told = SimpleNamespace(
        image=opened_store.image,
        centre_yx=opened_store.centre_yx,
        attrs={**opened_store.attrs, **about},
        num_rows=300,
        group=opened_store.group,
    )
    monkeypatch.setattr(build, "open_store", lambda run: told)
    planted = plant(run.url)
    do_everything_again(run)
    assert lost(run.url, planted) == []
    assert list(faults_of_artefacts(run)) == []
    assert len(checkpoints(run.crosscoder("again") / "checkpoints")) == 1, "the control: some were deleted"
    objects.write(run.location, "thesis.tex", b"edited")
    assert lost(run.url, planted) == ["thesis.tex"], "the control: a change is seen"


def test_nothing_of_others_in_an_export_is_touched(run: RunFolder) -> None:
    model, out = GroupCrosscoder.load(run.crosscoder(NAME)), run.location / "export"
    story = Story(name=NAME, trained=read_json(run.crosscoder(NAME), "config.json"), store={}, evaluation=None)
    planted = plant(run.url)
    write_hub(out, model, story)
    assert lost(run.url, planted) == []


def test_a_full_cache_deletes_its_own_parts_alone(tmp_path: Path) -> None:
    mine = [tmp_path / name for name in ("old.bin", "a" * 64, "part-mine")]
    mine += [tmp_path / OWN_FOLDER / name for name in ("thesis.tex", f"sub/{'b' * 64}", f"{'c' * 64}.txt")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine" * 100)
        os.utime(path, (0, 0))  # unused for longest
    for _ in range(2):
        cache = DiskCache(tmp_path, max_bytes=1000)
        for number in range(20):
            cache.get(str(number), lambda: memoryview(b"x" * 200))
    assert [path.read_bytes() for path in mine] == [b"mine" * 100] * len(mine)
    assert sum(len(path.name) == 64 for path in (tmp_path / OWN_FOLDER).iterdir()) < 20, (
        "the control: parts were deleted"
    )
