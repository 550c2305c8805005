"""Activations from files: every form gives the same store, and what is not what it says is refused by name.

Letters: N rows, G group elements, C channels.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray
from safetensors.torch import save_file

from gc_core import ingest, manifest, store
from gc_core.ingest import IngestConfig, IngestError, IngestPlan
from gc_core.io import objects
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder

NUM_ROWS, ORDER, CHANNELS = 700, 4, 5


def activations(num_rows: int = NUM_ROWS) -> NDArray[np.float32]:
    """Halves as after a ReLU; all of them exact in float16."""
    rng = np.random.default_rng(0)
    return np.maximum(rng.normal(size=(num_rows, ORDER, CHANNELS)), 0).astype(np.float16).astype(np.float32)


def _npz(folder: Path, acts: NDArray[Any], save: Callable[..., None]) -> Path:
    save(folder / "a.npz", acts=acts, labels=np.arange(len(acts)))
    return folder / "a.npz"


def _npy(folder: Path, acts: NDArray[Any]) -> Path:
    np.save(folder / "a.npy", acts)
    return folder / "a.npy"


def _zarr(folder: Path, acts: NDArray[Any], **options: Any) -> Path:
    array = zarr.create_array(folder / "a.zarr", data=acts, **options)
    assert array.shape == acts.shape
    return folder / "a.zarr"


def _zarr_group(folder: Path, acts: NDArray[Any]) -> Path:
    root = zarr.create_group(folder / "g")
    root.create_array("deep/acts", data=acts)
    root.create_array("other", data=acts[:3])
    return folder / "g"


def _torch(folder: Path, value: Any) -> Path:
    torch.save(value, folder / "a.pt")
    return folder / "a.pt"


def _safetensors(folder: Path, acts: NDArray[Any]) -> Path:
    save_file(
        {"acts": torch.from_numpy(np.ascontiguousarray(acts)), "labels": torch.arange(3)}, folder / "a.safetensors"
    )
    return folder / "a.safetensors"


def _in_parts(folder: Path, acts: NDArray[Any]) -> Path:
    """Twelve files whose numbers do not sort as text does, beside what is no array."""
    (folder / "parts").mkdir()
    for number, part in enumerate(np.array_split(acts, 12)):
        np.save(folder / "parts" / f"part{number}.npy", part)
    (folder / "parts" / "README.txt").write_text("about")
    (folder / "parts" / ".part0.npy").write_bytes(b"hidden")
    return folder / "parts"


FORMS: dict[str, tuple[Callable[[Path, NDArray[Any]], Path], dict[str, Any]]] = {
    "npy": (_npy, {}),
    "npy, float64": (lambda folder, acts: _npy(folder, acts.astype(np.float64)), {}),
    "npy, float16": (lambda folder, acts: _npy(folder, acts.astype(np.float16)), {}),
    "npy, big-endian": (lambda folder, acts: _npy(folder, acts.astype(">f4")), {}),
    "npy, Fortran order": (lambda folder, acts: _npy(folder, np.asfortranarray(acts)), {}),
    "npy, one position": (lambda folder, acts: _npy(folder, acts[..., None, None]), {}),
    "npy, flattened": (lambda folder, acts: _npy(folder, acts.reshape(len(acts), -1)), {"flattened": True}),
    "npz": (lambda folder, acts: _npz(folder, acts, np.savez), {"array": "acts"}),
    "npz, compressed": (lambda folder, acts: _npz(folder, acts, np.savez_compressed), {"array": "acts"}),
    "Zarr v3": (_zarr, {}),
    "Zarr v3, shards": (lambda folder, acts: _zarr(folder, acts, chunks=(10, 4, 5), shards=(100, 4, 5)), {}),
    "Zarr v2": (lambda folder, acts: _zarr(folder, acts, zarr_format=2, chunks=(100, 2, 5)), {}),
    "Zarr group": (_zarr_group, {"array": "deep/acts"}),
    "safetensors": (_safetensors, {"array": "acts"}),
    "torch": (lambda folder, acts: _torch(folder, torch.from_numpy(acts)), {}),
    "torch, named": (lambda folder, acts: _torch(folder, {"acts": torch.from_numpy(acts), "step": 3}), {}),
    "torch, strided": (
        lambda folder, acts: _torch(folder, torch.from_numpy(np.asfortranarray(acts)).requires_grad_()),
        {},
    ),
    "folder": (_in_parts, {}),
    "pattern": (lambda folder, acts: _in_parts(folder, acts) / "part*.npy", {}),
}


def config_of(path: Path, **options: Any) -> IngestConfig:
    return IngestConfig(**{"activations": str(path), "group": "D2", **options})


def planned(config: IngestConfig) -> IngestPlan:
    return ingest.plan_ingest(config, ingest.survey(config))


def ingested(folder: Path, config: IngestConfig) -> RunFolder:
    run, plan = RunFolder.at(str(folder)), planned(config)
    ingest.write_manifest(run, config, plan)
    ingest.create_store(run, config, plan)
    for shard in range(plan.num_shards):
        store.write_shard(run, shard, ingest.compute_shard(plan, shard, seed=config.seed), attempt="test")
    store.finish(run)
    return run


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    folder = tmp_path_factory.mktemp("expected")
    return store.open_store(ingested(folder / "run", config_of(_npy(folder, activations()))))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_store(form: str, tmp_path: Path, expected: store.Store) -> None:
    write, options = FORMS[form]
    found = store.open_store(ingested(tmp_path / "run", config_of(write(tmp_path, activations()), **options)))
    np.testing.assert_array_equal(found[:], expected[:])
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.attrs["mean_squared_block_norm"] == expected.attrs["mean_squared_block_norm"]


def test_every_sample_stands_there_once_and_its_row_of_the_manifest_says_whence(expected: store.Store) -> None:
    np.testing.assert_array_equal(np.sort(expected.image), np.arange(NUM_ROWS))
    np.testing.assert_array_equal(expected[:], activations()[expected.image].astype(np.float16))
    table = manifest.load_table(expected.run.manifest).to_pylist()
    assert [(row["image"], row["member"], row["status"]) for row in table[:2]] == [
        (0, "row 0", "ok"),
        (1, "row 1", "ok"),
    ]
    assert table[0]["url"].endswith("a.npy")
    assert {row["split"] for row in table} == {"train", "validation"}


def test_a_shard_mixes_samples_from_all_over_the_source(tmp_path: Path) -> None:
    plan = planned(config_of(_npy(tmp_path, activations(5_000)), shard_rows=1024))
    rows = plan.rows_of(0)
    assert max(part[-1] for part in rows) - min(part[0] for part in rows) > 2_500
    assert sorted(row for shard in range(plan.num_shards) for part in plan.rows_of(shard) for row in part) == list(
        range(5_000)
    )


@pytest.mark.parametrize("kind", ["numbers", "names"])
def test_samples_of_one_image_are_held_out_together(kind: str, tmp_path: Path) -> None:
    numbers = np.arange(NUM_ROWS) // 7 * 3
    np.save(tmp_path / "ids.npy", numbers if kind == "numbers" else np.char.add("p", numbers.astype(str)))
    run = ingested(tmp_path / "run", config_of(_npy(tmp_path, activations()), image=str(tmp_path / "ids.npy")))
    table, opened = manifest.load_table(run.manifest), store.open_store(run)
    members = np.array(table["member"].to_pylist())
    assert len(members) == len(np.unique(numbers))
    assert 1 <= manifest.held_out(table).sum() < len(members)
    rows = {
        row.tobytes(): str(name).removeprefix("p") for row, name in zip(opened[:], members[opened.image], strict=True)
    }
    assert all(rows[row.tobytes()] == str(n) for row, n in zip(activations().astype(np.float16), numbers, strict=True))


def test_an_id_is_held_out_in_every_run_alike(tmp_path: Path) -> None:
    acts, held = _npy(tmp_path, activations()), []
    for number, order in enumerate((slice(None), slice(None, None, -1))):
        np.save(tmp_path / f"ids{number}.npy", np.arange(1000, 1000 + NUM_ROWS)[order])
        config = config_of(acts, image=str(tmp_path / f"ids{number}.npy"))
        table = ingest.manifest_table(config, planned(config))
        held.append({row["member"] for row in table.to_pylist() if row["split"] == "validation"})
    assert held[0] == held[1] != set()


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def _pickled_zarr(folder: Path, mark: Path) -> Path:
    """Version 2, with a codec that unpickles."""
    below = folder / "evil.zarr"
    below.mkdir()
    metadata = {"zarr_format": 2, "shape": [2, 4, 5], "chunks": [2, 4, 5], "dtype": "<f4", "order": "C"}
    metadata |= {"compressor": {"id": "pickle", "protocol": 4}, "fill_value": 0.0, "filters": None}
    (below / ".zarray").write_text(json.dumps(metadata))
    (below / "0.0.0").write_bytes(pickle.dumps(Evil(mark)))
    return below


HOSTILE: dict[str, Callable[[Path, Path], Path]] = {
    "npy of objects": lambda folder, mark: _npy(folder, np.array([Evil(mark)], object)),
    "npz of objects": lambda folder, mark: _npz(folder, np.array([Evil(mark)], object), np.savez),
    "compressed npz of objects": lambda folder, mark: _npz(folder, np.array([Evil(mark)], object), np.savez_compressed),
    "torch file": lambda folder, mark: _torch(folder, {"acts": Evil(mark)}),
    "Zarr codec": _pickled_zarr,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_unpickled(name: str, tmp_path: Path) -> None:
    options = {"array": "acts"} if "npz" in name or "torch" in name else {}
    path, mark = HOSTILE[name](tmp_path, tmp_path / "mark"), tmp_path / "mark"
    with pytest.raises(IngestError, match=str(path.name)):
        ingested(tmp_path / "run", config_of(path, **options))
    assert not mark.exists()


def test_the_pickles_of_these_tests_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        (lambda a: a.astype(np.int32), {}, "numbers of type int32 found, expected floats"),
        (lambda a: a.astype(np.complex64), {}, "numbers of type complex64 found, expected floats"),
        (lambda a: a.astype(bool), {}, "numbers of type bool found, expected floats"),
        (lambda a: a[:0], {}, "no samples found"),
        (lambda a: a, {"group": "D8"}, r"shape \(700, 4, 5\) found, expected \(N, 16, C\) for D8; .* C4 or D2"),
        (lambda a: a.transpose(0, 2, 1), {}, "the last two axes seem to be exchanged"),
        (lambda a: a.reshape(len(a), -1), {}, "4 blocks of 5 numbers.* give --flattened"),
        (lambda a: a[:, 0], {}, r"shape \(700, 5\) found"),
        (lambda a: a[..., None].repeat(3, 3), {}, "take one position of each map"),
        (lambda a: a[..., :0], {}, r"shape \(700, 4, 0\) found"),
        (lambda a: a[0], {"group": "C5"}, r"shape \(4, 5\) found, .*give --flattened"),
        (lambda a: np.float32(3), {}, r"shape \(\) found"),
        (lambda a: a, {"array": "acts", "image_array": "x", "image": "/nowhere.npy"}, "nowhere.npy: not found"),
    ],
)
def test_what_is_not_as_the_options_say_is_refused(
    changed: Callable[[NDArray[Any]], NDArray[Any]], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((IngestError, OSError), match=message):
        planned(config_of(_npy(tmp_path, changed(activations())), **options))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "row 321, element 2, channel 4: nan found, expected finite numbers"),
        (-np.inf, "row 321, element 2, channel 4: -inf found, expected finite"),
        (7e4, r"row 321, element 2, channel 4: 70000 found, expected at most 65,504 .*--scale"),
        (1e300, "row 321, element 2, channel 4: 1e[+]300 found, expected at most"),
    ],
)
def test_a_number_that_cannot_be_stored_is_named_with_its_place(value: float, message: str, tmp_path: Path) -> None:
    acts = activations().astype(np.float64)
    acts[321, 2, 4] = value
    with pytest.raises(IngestError, match=rf"a\.npy: {message}"):
        ingested(tmp_path / "run", config_of(_npy(tmp_path, acts)))


def test_in_a_folder_the_place_is_told_within_its_file(tmp_path: Path) -> None:
    acts = activations(120)
    acts[101, 0, 0] = np.nan
    with pytest.raises(IngestError, match=r"part10\.npy: row 1, element 0"):
        ingested(tmp_path / "run", config_of(_in_parts(tmp_path, acts)))


def test_numbers_too_small_for_float16_are_refused_and_scaling_helps(tmp_path: Path) -> None:
    path = _npy(tmp_path, activations().astype(np.float64) * 1e-7)
    with pytest.raises(IngestError, match=r"lost in float16 .*--scale"):
        ingested(tmp_path / "run", config_of(path))
    found = store.open_store(ingested(tmp_path / "scaled", config_of(path, scale=1e7)))
    np.testing.assert_array_equal(found[:], activations()[found.image].astype(np.float16))


def _said(attempt: Callable[[], object]) -> str:
    """What a user would hear; nothing where it worked."""
    try:
        attempt()
    except (ValueError, OSError) as error:
        return str(error).strip()
    return ""


@pytest.mark.parametrize("form", ["npy", "npz", "npz, compressed", "Zarr v3", "Zarr v2", "safetensors", "torch"])
def test_every_truncated_or_flipped_file_is_read_or_refused_in_one_line(form: str, tmp_path: Path) -> None:
    write, options = FORMS[form]
    path = write(tmp_path, activations(64))
    rng = np.random.default_rng(0)
    for number in range(24):
        copy = tmp_path / f"{number}" / path.name
        copy.parent.mkdir()
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
        files = [file for file in ([copy] if copy.is_file() else sorted(copy.rglob("*"))) if file.is_file()]
        file = files[rng.integers(len(files))]
        content = bytearray(file.read_bytes())
        if number % 3 == 0:
            content = content[: rng.integers(len(content))]
        else:
            content[rng.integers(min(len(content), 400 if number % 3 == 1 else len(content)))] ^= 1 << rng.integers(8)
        file.write_bytes(content)
        assert "\n" not in _said(
            lambda number=number, copy=copy: ingested(tmp_path / f"run{number}", config_of(copy, **options))
        )


def test_a_zarr_array_with_a_chunk_missing_is_refused_unless_that_is_accepted(tmp_path: Path) -> None:
    path = _zarr(tmp_path, activations(), chunks=(100, 4, 5))
    (path / "c" / "3" / "0" / "0").unlink()
    with pytest.raises(IngestError, match=r"1 chunks are missing .*--absent-chunks"):
        planned(config_of(path))
    assert planned(config_of(path, absent_chunks=True)).num_rows == NUM_ROWS


def test_an_array_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    path = _npz(tmp_path, activations(), np.savez)
    with pytest.raises(IngestError, match="acts, labels found, expected one array; name it with --array"):
        planned(config_of(path))
    with pytest.raises(IngestError, match="no array 'other' found, expected one of acts, labels"):
        planned(config_of(path, array="other"))


def test_a_place_with_nothing_in_it_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"no activations found, expected \.npy, .*Zarr"):
        planned(config_of(tmp_path))
    with pytest.raises((IngestError, OSError), match=r"gone\.npy: not found"):
        planned(config_of(tmp_path / "gone.npy"))


def test_another_number_of_ids_than_samples_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.arange(699))
    with pytest.raises(IngestError, match="699 image ids found, expected one for each of 700 samples"):
        planned(config_of(_npy(tmp_path, activations()), image=str(tmp_path / "ids.npy")))
    np.save(tmp_path / "ids.npy", np.arange(700.0))
    with pytest.raises(IngestError, match=r"float64 \(700,\) found, expected one whole number or name"):
        planned(config_of(_npy(tmp_path, activations()), image=str(tmp_path / "ids.npy")))


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    config = config_of(_npy(tmp_path, activations()))
    run, plan = ingested(tmp_path / "run", config), planned(config)
    assert [ingest.fault_of_source(run, plan, shard, seed=0) for shard in range(plan.num_shards)] == [
        None
    ] * plan.num_shards
    first = int(plan.rows_of(0)[0][0])
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r+")
    mapped[first, 1, 1] += 1
    mapped.flush()
    fault = ingest.fault_of_source(run, plan, 0, seed=0)
    assert fault is not None
    assert "1 of 128 samples differ from their source" in fault


def test_another_source_does_not_continue_a_run(tmp_path: Path) -> None:
    config = config_of(_npy(tmp_path, activations()))
    run = ingested(tmp_path / "run", config)
    ingest.refuse_other_store(run, config, planned(config))
    with pytest.raises(store.StoreError, match=r"scale 1\.0 -> 2\.0"):
        ingest.refuse_other_store(run, replace(config, scale=2.0), planned(config))
    _npy(tmp_path, activations(699))
    with pytest.raises(store.StoreError, match="num_rows 700 -> 699"):
        ingest.refuse_other_store(run, config, planned(config))


def test_the_trivial_group_takes_plain_vectors(tmp_path: Path) -> None:
    config = config_of(_npy(tmp_path, activations()[:, 0]), group="trivial")
    assert store.open_store(ingested(tmp_path / "run", config))[:].shape == (NUM_ROWS, 1, CHANNELS)


@pytest.mark.s3
@pytest.mark.parametrize("form", ["npy", "npz, compressed", "Zarr v2", "Zarr group", "safetensors", "torch", "folder"])
def test_what_lies_in_a_bucket_gives_the_same_store(
    form: str, s3_url: str, tmp_path: Path, expected: store.Store
) -> None:
    write, options = FORMS[form]
    path = write(tmp_path, activations())
    for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
        objects.write(Location.parse(s3_url), file.relative_to(tmp_path).as_posix(), file.read_bytes())
    config = IngestConfig(activations=(Location.parse(s3_url) / path.name).url, group="D2", **options)
    found = store.open_store(ingested(tmp_path / "run", config))
    np.testing.assert_array_equal(found[:], expected[:])
