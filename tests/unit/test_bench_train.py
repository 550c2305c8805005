"""The benchmark of training: equal losses, whole tables, honest verdicts."""

import json

import pytest

from infra.bench import train
from infra.bench.train import SMALL, WIDE, Rounds, TrainBench, as_json, sizes, verdicts
from infra.bench.training import PATHS, Size, Visit, flop, least_bytes, loss_disagreement, visit

KEYS = (
    "path features group_order channels batch k samples_per_s slowest_samples_per_s fastest_samples_per_s load "
    "peak_rss_bytes matmul_share bandwidth_share device"
)


def rounds() -> Rounds:
    steps_s = {
        "reference": 10.0,
        "sparse": 2.0,
        "sparse_lazy": 1.0,
        "dense_l1": 8.0,
        "reference_all": 30.0,
        "tied": 1.0,
    }
    return [
        {
            (size, path): Visit(
                step_s=noise * steps_s[path] * size.features / 4096,
                peak_bytes=50 if path == "reference_all" else 5,
                matmul_share=0.6 if path == "dense_l1" else None,
                bandwidth_share=0.3 if path.startswith("sparse") else None,
                load=8 * noise,
            )
            for size in (*SMALL, WIDE)
            for path in PATHS
        }
        for noise in (0.5, 1, 4)
    ]


def test_losses_of_fast_and_plain_steps_agree_over_two_hundred_steps() -> None:
    found = loss_disagreement()
    assert found["sparse"] < 1e-3
    assert found["fall"] < 0.5, "the control: something was learned"


def test_every_path_is_measured() -> None:
    size = Size(group="C2", channels=5, features=40, batch=16, k=3)
    for path in PATHS:
        found = visit(size, path, 0.0, "cpu")
        assert found.step_s > 0
        assert found.peak_bytes > 50e6
        assert (found.matmul_share is None) == (path.startswith("sparse") or path == "tied")
        assert (found.bandwidth_share is None) != path.startswith("sparse")


def test_work_is_counted() -> None:
    size = Size(group="C2", channels=5, features=40, batch=16, k=3)
    assert flop(size, "reference") == 2 * 16 * 40 * (5 + 5 + 3 * 10)
    assert flop(size, "reference_all") == 2 * 16 * 40 * 5 * 10
    all_rows, some_rows = least_bytes(size, "sparse", 30), least_bytes(size, "sparse_lazy", 30)
    assert all_rows - some_rows == 4 * (7 * 10 + 6 * 5) * (40 - 30)


def test_the_result_is_a_list_of_flat_objects_of_medians() -> None:
    found = json.loads(json.dumps(as_json(rounds(), "a machine")))
    assert len(found) == 24
    assert all(sorted(row) == sorted(KEYS.split()) for row in found)
    first = found[0]
    assert (first["path"], first["features"], first["samples_per_s"]) == ("reference", 4096, 51.2)
    assert first["bandwidth_share"] is None
    assert (first["slowest_samples_per_s"], first["fastest_samples_per_s"], first["load"]) == (12.8, 102.4, 8)


def test_verdicts_say_what_was_missed() -> None:
    lines = verdicts(rounds(), {"sparse": 1e-4})
    assert [line.split()[0] for line in lines] == [*["reached"] * 4, "MISSED", *["reached"] * 4]
    assert "16.0 x as long" in lines[4]
    assert "tied 30.0 x the dense step" in lines[2]
    assert "tied takes 10.0% of its memory" in lines[3]
    assert verdicts(rounds(), {"sparse": 1e-2})[-1].startswith("MISSED")


def test_the_table_shows_every_path(capsys: pytest.CaptureFixture[str]) -> None:
    train.show(rounds(), "a machine", {"sparse": 1e-4})
    said = capsys.readouterr().out
    assert all(path in said for path in PATHS)
    assert "5.00" in said
    assert "5.00 to 5.00" in " ".join(said.split())


def test_one_size_may_be_asked_for() -> None:
    assert [size.features for size in sizes(TrainBench(only=65536))] == [65536]
    assert sizes(TrainBench(wide=True)) == [WIDE]
    assert sizes(TrainBench(quick=True)) == SMALL[:1]
    assert sizes(TrainBench()) == [*SMALL, WIDE]
    with pytest.raises(ValueError, match="expected one of 4096, 16384, 65536"):
        sizes(TrainBench(only=5))
