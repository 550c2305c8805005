"""Workers that are lost: work is given to others a bounded number of times, and what ends each of them is found."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import ray.exceptions
from hypothesis import given
from hypothesis import strategies as st

from gc_core import backbones
from gc_core.config import HarvestConfig
from gc_core.io.objects import UnavailableError
from gc_core.io.run_folder import RunFolder
from gc_core.manifest import resumable_index as parts
from jobs.common import cluster, index, lost_workers
from jobs.common.lost_workers import ATTEMPTS, MOST_DEADLY, again, deadly
from support.image_files import as_folder, as_tar, png

LOSSES = [ray.exceptions.WorkerCrashedError(), ray.exceptions.OutOfMemoryError("a node has none")]


class FakeWorker:
    """Dies over some places; counts what it was asked."""

    def __init__(self, fatal: set[int], flaky: set[int]) -> None:
        self._fatal, self._flaky, self.asked = fatal, set(flaky), 0

    def outlives(self, places: range) -> bool:
        self.asked += 1
        if once := self._flaky.intersection(places):
            self._flaky -= once  # the machine was short of memory at that moment
            return False
        return not self._fatal.intersection(places)


@given(st.integers(1, 1024), st.data())
def test_halving_finds_those_that_are_fatal_and_no_others(count: int, data: st.DataObject) -> None:
    places = st.sets(st.integers(0, count - 1), max_size=MOST_DEADLY)
    fatal, flaky = data.draw(places), data.draw(places)
    worker = FakeWorker(fatal, flaky)
    assert deadly(count, worker.outlives) == fatal
    levels = count.bit_length() + 1
    assert worker.asked <= 1 + 2 * levels * (len(fatal) + len(flaky)) + ATTEMPTS * (len(fatal) + len(flaky))


def test_where_everything_is_fatal_it_ends_in_one_line() -> None:
    worker = FakeWorker(set(range(1024)), set())
    with pytest.raises(OSError, match=r"^index: workers were lost over more than 16 of 1,024 images; [^\n]*$"):
        deadly(1024, worker.outlives)
    assert worker.asked < 200


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Exception]], list[int]]:
    """Tasks end in these errors, one after the other, then well; the list counts them."""
    asked: list[int] = []

    def prepare(errors: list[Exception]) -> list[int]:
        def result(_: object) -> str:
            asked.append(1)
            if errors:
                raise errors.pop(0)
            return "done"

        monkeypatch.setattr(cluster, "result", result)
        monkeypatch.setattr(lost_workers, "PAUSE_S", 0.0)
        return asked

    return prepare


@pytest.mark.parametrize("error", [*LOSSES, UnavailableError("no answer")])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_work_is_given_to_other_workers(fails: Callable[..., list[int]], error: Exception, times: int) -> None:
    asked = fails([error] * times)
    assert list(lost_workers.outlived(lambda item: item, ["a"], in_flight=2)) == [("a", "done")]
    assert len(asked) == times + 1


@pytest.mark.parametrize("error", LOSSES)
def test_work_that_ends_every_worker_is_given_up(fails: Callable[..., list[int]], error: Exception) -> None:
    asked = fails([error] * 99)
    assert list(lost_workers.outlived(lambda item: item, ["a", "b"], in_flight=2)) == [("a", None), ("b", None)]
    assert len(asked) == 2 * ATTEMPTS


def test_storage_that_never_answers_is_told(fails: Callable[..., list[int]]) -> None:
    fails([UnavailableError("no answer")] * 99)
    with pytest.raises(UnavailableError, match="no answer"):
        list(lost_workers.outlived(lambda item: item, ["a"], in_flight=2))
    fails([KeyError("a fault of ours")])
    with pytest.raises(KeyError):
        again(lambda item: item, "a", 3)


def test_no_task_of_the_index_is_repeated_by_ray_which_counts_out_of_memory_apart() -> None:
    for task in (index.look_task, index.probe_task, index.scan_task):
        assert task._default_options["max_retries"] == 0


def killing(function: Callable[..., object], name: str) -> ray.remote_function.RemoteFunction:
    """The function in a task, whose process is really killed when it comes to an image of this name."""

    def run(*args: object) -> object:
        from gc_core.manifest import resumable_index as parts

        inspect = parts.inspect

        def fatal(ref, settings):
            if ref.name == name:
                os.kill(os.getpid(), signal.SIGKILL)
            return inspect(ref, settings)

        parts.inspect = fatal
        try:
            return function(*args)
        finally:
            parts.inspect = inspect

    return ray.remote(max_retries=0)(run)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_an_image_that_really_kills_its_workers_is_found_and_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = as_folder(tmp_path / "images", {f"{i:02}.png": png(i, 40) for i in range(12)})
    config = HarvestConfig(group="D4", layer="maxpool1", resize_px=64, images=str(images), dtype="float32")
    backbone, run = backbones.load(config.backbone, layer=config.layer), RunFolder.at(str(tmp_path / "run"))
    monkeypatch.setattr(lost_workers, "PAUSE_S", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(index, "look_task", killing(parts.look_at_part, "07.png"))
        patched.setattr(index, "probe_task", killing(parts.probe, "07.png"))
        table = index.manifest_of(run, config, backbone)
    assert [(row["url"][-6:], row["status"]) for row in table.to_pylist() if row["status"] != "ok"] == [
        ("07.png", "bad")
    ]
    assert table["error"].to_pylist()[7].startswith("ends the process that decodes it (")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_an_archive_that_really_kills_its_workers_is_one_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in range(2):
        as_tar(tmp_path / f"tars/{part}.tar", {f"{part}.png": png(part, 40)})
    config = HarvestConfig(
        group="D4", layer="maxpool1", resize_px=64, images=str(tmp_path / "tars"), dtype="float32", max_bad_fraction=0.5
    )
    backbone, run = backbones.load(config.backbone, layer=config.layer), RunFolder.at(str(tmp_path / "run"))

    def scan(index_url, file):
        if file.location.name.endswith("1.tar"):
            os.kill(os.getpid(), signal.SIGKILL)
        return parts.scan(index_url, file)

    monkeypatch.setattr(lost_workers, "PAUSE_S", 0.0)
    monkeypatch.setattr(index, "scan_task", ray.remote(max_retries=0)(scan))
    table = index.manifest_of(run, config, backbone)
    assert table["status"].to_pylist() == ["ok", "bad"]
    assert table["error"].to_pylist()[1].startswith("ends the process that decodes it (")
