"""The jobs on a real local Ray: a small run from drawn stimuli to the atlas, its continuation, and what is refused."""

import contextlib
import io
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gc_core import store
from gc_core import train as training
from gc_core.config import HarvestConfig, TrainConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.store import open_store
from gc_core.train import checkpoint
from jobs import analyse, evaluate, harvest, pipeline, train, verify
from jobs.analyse import AnalyseJob, only_crosscoder, run_analyse
from jobs.common.lists import TrainConfigs
from jobs.common.options import Workers
from jobs.common.train_loop import LoopSettings
from jobs.harvest import run_harvest
from jobs.pipeline import Pipeline, run_pipeline
from jobs.train import run_train

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

HARVEST = HarvestConfig(images="stimuli", max_stimuli=200, group="D8", shard_rows=128, dtype="float32")
TRAIN = TrainConfig(dict_size=64, k=4, steps=30, batch=64, checkpoint_every=10)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> RunFolder:
    """A small run with everything in it."""
    folder = tmp_path_factory.mktemp("run")
    run_pipeline(Pipeline(out=str(folder), harvest=HARVEST, train=TrainConfigs((TRAIN,))))
    return RunFolder.at(str(folder))


def test_every_part_of_the_run_folder_is_there(finished: RunFolder) -> None:
    manifest = pq.read_table(finished.manifest.local_path)
    assert manifest.num_rows == 200
    opened = open_store(finished)
    assert (opened.num_rows, opened.group.name, opened.channels) == (200, "D_8", 480)
    assert sorted(np.unique(opened.image)) == list(range(200))
    model = GroupCrosscoder.load(finished.crosscoder("topk-64"))
    assert tuple(model.W_dec.shape) == (64, 16, 480)
    metrics = pq.read_table(finished.crosscoder("topk-64").local_path / "metrics.parquet").to_pylist()
    assert [row["step"] for row in metrics] == [10, 20, 30]
    assert metrics[-1]["fvu"] < metrics[0]["fvu"] < 3
    table = pq.read_table(finished.feature_table("topk-64").local_path)
    assert table.num_rows == 64
    assert {"symmetry", "family", "spectrum"} <= set(table.column_names)
    assert set(table["label"].to_pylist()) > {"line", None}, "lines drive some feature most, and nothing drives another"
    page = (finished.atlas("topk-64").local_path / "index.html").read_text()
    assert "inception3b" in page


def test_files_of_others_in_every_folder_of_a_run_outlast_every_command(finished: RunFolder, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished.location.local_path, tmp_path / "run"))
    (run / "index/src").mkdir(parents=True)
    planted = [folder / "thesis.tex" for folder in [run, *run.rglob("*")] if folder.is_dir()]
    for stranger in planted:
        stranger.write_text(f"mine, in {stranger.parent}")
    options = [
        "--images",
        "stimuli",
        "--max-stimuli",
        "200",
        "--group",
        "D8",
        "--shard-rows",
        "128",
        "--dtype",
        "float32",
    ]
    harvest.main(["--out", str(run), "--dry-run", *options])
    harvest.main(["--out", str(run), *options])
    size = ["--dict-size", "32", "--k", "4", "--steps", "30", "--batch", "64", "--checkpoint-every", "10"]
    train.main(["--run", str(run), *size, "--keep.last", "1", "--keep.best", "0"])
    analyse.main(["--run", str(run), "--name", "topk-64"])
    evaluate.main(["--run", str(run), "--name", "topk-32", "--figure", str(run / "fvu.png")])
    verify.main([str(run), "--repair"])
    assert len(planted) > 15
    assert [stranger.read_text() for stranger in planted] == [f"mine, in {stranger.parent}" for stranger in planted]


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_a_folder_of_others_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dry_run: list[str]
) -> None:
    thesis = tmp_path / "mysite/index/src/thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("mine")
    with pytest.raises(SystemExit) as end:
        harvest.main(["--out", str(tmp_path / "mysite"), "--images", "stimuli", "--max-stimuli", "5", *dry_run])
    assert end.value.code == 1
    assert "mysite: holds other files (such as 'index') and is no run of this program" in capsys.readouterr().out
    assert [path for path in (tmp_path / "mysite").rglob("*") if path.is_file()] == [thesis]


