"""Object storage and repair, on a real Ray: the same bytes in a bucket as in a folder, whoever dies on the way."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gc_core import store
from gc_core.config import HarvestConfig, TrainConfig
from gc_core.io import objects
from gc_core.io.run_folder import RunFolder
from jobs import verify
from jobs.common.lists import TrainConfigs
from jobs.common.options import Workers
from jobs.harvest import run_harvest
from jobs.pipeline import Pipeline, run_pipeline
from support.processes import await_end, descendants
from support.small_runs import contents

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

ROOT = Path(__file__).parents[2]
HARVEST = HarvestConfig(images="stimuli", max_stimuli=300, group="D4", shard_rows=128, dtype="float32")
KILL_AFTER_S = 2
SECONDS_TO_END = 30
"""Far more than it takes on an idle machine."""
OPTIONS = ["--images", "stimuli", "--max-stimuli", "300", "--group", "D4", "--shard-rows", "128", "--dtype", "float32"]
TRAIN = TrainConfig(dict_size=32, k=4, steps=10, batch=32)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> RunFolder:
    run = RunFolder.at(str(tmp_path_factory.mktemp("local")))
    run_harvest(run, HARVEST, Workers())
    return run


@pytest.fixture
def copy(local: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(local.location.local_path, tmp_path / "run")
    return RunFolder.at(str(tmp_path / "run"))


@pytest.mark.s3
def test_the_pipeline_stores_the_same_bytes_in_a_bucket_though_a_worker_is_killed(
    local: RunFolder, s3_url: str
) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_harvester, args=(os.getpid(), killed), daemon=True)
    killer.start()
    run_pipeline(Pipeline(out=s3_url, harvest=HARVEST, train=TrainConfigs((TRAIN,))))
    killer.join(1)
    assert killed
    run = RunFolder.at(s3_url)
    assert contents(run) == contents(local)
    assert objects.size(run.atlas("topk-32"), "index.html") > 0
    assert run.crosscoder_names() == ["topk-32"]


def kill_a_harvester(driver: int, killed: list[int]) -> None:
    """kill -9 of a worker of this driver, once, some time after it has started to compute."""
    while Path(f"/proc/{driver}").exists() and not killed:
        for pid in sorted(descendants(driver)):
            with contextlib.suppress(OSError):
                # Not the method's name: where an actor runs several calls, Ray adds it now and then only.
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Harvester"):
                    time.sleep(KILL_AFTER_S)
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    return
        time.sleep(0.02)


def test_a_sound_run_is_verified_and_not_touched(copy: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = stamps(copy)
    verify.main([copy.url])
    assert "3 of 3 whole" in capsys.readouterr().out
    assert stamps(copy) == before


def stamps(run: RunFolder) -> dict[str, tuple[int, str]]:
    return {name: objects.stat(run.location, name) for name in objects.sizes(run.location)}


@pytest.mark.parametrize("harm", ["missing", "flipped", "record", "unrecorded"])
def test_damage_ends_with_code_1_and_is_repaired_alone(
    copy: RunFolder, local: RunFolder, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = copy.activations.local_path / "activations/c/1/0/0"
    record = copy.commits.local_path / "00000001.json"
    whole = data.read_bytes()
    {
        "missing": data.unlink,
        "flipped": lambda: data.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:]),
        "record": lambda: record.write_text("{"),
        "unrecorded": record.unlink,
    }[harm]()
    with pytest.raises(SystemExit) as end:
        verify.main([copy.url])
    assert end.value.code == 1
    told = capsys.readouterr().out.replace("\n", " ")
    assert "shard 1 of 3" in told or "00000001.json" in told
    others = {name: stamp for name, stamp in stamps(copy).items() if "/c/0" in name or name.endswith("0000.json")}
    verify.main([copy.url, "--repair"])
    assert contents(copy) == contents(local)
    assert stamps(copy).items() >= others.items()


def test_numbers_that_no_image_gives_are_found(copy: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole and consistent with its record, but not what the images give: the control of the origin check."""
    opened = store.open_store(copy)
    rows = opened.rows(0)
    forged = store.ShardArrays(
        activations=opened.read(rows.start, rows.stop)[::-1].copy(),
        image=opened.image[: rows.stop],
        centre_yx=opened.centre_yx[: rows.stop],
    )
    store.discard_commit(copy, 0)
    for name in store.ARRAYS:
        objects.delete(copy.activations, store.layout.object_name(name, 0))
    store.write_shard(copy, 0, forged, attempt="forger")
    store.finish(copy)
    with pytest.raises(SystemExit) as end:
        verify.main([copy.url])
    assert end.value.code == 1
    assert "stored activations differ by" in capsys.readouterr().out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> RunFolder:
    """A harvest that takes long enough to be cut off."""
    run = RunFolder.at(str(tmp_path_factory.mktemp("undisturbed")))
    run_harvest(run, replace(HARVEST, max_stimuli=3000, group="D1", layer="conv1"), Workers())
    return run


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_or_killed_ends_within_seconds_and_continues(
    undisturbed: RunFolder, tmp_path: Path, sent: signal.Signals
) -> None:
    """A driver with a Ray of its own, as Ctrl-C, `ray job stop`, container hosts and kill -9 end one."""
    run = RunFolder.at(str(tmp_path / "run"))
    options = [*OPTIONS, "--max-stimuli", "3000", "--group", "D1", "--layer", "conv1"]
    command = [sys.executable, "-m", "jobs.harvest", "--out", str(tmp_path / "run"), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
        await_first_commit(run, job)
        workers = descendants(job.pid)
        os.kill(job.pid, sent)
        told, _ = job.communicate(timeout=SECONDS_TO_END)
    if sent == signal.SIGKILL:
        assert job.returncode == -signal.SIGKILL
    else:
        assert job.returncode == 128 + sent, told
        word = "Interrupted." if sent == signal.SIGINT else "Interrupted (SIGTERM)."
        assert f"{word} The same command continues where it stopped." in told
        assert "Traceback" not in told
    await_end(workers)
    first = store.finished_commits(run)
    assert 0 < len(first) < 24
    run_harvest(run, replace(HARVEST, max_stimuli=3000, group="D1", layer="conv1"), Workers())
    finished = store.finished_commits(run)
    assert {shard: finished[shard] for shard in first} == first
    assert contents(run) == contents(undisturbed)


def test_a_run_that_loses_a_whole_node_ends_with_the_undisturbed_bytes(undisturbed: RunFolder, tmp_path: Path) -> None:
    """Three nodes, in a process of its own because a process joins one Ray only."""
    command = [sys.executable, str(ROOT / "tests/support/lose_a_node.py"), str(tmp_path / "run")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=570, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert re.search(r"a node was removed after \d of 24 shards", told.stdout), told.stdout + told.stderr
    assert contents(RunFolder.at(str(tmp_path / "run"))) == contents(undisturbed)


def await_first_commit(run: RunFolder, job: subprocess.Popen[str]) -> None:
    while not objects.sizes(run.commits):
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.05)
