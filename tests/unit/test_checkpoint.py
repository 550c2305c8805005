"""A checkpoint gives back what was put in, counts only when it is whole, and nothing in it is executed.

Letters: F features.
"""

import contextlib
import io
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from gc_core.io import objects
from gc_core.io.location import Location
from gc_core.parallel.sharded_state import joined
from gc_core.train.checkpoint import (
    Checkpoint,
    Keep,
    checkpoints,
    delete_older,
    host_copy,
    load,
    metrics_table,
    name_of,
    save_part,
    write_metrics,
)

METRICS = [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 1.25, "held_out_fvu": 0.5}]


def saved(folder: Path, state: dict[str, Any], *, step: int = 20, attempt: str = "0a") -> None:
    save_part(Location.parse(folder) / name_of(step, attempt), state)


def shard(first: int, last: int, dict_size: int, state: dict[str, Any]) -> dict[str, Any]:
    """What a worker holds of a state whose tensors all have features first, but b_dec and step counts."""

    def mine(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            # The fourth parameter is b_dec.
            return {key: mine(each, name if isinstance(key, str) and name == "b_dec" else {3: "b_dec"}.get(key, key))
                    for key, each in value.items()}  # fmt: skip
        whole = not isinstance(value, torch.Tensor) or not value.dim() or name == "b_dec"
        return value if whole else value[first:last]

    return {**{name: mine(value, name) for name, value in state.items()}, "features": [first, last],
            "dict_size": dict_size}  # fmt: skip


def split_state() -> dict[str, Any]:
    """Four features, four blocks: b_dec has as many rows as a shard of a dictionary of 8 in 2 would have."""
    torch.manual_seed(0)
    shapes = {"W_enc": (8, 1, 3), "b_enc": (8,), "W_dec": (8, 4, 3), "b_dec": (4, 3)}
    moments = {
        number: {"step": torch.tensor(3.0), "exp_avg": torch.randn(shape), "exp_avg_sq": torch.rand(shape)}
        for number, shape in enumerate(shapes.values())
    }
    moments[0]["row_step"] = torch.arange(8)
    model = {**{name: torch.randn(shape) for name, shape in shapes.items()}, "threshold": torch.tensor(0.5)}
    return {
        "step": 20,
        "model": model,
        "average": {name: tensor + 1 for name, tensor in model.items()},
        "optimiser": {"state": moments, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1, 2, 3]}]},
        "samples_since_fired": torch.arange(8),
        "metrics": METRICS,
    }


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {
        "step": 20,
        "model": {"W": torch.randn(2, 3), "half": torch.randn(7).bfloat16()},
        "optimiser": {"groups": [{"lr": 1e-3, "betas": (0.9, 0.9)}], "state": {0: {"step": torch.tensor(3.0)}}},
        "metrics": METRICS,
    }
    saved(tmp_path / "new" / "folder", state)
    (found,) = checkpoints(Location.parse(tmp_path / "new" / "folder"))
    assert (found.step, found.num_parts) == (20, 1)
    back = load(found)
    assert back.pop("metrics") == state.pop("metrics")
    torch.testing.assert_close(back, state, rtol=0, atol=0)


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_parts_of_the_features_make_the_whole(tmp_path: Path, num_parts: int) -> None:
    state, size = split_state(), 8 // num_parts
    parts = [shard(first, first + size, 8, state) for first in range(0, 8, size)]
    assert parts[0]["model"]["b_dec"].shape == (4, 3)
    for part in parts:
        assert checkpoints(Location.parse(tmp_path)) == [], "not before all parts are there"
        saved(tmp_path, part)
    (found,) = checkpoints(Location.parse(tmp_path))
    whole = load(found)
    assert whole.pop("features") == [0, 8]
    assert whole.pop("dict_size") == 8
    assert whole.pop("metrics") == state.pop("metrics")
    torch.testing.assert_close(whole, state, rtol=0, atol=0)


def test_parts_that_do_not_make_a_whole_are_refused() -> None:
    first, second = (shard(at, at + 4, 8, split_state()) for at in (0, 4))
    assert joined([second, first])["step"] == 20
    with pytest.raises(ValueError, match="found features 0 to 4, 0 to 4, expected each of 8 once"):
        joined([first, first])
    with pytest.raises(ValueError, match="found features 4 to 8, expected each of 8 once"):
        joined([second])


def test_parts_of_different_attempts_never_mix(tmp_path: Path) -> None:
    first, second = (shard(at, at + 4, 8, split_state()) for at in (0, 4))
    saved(tmp_path, first, attempt="0a")
    saved(tmp_path, second, attempt="0b")
    assert checkpoints(Location.parse(tmp_path)) == []
    saved(tmp_path, first, attempt="0b")
    assert [found.attempt for found in checkpoints(Location.parse(tmp_path))] == ["0b"]


