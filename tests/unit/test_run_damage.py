"""Every file of a finished run, damaged in every way: refused by its name in one line, or read as it was written.

Fixed seeds. What is read back: the store and its metadata, commit records, the manifest, crosscoders, checkpoints,
features, evaluations, exports, markers.
"""

import hashlib
import json
import random
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gc_core import analyse, evaluate, groups, manifest, store
from gc_core.analyse import faults_of_artefacts, not_protected
from gc_core.config import AnalyseConfig, Config, HarvestConfig, ResolvedTrainConfig, TrainConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.evaluate import Evaluation, measure_held_out
from gc_core.export import Story, write_hub
from gc_core.families import numbered
from gc_core.io import ownership
from gc_core.io.json_objects import read_json, write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder, read_trained
from gc_core.store.commits import read_commits
from gc_core.train import Worker, checkpoint, train
from gc_core.train.checkpoint import METRICS, write_metrics
from gc_core.train.recovery import Checkpointing
from support.small_runs import write_run
from support.small_trainings import opened

NAME = "a"
FLIPS, CUTS = 8, 2
"""Bits flipped in, and ends cut off, each file, one at a time."""
ROUNDS = 1
"""Of hostile values in records without seals."""


def finished_run(folder: Path) -> RunFolder:
    """300 samples over C_4, a crosscoder with a checkpoint, its features, evaluation and export."""
    acts_NGC = np.random.default_rng(0).standard_normal((300, 4, 6)).astype(np.float32)
    run = write_run(folder, acts_NGC, groups.cyclic(4), held_out_images=(1, 2))
    run.claim()
    config, data = opened(run, dict_size=8, steps=4, batch=32, checkpoint_every=2)
    (trainer,) = train(
        [config],
        data,
        Worker(),
        report=lambda metrics: None,
        checkpointing=Checkpointing(folders=[run.crosscoder(NAME)]),
    )
    model = trainer.exported()
    assert model is not None
    hashes = {METRICS: write_metrics(run.crosscoder(NAME), trainer.metrics)}
    model.save(run.crosscoder(NAME))
    about = read_json(run.crosscoder(NAME), "config.json")
    known = {"train": config.to_json(), "results": trainer.metrics[-1], "files": {**about["files"], **hashes}}
    write_json(run.crosscoder(NAME), "config.json", {**about, **known})
    analysed(run, model)
    found = Evaluation(held_out=measure_held_out(run, model), stability={}, downstream=None)
    evaluate.write_evaluation(run, NAME, found)
    evaluate.write_evaluation(run, NAME, found, 2)
    story = Story(name=NAME, trained=known, store={}, evaluation=None)
    write_hub(Location.parse(folder / "export"), model, story)
    return run


def analysed(run: RunFolder, model: GroupCrosscoder) -> None:
    opened_store, every = store.open_store(run), np.arange(8)
    seen = analyse.watch_shards(opened_store, range(opened_store.num_shards), model, top_examples=2)
    firing = analyse.merge_firing([seen], opened_store.image, top_examples=2)
    symmetry = analyse.describe_features(model, every)
    evidence = analyse.evidence_of_features(model, every, (0.0, 0.0), AnalyseConfig())
    judged = analyse.judge(evidence, model.group, AnalyseConfig())
    alone = numbered([], 8)
    analyse.write_features(run, NAME, symmetry, judged, firing, alone, model.group, {"fvu": 0.5, "l0": 1.0})


def readers(run: RunFolder) -> Iterator[Callable[[], Any]]:
    """Everything that is ever read back of such a run."""
    kept = f"{run.crosscoder(NAME)}/checkpoints"
    yield lambda: store.open_store(run)[:].tobytes()
    yield lambda: store.open_store(run).image.tolist()
    yield lambda: sorted(store.open_store(run).attrs.items(), key=lambda item: item[0])
    yield lambda: [repr(commit) for commit in read_commits(run).values()]
    yield lambda: manifest.load_table(run.manifest).to_pylist()
    yield lambda: [repr(sorted(GroupCrosscoder.load(run.crosscoder(NAME)).state_dict().items()))]
    yield lambda: ResolvedTrainConfig.from_json(read_trained(run.crosscoder(NAME))[0])
    yield lambda: read_trained(run.crosscoder(NAME))[1]
    yield lambda: [repr(checkpoint.load(found)) for found in checkpoint.checkpoints(Location.parse(kept))]
    yield lambda: repr(analyse.load_features(run, NAME))
    yield lambda: [evaluate.read_evaluation(run, NAME, step) for step in (None, 2)]
    yield lambda: repr(sorted(GroupCrosscoder.load(f"{run.url}/export").state_dict().items()))
    yield lambda: ownership.read_marker(run.location, "run")
    yield lambda: ownership.read_marker(run.location / "export", "export")


