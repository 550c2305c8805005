"""Only what killed writers left is removed; what is needed, young, worked at or unknown stays."""

import os
import shutil
import time
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core import leftovers, store
from gc_core.io import lease, objects, s3
from gc_core.io.lease import Rhythm
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.leftovers import Found, judge
from gc_core.train import Trainer, Worker, train
from gc_core.train.checkpoint import Keep, name_of
from gc_core.train.recovery import Checkpointing
from jobs import clean
from support.small_runs import Planted
from support.small_store import NUM_SHARDS, assert_intact, create, numbers, shard_of, write
from support.small_trainings import opened, same_weights

HOUR_S, DAY_S = 3600, 24 * 3600
HASH = "0" * 64


def kinds(ages_h: dict[str, float], held: dict[str, str] | None = None) -> dict[str, str]:
    """Verdicts of names with these ages in hours, but those of what is needed."""
    listing = [Found(name=name, num_bytes=1, age_s=age_h * HOUR_S) for name, age_h in ages_h.items()]
    verdicts = judge(listing, held or {}, older_than_s=DAY_S)
    assert [each.found.name for each in verdicts] == sorted(ages_h)
    return {each.found.name: each.kind for each in verdicts if each.kind != "needed"}


def aged(run: RunFolder, hours: float = 48) -> None:
    then = time.time() - hours * HOUR_S
    for path in run.location.local_path.rglob("*"):
        os.utime(path, (then, then))


def names(run: RunFolder) -> set[str]:
    return set(objects.ages(run.location))


CHECKPOINT = "crosscoders/a/checkpoints/step-00000200-1f3a9c0e/part-{}-of-2.pt"
ANALYSIS = f"features/a.parts/{HASH}/encode-000003-{HASH}.safetensors"
SHARD = "activations.zarr/activations/c/1/0/0"


@pytest.mark.parametrize(
    ("needed_by", "name"),
    [
        ("commits/00000001.json", SHARD),
        ("commits/00000001.json", "activations.zarr/image/c/1"),
        (CHECKPOINT.format(0), CHECKPOINT.format(1)),
    ],
)
def test_a_part_is_nobodys_without_what_makes_it_count(needed_by: str, name: str) -> None:
    assert kinds({needed_by: 48, name: 48}) == {}
    assert kinds({name: 48}) == {name: "leftover"}
    assert kinds({name: 23}) == {name: "busy"}
    assert kinds({name: -5}) == {name: "busy"}  # by a clock that is ahead


@pytest.mark.parametrize(
    ("done", "name"), [("manifest.parquet", "index/part-00000.parquet"), ("features/a.json", ANALYSIS)]
)
def test_parts_of_what_is_unfinished_are_gone_on_from_and_those_of_what_stands_are_nobodys(
    done: str, name: str
) -> None:
    assert kinds({name: 48}) == {}
    assert kinds({name: 49, done: 48}) == {name: "leftover"}


def test_parts_of_an_analysis_begun_after_the_last_one_ended_are_needed() -> None:
    assert kinds({ANALYSIS: 48, "features/a.json": 49}) == {}


@pytest.mark.parametrize("name", [SHARD, "manifest.parquet", "crosscoders/a/model.safetensors", CHECKPOINT.format(0)])
def test_a_write_that_was_cut_off_is_nobodys(name: str) -> None:
    assert kinds({"commits/00000001.json": 48, f"{name}#3": 48})[f"{name}#3"] == "leftover"


def test_a_writer_at_work_keeps_all_of_its_part_of_the_run() -> None:
    """The data it is about to name may be old: those of an earlier attempt are kept where they are sound."""
    assert kinds({SHARD: 48, "commits/00000000.json": 1}) == {SHARD: "busy"}
    assert kinds({SHARD: 48, "crosscoders/a/config.json": 1}) == {SHARD: "leftover"}