def test_a_host_copy_stays_as_it_is_when_the_state_goes_on() -> None:
    state = {"W": torch.zeros(3), "rows": [1], "pair": (torch.zeros(()), 2)}
    copy = host_copy(state)
    state["W"] += 1
    state["rows"].append(2)
    state["pair"][0].add_(1)
    torch.testing.assert_close(copy, {"W": torch.zeros(3), "rows": [1], "pair": (torch.zeros(()), 2)})


def test_a_part_whose_writing_was_cut_off_does_not_count(tmp_path: Path) -> None:
    url = Location.parse(tmp_path) / name_of(20, "0a")
    with contextlib.suppress(RuntimeError), objects.stream_to(url, "part-0-of-1.pt") as stream:
        stream.write(b"x" * (3 * objects.STREAM_BYTES))
        raise RuntimeError
    assert checkpoints(Location.parse(tmp_path)) == []
    assert objects.folders(Location.parse(tmp_path)) == [name_of(20, "0a")]
    saved(tmp_path, {"step": 30}, step=30)
    delete_older(Location.parse(tmp_path), keep=checkpoints(Location.parse(tmp_path)))
    assert objects.folders(Location.parse(tmp_path)) == [name_of(30, "0a")], "its remains go with the next one"


def test_only_older_ones_are_deleted(tmp_path: Path) -> None:
    for step, attempt in ((10, "0a"), (20, "0a"), (20, "0b"), (30, "0a"), (40, "0a")):
        saved(tmp_path, {"step": step}, step=step, attempt=attempt)
    saved(tmp_path, shard(0, 4, 8, split_state()), step=50)
    found = {(each.step, each.attempt): each for each in checkpoints(Location.parse(tmp_path))}
    delete_older(Location.parse(tmp_path), keep=[found[20, "0b"], found[40, "0a"]])
    assert [(each.step, each.attempt) for each in checkpoints(Location.parse(tmp_path))] == [(20, "0b"), (40, "0a")]
    assert name_of(50, "0a") in objects.folders(Location.parse(tmp_path)), "under way"


def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, {"step": 0, "code": Path("/anything")})
    with pytest.raises(ValueError, match=r"part-0-of-1\.pt: not readable .*delete .* to continue from an earlier"):
        load(*checkpoints(Location.parse(tmp_path)))


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-700], lambda old: old[:2000] + b"!" + old[2001:], lambda old: b""]
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    saved(tmp_path, {"W": torch.randn(1000)})
    (path,) = tmp_path.glob("*/part-0-of-1.pt")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"part-0-of-1\.pt: not readable .*delete"):
        load(*checkpoints(Location.parse(tmp_path)))


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert checkpoints(Location.parse(tmp_path / "nothing")) == []
    delete_older(Location.parse(tmp_path / "nothing"), keep=[])


@pytest.mark.parametrize(
    ("last", "best", "line"), [(0, 1, "keep.last: found 0, expected at least 1"), (1, -1, "keep.best: found -1")]
)
def test_the_newest_is_always_kept(last: int, best: int, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Keep(last=last, best=best)


def test_metrics_are_a_table_with_nulls_where_a_record_lacks_a_column(tmp_path: Path) -> None:
    expected = {"step": [10, 20], "loss": [2.5, 1.25], "held_out_fvu": [None, 0.5]}
    assert metrics_table(METRICS).to_pydict() == expected
    write_metrics(Location.parse(tmp_path), METRICS)
    assert pq.read_table(io.BytesIO(objects.read(Location.parse(tmp_path), "metrics.parquet"))).to_pydict() == expected


def test_a_whole_file_with_a_damaged_program_inside_is_refused_in_one_line(tmp_path: Path) -> None:
    """Its checksums are right, as of a file that another program wrote: torch raises whatever its reader meets."""
    saved(tmp_path, {"step": 20, "b": [1, "x"]})
    (part,) = tmp_path.rglob("*.pt")
    with zipfile.ZipFile(part) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (program,) = (name for name in members if name.endswith("/data.pkl"))
    rng, lines = random.Random(0), []
    for _ in range(200):
        changed = bytearray(members[program])
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        with zipfile.ZipFile(part, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(changed) if name == program else content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of programs that it does not know
            lines.append(refusal(checkpoints(Location.parse(tmp_path))[0]))
    refused = [line for line in lines if line]
    assert len(refused) > 100
    assert not any("\n" in line or "to continue from an earlier" not in line for line in refused)


def refusal(checkpoint: Checkpoint) -> str:
    """The line, or nothing where it is read."""
    try:
        load(checkpoint)
    except ValueError as error:
        return str(error)
    return ""
