"""The benchmarks measure what they say: equal blocks, right rates, honest verdicts.

Letters: N centres, G group elements, C channels.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gc_core import backbones, groups
from gc_core.images import decode
from gc_core.transforms import Resampling, act, window_px
from infra.bench import artefacts, images
from infra.bench.harvest import ROUNDS, Result, as_json, show, verdicts
from infra.bench.machine import Rate, matmul_gflop, rate
from infra.bench.plain import image_side_px, turn
from infra.bench.workload import Spec, Workload, gflop_of_a_crop

KEYS = (
    "plain_fp32_samples_per_s ours_fp32_samples_per_s ours_fast_samples_per_s fast_median_cosine forward_fast_gflops "
    "matmul_fast_gflops decode_images_per_s job_samples_per_s peak_rss_bytes device fast_dtype backbone"
)


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload(Spec(backbone="googlenet", weights="random:0", device="cpu", processes=1, group="D8"))


def test_both_ways_give_the_same_blocks(workload: Workload) -> None:
    assert workload.largest_error() < 1e-4


def test_every_phase_has_a_rate(workload: Workload) -> None:
    for phase in ("ours_fp32", "forward_fast", "matmul_fp32", "decode"):
        assert getattr(workload, phase)(0.0).per_s > 0
    assert workload.peak_rss_bytes() > 100e6


def test_a_traced_network_is_measured_on_a_canvas_too() -> None:
    spec = Spec(
        backbone="torchvision:squeezenet1_1",
        weights="random:0",
        device="cpu",
        processes=1,
        group="D4",
        layer="features.2",
    )
    workload = Workload(spec)
    assert workload.canvas_fp32(0.0).per_s > 0
    assert workload.largest_error() < 1e-4


def test_a_job_is_whole_shards_written(workload: Workload) -> None:
    assert workload.job(1).amount == 128


@pytest.mark.parametrize("name", ["D32", "D8", "C5"])
def test_the_plain_way_turns_images_as_the_harvest_turns_patches(name: str) -> None:
    group, patch_px = groups.parse(name), 31
    side = window_px(patch_px, group, Resampling())
    image = torch.rand(3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    margin = (side - patch_px) // 2
    middle = slice(margin, margin + patch_px)
    plain = torch.stack([turn(image, group, g)[:, middle, middle] for g in range(group.order)])
    torch.testing.assert_close(plain, act(image[None], group, patch_px)[0], rtol=0, atol=1e-6)


def test_the_square_image_has_a_unit_at_its_centre() -> None:
    for name in backbones.NAMES:
        network = backbones.load(name, weights="random:0")
        side = image_side_px(network, 256)
        assert 240 < side <= 256
        assert side // 2 in network.unit_centres(side)


def test_images_have_the_usual_size_of_imagenets() -> None:
    assert len(images.jpegs()) == 16
    for content in images.jpegs():
        assert decode(content, 10_000).shape == (3, 375, 500)
        assert content[:2] == b"\xff\xd8"


def test_a_rate_is_what_was_done_over_the_time_it_took() -> None:
    calls: list[int] = []

    def work() -> float:
        calls.append(1)
        return 3

    once = rate(work, 0, "cpu")
    assert (once.amount, len(calls)) == (3, 1)
    assert once.per_s == 3 / once.seconds
    assert Rate(amount=10, seconds=4, cpu_seconds=2).per_s == 2.5
    assert Rate(amount=10, seconds=4, cpu_seconds=2).per_cpu_s == 5
    asleep = rate(lambda: time.sleep(0.05) or 1, 0, "cpu")
    assert asleep.cpu_seconds < 0.05 <= asleep.seconds
    longer = rate(work, 0.05, "cpu")
    assert longer.seconds >= 0.05
    assert longer.amount == 3 * (len(calls) - 1)


def test_operations_are_counted_as_multiplications_and_additions() -> None:
    assert matmul_gflop("cpu", torch.float32)() == pytest.approx(2 * 2048**3 / 1e9)
    first = backbones.load("googlenet", layer="conv1", weights="random:0")
    assert gflop_of_a_crop(first) == pytest.approx(2 * 3 * 7 * 7 * 64 / 1e9)


def result(**changes: object) -> Result:
    rates = {
        "plain_fp32": 1.0,
        "ours_fp32": 40.0,
        "ours_fast": 150.0,
        "forward_fast": 60.0,
        "matmul_fast": 200.0,
        "decode": 500.0,
        "job": 130.0,
        "matmul_fp32": 50.0,
        "plain_fp32_alone": 0.5,
        "ours_fp32_alone": 20.0,
        "ours_fast_alone": 75.0,
    }
    values = {
        "rounds": [{name: value * noise for name, value in rates.items()} for noise in (0.5, 1, 3)],
        "peak_rss_bytes": 7,
        "largest_error": 1e-5,
        "fast_median_cosine": 0.9999,
        "device": "a machine",
        "fast_dtype": "bfloat16",
        "backbone": "googlenet",
    }
    return Result(**{**values, **changes})


def test_the_result_is_one_flat_object_of_medians() -> None:
    found = json.loads(json.dumps(as_json(result())))
    assert sorted(found) == sorted(KEYS.split())
    assert found["ours_fast_samples_per_s"] == 150
    assert all(isinstance(value, str | float | int) for value in found.values())


def test_the_canvas_is_told_where_it_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert "canvas_fp32_samples_per_s" not in as_json(result())
    plain = result()
    traced = result(rounds=[{**rates, "canvas_fp32": 17 * rates["plain_fp32"]} for rates in plain.rounds])
    assert as_json(traced)["canvas_fp32_samples_per_s"] == 17
    show(traced)
    assert " 17.0 " in capsys.readouterr().out


def test_the_table_shows_every_rate(capsys: pytest.CaptureFixture[str]) -> None:
    show(result())
    said = capsys.readouterr().out
    for number in ("150", "150.0", "40.0", "75", "0.5", "60", "200", "500", "130"):
        assert f" {number} " in said
    assert said.count("reached") == 5


def test_ratios_are_of_one_round_so_that_a_busy_machine_divides_out() -> None:
    found = result()
    assert [measured["ours_fp32"] for measured in found.rounds] == [20, 40, 120]
    assert found.ratio("ours_fp32", "plain_fp32") == 40
    assert ROUNDS >= 3


def test_verdicts_say_what_was_missed_and_why() -> None:
    assert [line.split()[0] for line in verdicts(result())] == ["reached"] * 5
    slow = [
        {**measured, "ours_fast": measured["ours_fp32"], "job": measured["plain_fp32"]} for measured in result().rounds
    ]
    lines = verdicts(result(rounds=slow, fast_dtype="float32", fast_median_cosine=0.9))
    assert [line.split()[0] for line in lines] == ["reached", "MISSED", "MISSED", "reached", "MISSED"]
    assert "on CPUs a harvest computes in float32" in lines[1]


# Artefacts.


def test_neighbours_are_one_step_away() -> None:
    group = groups.dihedral(8)
    angles = torch.arange(16, dtype=torch.float64) % 8
    blocks_NGC = torch.stack([torch.cos(angles), torch.sin(angles)], -1)[None]
    found = artefacts.neighbours(blocks_NGC, group)
    inner = [1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14]
    torch.testing.assert_close(found[:, inner], blocks_NGC[:, inner] * torch.cos(torch.tensor(1.0)).double())
    assert artefacts.differences(blocks_NGC[:, inner], found[:, inner])["cosine"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["D8", "C8", "D3"])
def test_half_a_step_before_and_after_stand_around_an_element(name: str) -> None:
    """Read off patches of an image that is linear in place, for which the mean of two turns is in between."""
    group, patch_px = groups.parse(name), 31
    half_step = Resampling(half_step=True)
    side = max(window_px(patch_px, group, way) for way in (Resampling(), half_step))
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    slope = (2 * axis[:, None] + 5 * axis[None, :])[None, None]
    usual, control = (act(slope, group, patch_px, way).flatten(2) for way in (Resampling(), half_step))
    found = artefacts.differences(usual, artefacts.half_a_step_away(control, group))
    assert found["cosine"] == pytest.approx(1, abs=1e-9)
    wrong = artefacts.differences(usual, control)
    assert wrong["cosine"] < 0.99


@pytest.mark.parametrize(("args", "code", "said"), [([], 0, "harvest"), (["nothing"], 2, "artefacts")])
def test_the_benchmarks_are_listed(args: list[str], code: int, said: str) -> None:
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-m", "infra.bench", *args], cwd=root, capture_output=True, text=True, check=False
    )
    assert found.returncode == code
    assert said in found.stdout