@pytest.mark.parametrize("name", [CHECKPOINT.format(0), ANALYSIS, "features/a.parquet#1", "atlas/a/index.html#1"])
def test_what_is_of_a_crosscoder_whose_lease_is_held_stays(name: str) -> None:
    ages_h = {name: 48, "features/a.json": 47}
    assert kinds(ages_h) == {name: "leftover"}
    assert kinds(ages_h, {"crosscoders/a": "process 7"}) == {name: "busy"}
    assert kinds(ages_h, {"crosscoders/b": "process 7"}) == {name: "leftover"}


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "notes.txt#1",
        "activations.zarr/other/c/1/0/0",
        "activations.zarr/activations/c/1/0",
        "activations.zarr/activations/c/01/0/0",
        "commits/1.json",
        "index/part-1.parquet",
        "crosscoders/a/checkpoints/notes.txt",
        "crosscoders/a/checkpoints/step-1-xyz/part-0-of-2.pt",
        "features/a.parts/notes.txt",
    ],
)
def test_what_has_no_name_of_this_program_is_unknown(name: str) -> None:
    assert kinds({name: 1000, "manifest.parquet": 1000}) == {name: "unknown"}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), max_size=5, unique=True))
def test_strangers_names_are_never_leftovers(strange: list[str]) -> None:
    assert "leftover" not in kinds(dict.fromkeys(strange, 1000.0)).values()


def test_what_lies_in_an_export_inside_the_run_is_the_exports() -> None:
    assert kinds({"hub/group-crosscoders.json": 48, "hub/model.safetensors": 48, "hub/README.md": 48}) == {}


def test_an_upload_that_was_never_completed_is_nobodys_if_its_name_is_ours() -> None:
    listing = [
        Found(name=name, num_bytes=1, age_s=2 * DAY_S, upload="u") for name in ("manifest.parquet", "holiday.mp4")
    ]
    assert [each.kind for each in judge(listing, {}, older_than_s=DAY_S)] == ["unknown", "leftover"]


