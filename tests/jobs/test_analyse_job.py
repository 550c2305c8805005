"""An analysis that was killed goes on from its finished parts; what cannot fit is refused with numbers.

Letters: N rows, G group elements, C channels, F features.
"""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from gc_core import groups
from gc_core.analyse import load_features
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.io.json_objects import write_json
from gc_core.io.run_folder import RunFolder
from jobs import analyse, ingest
from jobs.common import meshes, teams
from jobs.common.options import Workers
from support.processes import interrupted

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

NUM_SHARDS = 40
LIMIT_S = 180
"""For a process to start and to leave its first parts, on a machine busy with other work."""
CONFIG = AnalyseConfig(top_examples=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> RunFolder:
    """Forty small shards over D_2, and a crosscoder of 900 features, most of them turned copies of others."""
    folder, rng = tmp_path_factory.mktemp("analysed"), np.random.default_rng(0)
    acts_NGC = rng.exponential(size=(128 * NUM_SHARDS, 4, 6)).astype(np.float32)
    np.save(folder / "acts.npy", acts_NGC)
    np.save(folder / "ids.npy", np.arange(len(acts_NGC)) // 8)
    places = ["--activations", str(folder / "acts.npy"), "--image", str(folder / "ids.npy"), "--group", "D2"]
    ingest.main([*places, "--shard-rows", "128", "--out", str(folder / "run")])
    found = RunFolder.at(str(folder / "run"))
    shape = CrosscoderShape(group=groups.parse("D_2"), channels=6, dict_size=900, reads=(0,), activation="topk", k=8)
    model = GroupCrosscoder(shape)
    originals = torch.from_numpy(rng.standard_normal((300, 4, 6)))
    columns = [torch.from_numpy(model.group.cayley[:, h]) for h in range(3)]
    model.W_dec.data = torch.cat([originals[:, each] for each in columns]).float()
    model.W_enc.data = torch.from_numpy(rng.standard_normal((900, 1, 6))).float()
    write_json(found.crosscoder("one"), "config.json", {"train": {"k": 8}, "results": {"fvu": 1.0}})
    model.save(found.crosscoder("one"))
    return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which parts tasks were started for."""
    started: list[tuple[str, int]] = []
    task = teams.compute_part

    class Watched:
        def options(self, **options: Any) -> "Watched":
            return self

        def remote(self, work: Any, kind: str, number: int, *rest: Any) -> Any:
            started.append((kind, number))
            return task.remote(work, kind, number, *rest)

    monkeypatch.setattr(teams, "compute_part", Watched())
    return started


def folder_of(run: RunFolder) -> Path:
    return run.location.local_path / "features"


def parts_in(run: RunFolder) -> list[Path]:
    return sorted((folder_of(run) / "one.parts").rglob("*.safetensors"))


def results(run: RunFolder) -> dict[str, bytes]:
    files = [path for path in folder_of(run).rglob("*") if path.is_file() and "one.parts" not in path.parts]
    return {str(path.relative_to(folder_of(run))): path.read_bytes() for path in files}


def killed_midway(run: RunFolder) -> None:
    """An analysis in a process of its own, which gets SIGKILL when some parts are there."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "jobs.analyse", "--run", run.url, "--top-examples", str(CONFIG.top_examples)]
    process = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": address}, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + LIMIT_S
        while len(parts_in(run)) < 5 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be killed"
        assert len(parts_in(run)) >= 5, f"no five parts within {LIMIT_S} s"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_analysis_goes_on_and_ends_as_if_nothing_had_been(
    run: RunFolder, computed: list[tuple[str, int]]
) -> None:
    analyse.run_analyse(run, "one", CONFIG)
    expected, needed = results(run), sorted(computed)
    assert ("encode", NUM_SHARDS - 1) in needed
    assert parts_in(run) == []
    killed_midway(run)
    time.sleep(1)  # its last tasks end with it
    kept = {tuple(re.split(r"[-.]", path.name)[:2]) for path in parts_in(run)}
    computed.clear()
    analyse.run_analyse(run, "one", CONFIG)
    assert sorted({(kind, f"{number:06}") for kind, number in computed} | kept) == sorted(
        (kind, f"{number:06}") for kind, number in needed
    )
    assert len(computed) == len(needed) - len(kept)
    assert results(run) == expected
    assert parts_in(run) == []


def test_parts_that_are_damaged_or_of_other_options_are_not_used(
    run: RunFolder, computed: list[tuple[str, int]]
) -> None:
    analyse.run_analyse(run, "one", CONFIG)
    expected = results(run)
    killed_midway(run)
    time.sleep(1)
    first, *_ = parts_in(run)
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    computed.clear()
    other = replace(CONFIG, family_similarity=0.4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(analyse, "described", interrupted)
        with pytest.raises(KeyboardInterrupt):
            analyse.run_analyse(run, "one", other)
    assert len(computed) == NUM_SHARDS, "all are computed under other options"
    computed.clear()
    analyse.run_analyse(run, "one", CONFIG)
    assert ("encode", int(first.name.split("-")[1])) in computed
    assert len([each for each in computed if each[0] == "encode"]) < NUM_SHARDS
    assert results(run) == expected


def test_the_table_says_how_each_family_hangs_together(run: RunFolder) -> None:
    analyse.run_analyse(run, "one", CONFIG)
    rows = [row for row in load_features(run, "one").rows if row["alive"]]
    families = {row["family"] for row in rows}
    assert {0, -1} <= families
    for row in rows:
        alone = row["family"] < 0
        for name in ("prototype_similarity", "family_consistency", "family_coverage", "family_gaps"):
            assert (row[name] is None) == alone, name
        assert alone or 0 < row["family_coverage"] <= 1
        assert all(gap["from_deg"] < gap["to_deg"] for gap in row["family_gaps"] or ())
        assert (row["map_x"] is None) == (row["map_y"] is None)
        assert alone or row["map_x"] is not None
    assert any(row["family_gaps"] for row in rows), "few features cannot be in every pose"


def test_what_does_not_fit_is_refused_before_any_task(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, computed: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(meshes, "memory_here", lambda: 10**8)
    with pytest.raises(ValueError, match=r"memory: the analysis needs 0\.\d\d GB where it is started, found 0\.10 GB"):
        analyse.run_analyse(run, "one", CONFIG)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"16 CPU.*lower --workers\.num-workers or --workers\.cpus-per-worker"):
        analyse.run_analyse(run, "one", CONFIG, Workers(num_workers=1, cpus_per_worker=16))
    assert computed == []
