"""Two commands that race for one folder: one set of bytes stands in the end, and the loser goes on with it or is
refused; never a mixture."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gc_core import manifest, store
from gc_core.images import ImageRef
from gc_core.images.ref import Listed
from gc_core.io import lease, objects
from gc_core.io.location import Location
from gc_core.io.objects import UnavailableError
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import resumable_index
from gc_core.manifest.resumable_index import InspectionSettings
from gc_core.store import MANIFEST
from gc_core.train import Trainer, Worker, train
from gc_core.train.checkpoint import Keep
from gc_core.train.recovery import Checkpointing
from support import small_store
from support.small_trainings import opened, same_weights

ROUNDS = 6
LENS = InspectionSettings(resize_px=8, window_px=4)


@pytest.fixture(params=["disk", pytest.param("bucket", marks=pytest.mark.s3)])
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return str(tmp_path / "runs") if request.param == "disk" else request.getfixturevalue("s3_url")


def at_once(work: Callable[[Any], object], racers: Sequence[Any]) -> list[object]:
    """What each returned, or the error in which it ended; all start together."""
    start = threading.Barrier(len(racers))

    def run(racer: Any) -> object:
        start.wait()
        try:
            return work(racer)
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(len(racers)) as threads:
        return list(threads.map(run, racers))


def harvested(run: RunFolder, images: str) -> str:
    """The steps of a harvest, in their order, of images that a name stands for; that name."""
    source = {"images": images}
    run.claim()
    if manifest.load_if_of(run.manifest, source) is None:
        listing = [Listed(ref=ImageRef(url=f"/{images}/{i}.png", member="")) for i in range(3)]
        resumable_index.look_at_part(resumable_index.folder_of(run.index, source), 0, listing, LENS)
        try:
            looked_at = resumable_index.collect(resumable_index.folder_of(run.index, source), 1)
        except resumable_index.GoneError:
            assert manifest.load_if_of(run.manifest, source) is not None
        else:
            manifest.write(run.manifest, manifest.complete(looked_at, source))
            resumable_index.clear(resumable_index.folder_of(run.index, source))
    assert manifest.load_if_of(run.manifest, source) is not None
    hashed = {MANIFEST: manifest.digest_of(run.manifest)}
    small_store.create(run, config={"seed": 0, "images": images}, config_hash=images, **hashed)
    small_store.write(run, 0, 1, 2)
    store.finish(run)
    return images


@pytest.mark.parametrize("racers", [["a", "b"], ["a", "b", "a", "b"], ["a", "a", "a"]], ids="-".join)
def test_of_harvests_of_different_images_one_is_whole_and_the_others_are_refused(url: str, racers: list[str]) -> None:
    for number in range(ROUNDS):
        run = RunFolder.at(f"{url}/{number}")
        ended = at_once(lambda images, run=run: harvested(run, images), racers)
        (winner,) = {end for end in ended if isinstance(end, str)}
        for images, end in zip(racers, ended, strict=True):
            assert end == winner if images == winner else "choose another --out" in str(end), ended
            assert "\n" not in str(end)
        assert manifest.load_if_of(run.manifest, {"images": winner}) is not None
        opened_store = store.open_store(run)
        assert opened_store.attrs["config"]["images"] == winner
        assert opened_store.attrs[MANIFEST] == manifest.digest_of(run.manifest)
        small_store.assert_intact(run)
        assert not objects.sizes(resumable_index.folder_of(run.index, {"images": winner}))


def test_one_training_started_twice_ends_twice_with_the_same_weights(planted: Any, tmp_path: Path) -> None:
    run: RunFolder = planted.run
    config, data = opened(run, steps=40, checkpoint_every=3)
    data_of_each = [data, opened(run, steps=40)[1]]

    def trained(data_alone: Any) -> Trainer:
        kept = Checkpointing(folders=[Location.parse(tmp_path / "kept")], keep=Keep(last=1))
        for _ in range(5):  # as Ray tries again: the faster one clears checkpoints that the other is writing
            with contextlib.suppress(UnavailableError):
                return train([replace(config)], data_alone, Worker(), report=lambda m: None, checkpointing=kept)[0]
        raise AssertionError("overtaken every time")

    (alone,) = train(
        [config],
        data,
        Worker(),
        report=lambda m: None,
        checkpointing=Checkpointing(folders=[Location.parse(tmp_path / "alone")]),
    )
    for _ in range(2):
        for ended in at_once(trained, data_of_each):
            assert isinstance(ended, Trainer), ended
            assert same_weights(ended, alone)


def test_a_training_whose_crosscoder_is_another_jobs_by_now_writes_nothing_more(planted: Any, tmp_path: Path) -> None:
    """It stood still for so long that it was taken for dead, while its workers went on."""
    config, data = opened(planted.run, steps=40, checkpoint_every=5)
    folder = Location.parse(tmp_path / "kept")
    before: list[dict[str, int]] = []

    def report(metrics: list[dict[str, float]]) -> None:
        if metrics[0]["step"] == 20:
            assert objects.write_once(folder / lease.FOLDER, "00000002.json", b"{}")
            before.append(objects.sizes(folder))

    with (
        lease.held(folder, lambda holder, waited_s: None) as mine,
        pytest.raises(lease.LostError, match="has taken over this command's work"),
    ):
        train(
            [config],
            data,
            Worker(),
            report=report,
            checkpointing=Checkpointing(folders=[folder], before_writing=mine.term.check),
        )
    after = objects.sizes(folder)
    written = {name for name in after if name not in before[0]}
    assert {name.partition("/step-")[2][:8] for name in written} <= {"00000015"}, "what was on its way already"