def test_a_finished_run_has_no_leftovers(store_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    aged(store_run)
    before = names(store_run)
    clean.main(["--run", store_run.url, "--delete"])
    assert "0 leftovers, 0 bytes; nothing to delete" in capsys.readouterr().out
    assert names(store_run) == before
    assert_intact(store_run)


def test_leftovers_are_listed_with_the_command_that_removes_them_and_nothing_else(
    store_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store_run.location.local_path
    store.discard_commit(store_run, 1)
    (folder / "notes.txt").write_text("mine")
    (folder / "activations.zarr" / "zarr.json#7").write_text("cut")
    before = names(store_run)
    clean.main(["--run", str(folder), "--delete"])  # all is young
    assert names(store_run) == before
    aged(store_run)
    clean.main(["--run", str(folder)])
    assert names(store_run) == before
    assert capsys.readouterr().out.split("to delete them: ")[1].strip() == (
        f"python -m jobs.clean --run '{folder}' --delete"
    )
    clean.main(["--run", str(folder), "--delete"])
    data = {f"activations.zarr/{name}" for name in ("activations/c/1/0/0", "image/c/1", "centre_yx/c/1/0")}
    assert before - names(store_run) == {*data, "activations.zarr/zarr.json#7"}
    write(store_run, 1)
    store.finish(store_run)
    assert_intact(store_run)


def test_a_commit_that_comes_between_the_list_and_the_removal_keeps_its_shard(store_run: RunFolder) -> None:
    store.discard_commit(store_run, 1)
    aged(store_run)
    verdicts = leftovers.survey(store_run, older_than_s=DAY_S)
    assert {each.kind for each in verdicts} == {"needed", "leftover"}
    store.write_shard(store_run, 1, shard_of(numbers(), 1), attempt="another")
    assert leftovers.remove(store_run, verdicts, older_than_s=DAY_S) == []
    assert_intact(store_run)


def test_a_lease_that_is_held_keeps_its_crosscoder_at_any_age(store_run: RunFolder) -> None:
    part = store_run.crosscoder("a") / "checkpoints/step-00000200-1f3a9c0e/part-0-of-2.pt"
    objects.write(*part.split(), b"part")

    def kind() -> str:
        return {each.found.name: each.kind for each in leftovers.survey(store_run, older_than_s=0)}[
            CHECKPOINT.format(0)
        ]

    with lease.held(store_run.crosscoder("a"), lambda holder, waited_s: None, rhythm=Rhythm(beat_s=600)):
        aged(store_run)
        assert kind() == "busy"
    aged(store_run)
    assert kind() == "leftover"


def test_a_training_goes_on_bit_for_bit_after_half_a_checkpoint_was_removed(
    planted_copy: RunFolder, tmp_path: Path
) -> None:
    def ended(run: RunFolder) -> Trainer:
        config, data = opened(run, steps=28, checkpoint_every=7)
        kept = Checkpointing(folders=[run.crosscoder("a")], keep=Keep(last=100))
        return train([config], data, Worker(), report=lambda metrics: None, checkpointing=kept)[0]

    undisturbed = ended(planted_copy)
    checkpoints = planted_copy.crosscoder("a").local_path / "checkpoints"
    for step in (21, 28):
        [late] = checkpoints.glob(f"step-{step:08}-*")
        shutil.rmtree(late)
    half = checkpoints / name_of(21, "0badcafe")
    half.mkdir()
    (half / "part-0-of-2.pt").write_bytes(b"half")
    aged(planted_copy)
    clean.main(["--run", planted_copy.url, "--delete"])
    assert not half.exists()
    assert len(list(checkpoints.iterdir())) == 2
    assert same_weights(ended(planted_copy), undisturbed)


@pytest.fixture
def planted_copy(planted: Planted, tmp_path: Path) -> RunFolder:
    return RunFolder.at(shutil.copytree(planted.run.location.local_path, tmp_path / "planted"))


@pytest.mark.s3
def test_in_a_bucket_data_without_a_record_and_uploads_without_an_end_are_removed(
    s3_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.at(f"{s3_url}/my run")
    create(run)
    write(run, *range(NUM_SHARDS))
    store.finish(run)
    store.discard_commit(run, 2)
    objects.write(run.location, "notes.txt", b"mine")
    client = boto3.client("s3", region_name="us-east-1")
    key = f"{run.location.path}/{CHECKPOINT.format(0)}"
    upload = client.create_multipart_upload(Bucket=run.location.bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=run.location.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"piece")
    assert [num_bytes for num_bytes, _ in s3.uploads(run.location).values()] == [5]
    before = names(run)
    clean.main(["--run", run.url, "--delete"])
    assert names(run) == before
    clean.main(["--run", run.url, "--older-than-hours", "0", "--delete"])
    assert "4 leftovers" in capsys.readouterr().out.splitlines()[-1]
    assert len(before - names(run)) == 3
    assert s3.uploads(run.location) == {}
    s3.abort_upload(run.location, CHECKPOINT.format(0), upload)  # once more does no harm
    write(run, 2)
    assert_intact(run)


def test_where_uploads_may_not_be_listed_a_line_says_so_and_objects_are_judged(
    bucket: Path, store_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(location: Location) -> None:
        raise OSError("AccessDenied")

    monkeypatch.setattr(s3, "uploads", refused)
    store.discard_commit(store_run, 1)
    shutil.copytree(store_run.location.local_path, bucket / "run")
    clean.main(["--run", "s3://bucket/run", "--older-than-hours", "0", "--delete"])
    said = capsys.readouterr().out
    assert "unfinished uploads were not looked at: AccessDenied" in said
    assert "3 leftovers" in said
    assert not (bucket / "run" / SHARD).exists()


def test_a_folder_that_is_no_run_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt#1").write_text("mine")
    with pytest.raises(SystemExit) as end:
        clean.main(["--run", str(tmp_path), "--older-than-hours", "0", "--delete"])
    assert end.value.code == 1
    [line] = capsys.readouterr().out.splitlines()
    assert "no run found there, expected a folder that `python -m jobs.harvest --out` made" in line
    assert (tmp_path / "notes.txt#1").exists()


@pytest.mark.parametrize("hours", ["-1", "nan", "inf"])
def test_an_age_is_a_number_of_hours(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        clean.main(["--run", "run", "--older-than-hours", hours])
    assert end.value.code == 2
    assert "older-than-hours: found" in capsys.readouterr().err