def read_all(run: RunFolder, which: Collection[int] | None = None) -> dict[int, str]:
    """The hash of what each reader gives, or the line in which it refuses, by the reader's number."""
    found = {}
    for number, reader in enumerate(readers(run)):
        if which is not None and number not in which:
            continue
        try:
            found[number] = hashlib.sha256(repr(reader()).encode()).hexdigest()
        except (ValueError, OSError) as error:
            found[number] = f"refused: {error}"
    return found


def readers_of(path: Path, run: RunFolder) -> set[int]:
    """Numbers of the readers that open a file: those to which it makes a difference that it is there."""
    expected, content = read_all(run), path.read_bytes()
    path.unlink()
    gone = read_all(run)
    path.write_bytes(content)
    return {number for number in expected if gone[number] != expected[number]}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    finished_run(folder)
    return folder


@pytest.fixture
def run(master: Path, tmp_path: Path) -> RunFolder:
    return RunFolder.at(str(shutil.copytree(master, tmp_path / "run")))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


NEVER_READ = ("README.md", METRICS)
"""Written for people and other programs; `jobs.verify` compares their hashes."""


def harmed(content: bytes, rng: random.Random) -> Iterator[bytes]:
    for _ in range(FLIPS):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        yield bytes(changed)
    for _ in range(CUTS):
        yield content[: rng.randrange(len(content))]
    yield b""
    yield content + b"\0"