def test_a_finished_run_is_left_as_it_is(finished: RunFolder) -> None:
    before = {
        file: file.stat().st_mtime_ns
        for file in finished.location.local_path.rglob("*")
        if file.is_file() and "atlas" not in file.parts
    }
    run_harvest(finished, HARVEST, Workers())
    run_train(finished, "topk-64", [TRAIN], Workers())
    after = {file: file.stat().st_mtime_ns for file in before if "features" not in file.parts}
    assert after == {file: time for file, time in before.items() if file in after}


def test_the_harvest_computes_only_what_is_missing(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupt after the first shard, then run the same command: the same bytes as in one go, and the first shard not
    again."""
    run = RunFolder.at(str(tmp_path / "run"))
    with monkeypatch.context() as patched:
        patched.setattr(harvest.cluster, "deal", _stop_after_one)
        with pytest.raises(KeyboardInterrupt):
            run_harvest(run, HARVEST, Workers(num_workers=1))
    first = store.finished_commits(run)
    assert list(first) == [0]
    run_harvest(run, HARVEST, Workers(num_workers=2))
    whole, interrupted = store.finished_commits(finished), store.finished_commits(run)
    assert interrupted[0].attempt == first[0].attempt
    assert {s: c.sha256 for s, c in interrupted.items()} == {s: c.sha256 for s, c in whole.items()}
    with pytest.raises(store.StoreError, match="seed 0 -> 1"):
        run_harvest(run, HarvestConfig(**{**HARVEST.to_json(), "seed": 1}), Workers())


def test_arithmetic_is_decided_once_and_kept_by_a_continued_run(tmp_path: Path) -> None:
    run = RunFolder.at(str(tmp_path / "run"))
    config = HarvestConfig(images="stimuli", max_stimuli=10, group="D1", layer="conv1")
    run_harvest(run, config, Workers(num_workers=1))
    decided = open_store(run).attrs["config"]["dtype"]
    assert decided == "float32"
    run_harvest(run, config, Workers(num_workers=1))
    with pytest.raises(store.StoreError, match=r"dtype '?float32'? -> '?bfloat16"):
        run_harvest(run, HarvestConfig(**{**config.to_json(), "dtype": "bfloat16"}), Workers(num_workers=1))


def _stop_after_one(actors, items, submit, *, poll):
    import ray

    yield ray.get(submit(actors[0], next(iter(items))))
    raise KeyboardInterrupt


def test_training_under_a_taken_name_with_other_options_is_refused(finished: RunFolder) -> None:
    other = TrainConfig(**{**TRAIN.to_json(), "k": 5})
    with pytest.raises(ValueError, match=r"was trained with other options \(k: 5, not 4\); choose another --name"):
        run_train(finished, "topk-64", [other], Workers())


def test_the_plain_autoencoder_trains_on_the_untransformed_block_of_the_same_store(finished: RunFolder) -> None:
    config = TrainConfig(**{**TRAIN.to_json(), "group": "trivial", "activation": "l1"})
    run_train(finished, "sae", [config], Workers())
    model = GroupCrosscoder.load(finished.crosscoder("sae"))
    assert tuple(model.W_dec.shape) == (64, 1, 480)
    assert dict(run_analyse(finished, "sae", AnalyseJob(run="").config))["features"].endswith("without symmetry")
    with pytest.raises(ValueError, match=r"sae, topk-64 found, expected one; name it with --name"):
        only_crosscoder(finished)


@pytest.mark.parametrize("dict_shards", [1, 2])
def test_two_training_workers_reach_what_one_reaches(finished: RunFolder, dict_shards: int) -> None:
    workers = Workers(num_workers=2, cpus_per_worker=1, gpus_per_worker=0, dict_shards=dict_shards)
    run_train(finished, f"two-workers-{dict_shards}", [TRAIN], workers)
    one, two = (
        json.loads((finished.crosscoder(n).local_path / "config.json").read_text())["results"]
        for n in ("topk-64", f"two-workers-{dict_shards}")
    )
    for name in ("fvu", "held_out_fvu", "l0"):
        assert two[name] == pytest.approx(one[name], rel=1e-3)


def test_several_are_trained_side_by_side_as_alone_and_only_once(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [replace(TRAIN, dict_size=size) for size in (64, 32)]
    summaries = run_train(finished, "several", configs, Workers())
    assert list(summaries) == ["several-64", "several-32"]
    alone, together = (GroupCrosscoder.load(finished.crosscoder(name)) for name in ("topk-64", "several-64"))
    for name, weights in alone.state_dict().items():
        assert weights.equal(together.state_dict()[name])
    assert GroupCrosscoder.load(finished.crosscoder("several-32")).shape.dict_size == 32
    fitted: list[list[str]] = []

    def note(settings: LoopSettings, *rest: object) -> None:
        fitted.append(list(settings.configs))
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", note)
    assert run_train(finished, "several", configs, Workers()) == summaries
    with pytest.raises(KeyboardInterrupt):
        run_train(finished, "several", [*configs, replace(TRAIN, dict_size=16)], Workers())
    assert fitted == [["several-16"]]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_divergence_ends_with_one_line_and_is_not_repeated(finished: RunFolder, num_workers: int) -> None:
    config = replace(TRAIN, activation="l1", learning_rate=1e18, seed=num_workers)
    with pytest.raises(ValueError, match=r"^step \d+: the .*lower learning_rate \(now 1e\+18\)"):
        run_train(finished, f"wild-{num_workers}", [config], Workers(num_workers=num_workers, gpus_per_worker=0))
    kept = finished.crosscoder(f"wild-{num_workers}").local_path
    assert not (kept / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--images", "/no/such/folder"], "is neither a file nor a folder"),
        (["--images", "stimuli", "--group", "E8"], "expected D followed by a number"),
        (["--images", "stimuli", "--layer", "inception9z"], "inception9z"),
        (["--images", "stimuli", "--backbone", "inceptionv1"], "tensorflow_inception_graph.pb"),
    ],
)
def test_a_wrong_option_ends_with_one_clear_line(
    args: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        pipeline.main(["--out", str(tmp_path / "run"), *args])
    captured = io.StringIO(capsys.readouterr().out + capsys.readouterr().err).read()
    assert end.value.code != 0
    assert message in captured.replace("\n", " ")
    assert "Traceback" not in captured


def test_a_killed_worker_is_started_again_where_it_left_off(finished: RunFolder) -> None:
    """kill -9 once there is a checkpoint; the end is that of the same training in this process, undisturbed."""
    config = replace(TRAIN, steps=400, checkpoint_every=20, seed=7)
    folder, killed = finished.crosscoder("killed"), []

    def kill() -> None:
        while not killed and not checkpoint.checkpoints(Location.parse(f"{folder}/checkpoints")):
            time.sleep(0.05)
        for pid in training_workers():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run_train(finished, "killed", [config], Workers(num_workers=1, gpus_per_worker=0))
    killer.join(60)
    assert len(killed) == 1
    rows = pq.read_table(folder.local_path / "metrics.parquet").to_pylist()
    assert [row["step"] for row in rows] == list(range(10, 401, 10))
    opened = training.open_data(finished, config)
    (trainer,) = training.train(
        [training.resolve(config, opened)], opened, training.Worker(), report=lambda metrics: None
    )
    for row, expected in zip(rows, trainer.metrics, strict=True):
        assert {name: value for name, value in row.items() if value is not None} == pytest.approx(expected, rel=1e-4)
    assert [each.step for each in checkpoint.checkpoints(Location.parse(f"{folder}/checkpoints"))][-2:] == [380, 400]
    assert list((folder.local_path / "tensorboard").glob("events.*"))


def training_workers() -> list[int]:
    """Process numbers of the training workers of this session's Ray, known by the home folder that is ours alone."""
    home, found = f"HOME={os.environ['HOME']}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            named = (process / "cmdline").read_bytes().startswith(b"ray::RayTrainWorker")
            if named and home in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found
