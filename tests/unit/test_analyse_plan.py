"""Plans grow with what they depend on, and what does not fit is refused with the numbers and a remedy."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gc_core.analyse.firing import Firing
from gc_core.analyse.parts import of_firing
from gc_core.analyse.plan import (
    DESCRIBED_AT_ONCE,
    MOST_PARTS,
    OVERHEAD_BYTES,
    AnalysisPlan,
    described,
    piece_bytes,
    plan_analysis,
    refuse_too_large,
    watched,
)
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import CrosscoderShape
from gc_core.metrics import VarianceSums


def shape(dict_size: int) -> CrosscoderShape:
    return CrosscoderShape(group="D_32", channels=480, dict_size=dict_size, reads=(0,), activation="topk", k=24)


def plan(dict_size: int, *, num_shards: int = 100, at_once: int = 16_384) -> AnalysisPlan:
    config = AnalyseConfig(families_at_once=at_once)
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


def test_the_driver_holds_all_pairs_only_up_to_a_size() -> None:
    small, twice, large = plan(8_192), plan(16_384), plan(65_536)
    pairs = 14 * (16_384**2 - 8_192**2)
    assert twice.driver_bytes - small.driver_bytes > pairs
    assert large.driver_bytes - twice.driver_bytes < 4 * (twice.driver_bytes - OVERHEAD_BYTES) - 3 * 14 * 16_384**2
    assert plan(65_536, at_once=1_000).driver_bytes < large.driver_bytes - 14 * 16_000**2


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


def test_a_piece_needs_what_its_pairs_take() -> None:
    assert piece_bytes(16_384, shape(65_536)) - piece_bytes(0, shape(65_536)) >= 14 * 16_384**2


COMPARE = """
import sys, threading, time
import numpy as np, torch
from gc_core.analyse.features import band_of_similarities, bands
from gc_core.analyse.plan import OVERHEAD_BYTES, plan_analysis
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder

def anonymous_bytes():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))

def watch():
    while watching:
        seen.append(anonymous_bytes())
        time.sleep(0.002)

torch.set_num_threads(1)
shape = CrosscoderShape(group="D32", channels=8, dict_size=512, reads=(0,), activation="topk", k=4)
model, config = GroupCrosscoder(shape), AnalyseConfig().resolved(tied=False)
torch.nn.init.normal_(model.W_dec)
band_of_similarities(model, np.arange(2), range(2), config)  # what libraries keep is counted apart
seen, watching = [anonymous_bytes()], True
thread = threading.Thread(target=watch)
thread.start()
for rows in bands(512):
    band_of_similarities(model, np.arange(512), rows, config)
watching = False
thread.join()
plan = plan_analysis(shape, config, num_shards=1, stored_elements=64)
print(max(seen) - seen[0], plan.compare_bytes - OVERHEAD_BYTES)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own memory apart")
def test_comparing_features_takes_no_more_memory_than_is_planned() -> None:
    found = subprocess.run([sys.executable, "-c", COMPARE], capture_output=True, text=True, check=True).stdout
    measured, planned = map(int, found.split())
    assert planned / 4 <= measured <= planned