def hostile_json(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """The same record with other types, huge numbers, nothing, or far too deep."""
    record = json.loads(content)
    strange = [None, -1, 10**30, 2**63, 1e308, "", "x\x1b[31m", [], {}, True, [[]] * 3, {"a": {}}]
    for _ in range(FLIPS):
        changed = json.loads(content)
        inner = changed
        while isinstance(inner, dict) and inner:
            key = rng.choice(sorted(inner))
            if not isinstance(inner[key], dict) or rng.random() < 0.3:
                if rng.random() < 0.2:
                    del inner[key]
                else:
                    inner[key] = rng.choice(strange)
                break
            inner = inner[key]
        yield json.dumps(changed).encode()
    yield from (b"null", b"[]", b"[" * 50_000, b'{"a": NaN}', b'{"a": 1, "a": 2}', json.dumps([record]).encode())


def unsealed_json(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """As `hostile_json`, of records as versions without seals wrote them: each value is all that tells of itself."""
    record = json.loads(content)
    for holder in (record, record.get("attributes", {})):
        holder.pop("record_sha256", None)
    for _ in range(ROUNDS):
        yield from hostile_json(json.dumps(record).encode(), rng)


def test_a_run_that_nobody_touched_reads_as_it_was_written(master: Path, run: RunFolder) -> None:
    """The control, and that nothing depends on where a run lies."""
    assert read_all(run) == read_all(RunFolder.at(str(master)))
    assert not any(line.startswith("refused") for line in read_all(run).values())
    assert list(faults_of_artefacts(run)) == []


@pytest.mark.slow
@pytest.mark.parametrize("way", [harmed, hostile_json])
def test_damage_of_any_file_is_refused_by_name_or_changes_nothing(
    master: Path, run: RunFolder, way: Callable[[bytes, random.Random], Iterator[bytes]]
) -> None:
    folder, rng, counts = run.location.local_path, random.Random(0), {"refused": 0, "harmless": 0}
    expected = read_all(run)
    for path in files_of(folder):
        if path.name in NEVER_READ or (way is hostile_json and path.suffix != ".json"):
            continue
        content, opening = path.read_bytes(), readers_of(path, run)
        assert opening, path.relative_to(folder)
        for changed in way(content, rng):
            path.write_bytes(changed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of readers that meet what they do not know
                found = read_all(run, opening)
            for number, after in found.items():
                named = after.startswith("refused: ") and "\n" not in after and _names(after, path, folder)
                assert after == expected[number] or named, (path.relative_to(folder), changed[:300], after)
            counts["harmless" if found.items() <= expected.items() else "refused"] += 1
        path.write_bytes(content)
    assert counts["refused"] > 5 * counts["harmless"], counts
    assert read_all(run) == expected


@pytest.mark.slow
def test_records_without_seals_are_believed_or_refused_by_name(run: RunFolder) -> None:
    """Nothing tells that a number was another; but no value of theirs ends in an error that names no file."""
    folder, rng, refused = run.location.local_path, random.Random(1), 0
    for path in (path for path in files_of(folder) if path.suffix == ".json"):
        content, opening = path.read_bytes(), readers_of(path, run)
        for changed in unsealed_json(content, rng):
            path.write_bytes(changed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of readers that meet what they do not know
                lines = [line for line in read_all(run, opening).values() if line.startswith("refused: ")]
            for line in lines:
                assert "\n" not in line, (path.relative_to(folder), changed[:300], line)
                assert _names(line, path, folder), (path.relative_to(folder), changed[:300], line)
            refused += len(lines)
        path.write_bytes(content)
    assert refused > 100


def _names(line: str, path: Path, folder: Path) -> bool:
    """Whether a line tells which file, or which folder or shard of it."""
    parts = path.relative_to(folder).parts
    shard = path.stem.isdecimal() or "c" in parts
    return any(part in line for part in (path.name, *parts[:2])) or (shard and "shard" in line)


def test_each_file_that_is_gone_is_noticed(run: RunFolder) -> None:
    folder, expected = run.location.local_path, read_all(run)
    optional = {"evaluation.json", "evaluation-step-00000002.json", ownership.MARKER, *NEVER_READ}
    for path in files_of(folder):
        content = path.read_bytes()
        path.unlink()
        gone = read_all(run)
        noticed = gone != expected or list(faults_of_artefacts(run))
        assert noticed or path.name in optional, path.relative_to(folder)
        path.write_bytes(content)
    assert read_all(run) == expected


def test_features_that_lost_their_record_are_a_fault_and_older_ones_are_not(
    run: RunFolder,
) -> None:
    """Without it nothing compared them: a flipped bit in the table was drawn as it stood."""
    features = run.location.local_path / "features"
    (features / "a.json").unlink()
    (fault,) = faults_of_artefacts(run)
    assert "features/a.json: is missing" in fault
    assert f"`python -m jobs.analyse --run {run.url} --name a` writes them again" in fault
    for metadata in features.rglob("zarr.json"):  # as written before there were checksums
        metadata.write_bytes(metadata.read_bytes().replace(b"crc32c", b"others"))
    assert list(faults_of_artefacts(run)) == []


def test_what_was_written_before_there_were_hashes_is_named(run: RunFolder) -> None:
    """It was counted among what is sound, though nothing was compared."""
    assert not_protected(run) == [], "the control"
    folder = run.location.local_path
    resealed(folder / "crosscoders/a/config.json", lambda record: record.pop("files"))
    for path in (folder / "crosscoders/a").glob("evaluation*.json"):
        resealed(path, lambda record: None)
    (folder / "features/a.json").unlink()
    (folder / "atlas/a").mkdir(parents=True)
    (folder / "atlas/a/index.html").write_text("a page")
    (folder / "atlas/mine").mkdir()
    (folder / "atlas/mine/notes.txt").write_text("of somebody else")
    evaluations = "evaluation-step-00000002.json", "evaluation.json"
    of_crosscoder = [f"crosscoders/a/{name}" for name in ("model.safetensors", "config.json", *evaluations)]
    assert not_protected(run) == [*of_crosscoder, "features/a", "atlas/a"]


@pytest.mark.parametrize("damage", ["flip", "remove", "marker"])
def test_an_export_inside_a_run_is_compared_with_its_hashes(run: RunFolder, damage: str) -> None:
    """Nothing did."""
    export = run.location.local_path / "export"
    (export / "README.md").write_text("a card that its owner edited")
    (export / "more.txt").write_text("of somebody else")
    (RunFolder.at(str(export.parent / "another"))).claim()
    assert list(faults_of_artefacts(run)) == []
    path = export / (ownership.MARKER if damage == "marker" else "model.safetensors")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if damage == "remove":
        path.unlink()
    (fault,) = faults_of_artefacts(run)
    assert fault.startswith(f"{run.url}/export")
    assert path.name in fault
    assert fault.endswith("`python -m jobs.export` into a new folder writes it again")


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation-step-00000002.json"])
def test_an_evaluation_that_was_changed_is_a_fault_before_its_training_has_ended_too(run: RunFolder, name: str) -> None:
    folder = run.crosscoder(NAME).local_path
    for ended in (True, False):
        content = (folder / name).read_text()
        (folder / name).write_text(content.replace("0.", "1.", 1))
        (fault,) = faults_of_artefacts(run)
        assert f"{name}: was changed or damaged since it was written" in fault
        (folder / name).write_text(content)
        assert list(faults_of_artefacts(run)) == []
        if ended:
            config = read_json(Location.parse(folder), "config.json")
            write_json(Location.parse(folder), "config.json", {key: config[key] for key in config if key != "results"})


def test_files_that_no_reader_opens_are_compared_with_their_hashes(run: RunFolder) -> None:
    path = run.crosscoder(NAME).local_path / METRICS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (fault,) = faults_of_artefacts(run)
    assert "metrics.parquet: SHA-256" in fault


def test_weights_that_are_gone_or_changed_are_found_without_loading_them(run: RunFolder) -> None:
    path = run.crosscoder(NAME).local_path / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert any("model.safetensors: SHA-256" in fault for fault in faults_of_artefacts(run))
    path.unlink()
    assert any("model.safetensors: is missing" in fault for fault in faults_of_artefacts(run))


def resealed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A record as somebody would write it who knows about seals, or an earlier version without them."""
    record = json.loads(path.read_text())
    change(record)
    for holder in (record, record.get("attributes", {})):
        holder.pop("record_sha256", None)
    path.write_text(json.dumps(record))


def test_a_sum_in_a_record_is_recomputed_and_not_believed(run: RunFolder) -> None:
    path = run.commits.local_path / "00000001.json"
    resealed(path, lambda record: record.update(sum_squares=100 * record["sum_squares"]))
    with pytest.raises(store.StoreError, match=r"shard 1 of 2 is damaged .*as the sum of squares, expected"):
        store.open_store(run).verify(1)


def test_a_mean_is_recomputed_and_mended(run: RunFolder) -> None:
    path = run.activations.local_path / "zarr.json"
    right = store.open_store(run).attrs["mean_squared_block_norm"]
    resealed(path, lambda record: record["attributes"].update(mean_squared_block_norm=9 * right))
    fault = store.fault_of_mean(run)
    assert fault is not None
    assert "the shards say" in fault
    store.finish(run)
    assert store.fault_of_mean(run) is None
    assert store.open_store(run).attrs["mean_squared_block_norm"] == right


def test_an_image_in_another_split_is_noticed_and_put_back(run: RunFolder) -> None:
    table = manifest.load_table(run.manifest)
    assert manifest.fault_of_splits(run.manifest, table) is None
    place = table.schema.get_field_index("split")
    changed = ["train"] * len(table)
    wrong = table.set_column(place, table.schema.field("split"), [changed])
    fault = manifest.fault_of_splits(run.manifest, wrong)
    assert fault is not None
    assert "2 of 30 images are in another split" in fault
    assert not manifest.mend_splits(run.manifest, wrong, "0" * 64)
    assert manifest.mend_splits(run.manifest, wrong, manifest.digest_of(run.manifest))
    assert manifest.load_table(run.manifest).equals(table)


HOSTILE = [None, -1, 0, 10**30, 2**63, 1e308, float("inf"), "", " ", "x" * 10_000, "\0", "~nouser/x", [], {}]


@pytest.mark.parametrize("kind", [HarvestConfig, TrainConfig, AnalyseConfig])
def test_a_config_of_hostile_values_is_refused_or_means_what_it_says(kind: type[Config]) -> None:
    plain = kind().to_json()
    lines = []
    for name, value in ((name, value) for name in plain for value in HOSTILE):
        try:
            config = kind.from_json({**plain, name: value})
        except ValueError as error:
            lines.append(str(error))
        else:
            assert getattr(config, name) == pytest.approx(value)
    assert len(lines) > len(plain)
    assert not any("\n" in line for line in lines)
