"""What `jobs.verify` says of numbers outside the shards."""

import pytest

from gc_core import store
from gc_core.io.run_folder import RunFolder
from gc_core.store import StoreError
from jobs import verify


def test_a_shard_that_changes_while_a_run_is_verified_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was passed over, as if the shards' own check had told it."""

    def gone(run: RunFolder) -> str:
        raise StoreError("shard 1 of 2 is missing")

    monkeypatch.setattr(store, "fault_of_mean", gone)
    assert verify.mean_faults(RunFolder.at("file:///run"), mend=False) == ["shard 1 of 2 is missing"]


def test_a_mean_is_mended_from_sound_shards_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = ["another mean", None]
    monkeypatch.setattr(store, "fault_of_mean", lambda run: faults.pop(0))
    monkeypatch.setattr(store, "finish", lambda run: 1.0)
    assert verify.mean_faults(RunFolder.at("file:///run"), mend=True) == []
    assert faults == []
