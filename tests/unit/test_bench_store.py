"""The benchmark of the store: every phase and every part has a figure, and verdicts are honest."""

import json
from pathlib import Path

import pytest

from gc_core.io.location import Location
from gc_core.store import COMPRESSIONS
from infra.bench import store
from infra.bench.store_costs import costs


def test_every_phase_is_measured_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 128)
    monkeypatch.setattr(store, "BUFFER_ROWS", 64)
    monkeypatch.setattr(store, "LATENCY_S", 0.0)
    found = store.measure(Location.parse(tmp_path / "bench"), 4)
    assert found.keys() == store.PHASES.keys()
    assert min(found.values()) > 0
    assert not [path for path in (tmp_path / "bench").rglob("*") if path.is_file()]


def test_each_part_of_writing_has_a_cost_and_packing_tells_what_is_left() -> None:
    found = {cost.part: cost for cost in costs(store.activations(256), rounds=1)}
    assert {f"pack, {name}" for name in COMPRESSIONS if name != "none"} < found.keys()
    assert {"CRC-32C, of what is stored", "SHA-256", "sum of squares", "look for infinities"} < found.keys()
    zstd, lz4 = (found[f"pack, {name}"].stored_share or 1 for name in ("zstd", "lz4"))
    assert 0.5 < zstd < lz4 < 1


def test_each_compression_is_judged_by_the_plain_copy(capsys: pytest.CaptureFixture[str]) -> None:
    rates = dict.fromkeys(store.PHASES, 100.0) | {"store_write": 30.0, "store_write_none": 80.0}
    rounds = [rates, {**rates, "store_write": 50.0}, rates]
    lines = store.verdicts(rounds)
    assert [line.split()[0] for line in lines[:3]] == ["MISSED", "reached", "reached"]
    assert "30% of the plain copy" in lines[0]
    parts = costs(store.activations(128), rounds=1)
    store.show(rounds, Location.parse("/tmp"), parts)
    said = " ".join(capsys.readouterr().out.split())
    assert "30% to 50%" in said
    assert json.loads(json.dumps(store.as_json(rounds, Location.parse("/tmp"), parts)))["store_write_mb_per_s"] == 30
