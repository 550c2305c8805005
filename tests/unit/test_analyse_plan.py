"""Plans grow with what they depend on, and what does not fit is refused with the numbers and a remedy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core import groups
from gc_core.analyse.firing import Firing
from gc_core.analyse.parts import of_firing
from gc_core.analyse.plan import (
    DESCRIBED_AT_ONCE,
    MOST_PARTS,
    AnalysisPlan,
    described,
    plan_analysis,
    refuse_too_large,
    watched,
)
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import CrosscoderShape
from gc_core.metrics import VarianceSums
from infra.bench import grouping
from infra.bench.visits import in_a_fresh_process


def shape(dict_size: int) -> CrosscoderShape:
    return CrosscoderShape(
        group=groups.parse("D_32"), channels=480, dict_size=dict_size, reads=(0,), activation="topk", k=24
    )


def plan(dict_size: int, *, num_shards: int = 100, neighbours: int = 256) -> AnalysisPlan:
    config = AnalyseConfig(neighbours=neighbours)
    return plan_analysis(shape(dict_size), config, num_shards=num_shards, stored_elements=64)


@given(st.integers(1, 10**6))
def test_every_shard_is_watched_once_in_parts_as_even_as_can_be(num_shards: int) -> None:
    found = watched(num_shards)
    assert len(found) == min(num_shards, MOST_PARTS)
    assert [each.start for each in found] == [0, *(each.stop for each in found[:-1])]
    assert found[-1].stop == num_shards
    assert max(map(len, found)) - min(map(len, found)) <= 1


@given(st.integers(1, 10**5))
def test_every_feature_is_described_once(num_features: int) -> None:
    found = described(num_features)
    assert sum(map(len, found)) == num_features
    assert max(map(len, found)) <= DESCRIBED_AT_ONCE
    assert [each.start for each in found] == [0, *(each.stop for each in found[:-1])]


def test_memory_follows_the_features_and_not_their_pairs() -> None:
    small, twice, large = plan(16_384), plan(32_768), plan(65_536)
    for name in ("driver_bytes", "compare_bytes", "disk_bytes"):
        first, second = (getattr(b, name) - getattr(a, name) for a, b in ((small, twice), (twice, large)))
        assert 0 < second <= 2.01 * first, name
    assert plan(65_536, neighbours=16).driver_bytes < large.driver_bytes - 200 * 28 * 65_536
    assert large.compare_bytes < 4 * 10**9
    assert large.driver_bytes < 4 * 10**9


def test_the_driver_does_not_grow_with_the_store_and_the_disk_only_to_a_bound() -> None:
    assert plan(4_096, num_shards=10).driver_bytes == plan(4_096, num_shards=10**6).driver_bytes
    assert plan(4_096, num_shards=10).disk_bytes < plan(4_096, num_shards=100).disk_bytes
    assert plan(4_096, num_shards=MOST_PARTS).disk_bytes == plan(4_096, num_shards=10**6).disk_bytes


def test_parts_on_the_disk_are_as_large_as_planned() -> None:
    candidates = 4 * AnalyseConfig().top_examples
    seen = Firing(
        num_rows=1,
        fired_F=np.zeros(1_000, np.int64),
        top_value_FT=np.zeros((1_000, candidates), np.float32),
        top_row_FT=np.zeros((1_000, candidates), np.int64),
        top_pose_FT=np.zeros((1_000, candidates), np.int16),
        pose_count_FG=np.zeros((1_000, 0), np.int64),
        unexplained=VarianceSums.zeros(1, 1),
    )
    stored = sum(array.nbytes for array in of_firing(seen).values())
    growth = plan(1_000, num_shards=3).disk_bytes - plan(1_000, num_shards=2).disk_bytes
    assert growth <= stored <= growth + 100


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({"driver_bytes": 10**9}, r"memory: the analysis needs \d\.\d\d GB where it is started, found 1\.00 GB; lower"),
        ({"worker_bytes": 10**9}, r"memory: a task of the analysis needs .*encode .*families .*found 1\.00 GB; lower"),
        ({"disk_bytes": 10**8}, r"disk: the analysis keeps \d\.\d\d GB .* found 0\.10 GB free; free some"),
    ],
)
def test_what_does_not_fit_is_refused_with_numbers(found: dict[str, int], line: str) -> None:
    unknown = {"driver_bytes": None, "worker_bytes": None, "disk_bytes": None}
    refuse_too_large(plan(16_384), **unknown)
    refuse_too_large(plan(16_384), **dict.fromkeys(unknown, 10**12))
    with pytest.raises(ValueError, match=line):
        refuse_too_large(plan(16_384), **unknown | found)


COMPARE = """
import sys, threading, time
from pathlib import Path
import numpy as np, torch
from safetensors.torch import save_file
from gc_core import groups
from gc_core.analyse.plan import OVERHEAD_BYTES, plan_analysis
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import CrosscoderShape, StoredDecoder
from gc_core.families import Source, blocks, nearest, sketched

def anonymous_bytes():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))

def watch():
    while watching:
        seen.append(anonymous_bytes())
        time.sleep(0.002)

torch.set_num_threads(1)
folder, count = sys.argv[1], 2048
shape = CrosscoderShape(group=groups.parse("D32"), channels=32, dict_size=count, reads=(0,), activation="topk", k=4)
save_file({"W_dec": torch.randn(count, 64, 32)}, folder + "/w")  # the worst: every pair is a candidate
decoder, config = StoredDecoder(Path(folder + "/w")), AnalyseConfig().resolved(tied=False)

def compared(features):
    source = Source(group=groups.dihedral(32), read=decoder.rows, features=features, invariant_share=0.9)
    known = sketched(source)
    for rows in blocks(len(features))[:3]:
        nearest(rows, known, least_similarity=0.5, most=config.neighbours)

compared(np.arange(2))  # what libraries keep is counted apart
seen, watching = [anonymous_bytes()], True
thread = threading.Thread(target=watch)
thread.start()
compared(np.arange(count))
watching = False
thread.join()
plan = plan_analysis(shape, config, num_shards=1, stored_elements=64)
print(max(seen) - seen[0], plan.compare_bytes - OVERHEAD_BYTES)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own memory apart")
def test_comparing_features_takes_no_more_memory_than_is_planned(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMPARE, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured, planned = map(int, found.split())
    assert planned / 4 <= measured <= planned


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own memory apart")
def test_finding_families_takes_no_more_memory_than_is_planned() -> None:
    found = in_a_fresh_process(grouping.measure, grouping.GroupingBench(features=2056, neighbours=513))
    most = max(each.peak_bytes for each in found)
    assert found[0].planned_bytes / 2 <= most <= found[0].planned_bytes
