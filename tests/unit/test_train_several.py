"""Several crosscoders on one stream are, each of them, bit for bit what training it alone gives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gc_core.io.location import Location
from gc_core.store import Store
from gc_core.train import Worker, train
from gc_core.train.recovery import Checkpointing, newest
from support.small_runs import Planted
from support.small_trainings import cut_at, opened, same_weights, trained, trained_together

LIST = [
    {"dict_size": 20, "k": 2, "augment": True},
    {"dict_size": 12, "k": 3, "augment": True},
    {"dict_size": 12, "activation": "batchtopk", "average_decay": 0.9, "augment": True},
]


def test_several_side_by_side_are_bit_for_bit_those_trained_alone(planted: Any) -> None:
    together = trained_together(planted.run, LIST)
    for trainer, changes in zip(together, LIST, strict=True):
        alone = trained(planted.run, **changes)
        assert same_weights(trainer, alone)
        assert trainer.metrics == alone.metrics
        torch.testing.assert_close(trainer.exported().state_dict(), alone.exported().state_dict(), rtol=0, atol=0)


def test_several_resume_bit_for_bit(planted: Any, tmp_path: Path) -> None:
    options = [{**each, "checkpoint_every": 15} for each in LIST]
    whole = trained_together(planted.run, options, keep=tmp_path / "whole")
    cut = cut_at(30, tmp_path / "whole", tmp_path / "cut")
    for late in (cut / "1/checkpoints").glob("step-00000030-*/part-*"):
        late.unlink()  # killed when one of them had written its last checkpoint, and the next had not
    assert [each.step for each in newest([Location.parse(cut / str(number)) for number in range(3)])] == [15, 15, 15]
    resumed = trained_together(planted.run, options, keep=cut)
    for early, late in zip(resumed, whole, strict=True):
        assert same_weights(early, late)
        assert early.metrics == late.metrics


def test_several_need_the_same_batches(planted: Any) -> None:
    with pytest.raises(ValueError, match=r"train: crosscoders on one stream differ \(batch: 32, not 64\); train them"):
        trained_together(planted.run, [{}, {"batch": 32}])


def test_the_data_is_read_once_for_several(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for changes in (LIST[2:], LIST):
        read, num_read = Store.read_into, 0

        def counted(self: Store, out: Any, start: int, read: Any = read) -> None:
            nonlocal num_read
            num_read += 1
            read(self, out, start)

        with monkeypatch.context() as patched:
            patched.setattr(Store, "read_into", counted)
            trained_together(planted.run, changes)
        counts.append(num_read)
    assert counts[0] > 10
    assert counts[1] <= counts[0] + 4, "but for chunks that were read ahead when training ended"


def test_a_training_that_stops_at_a_rung_goes_on_as_if_nothing_had_been(planted: Planted, tmp_path: Path) -> None:
    config, data = opened(planted.run, checkpoint_every=10)
    other = replace(config, k=3)
    whole = train([config], data, Worker(), report=lambda metrics: None)[0]
    kept = [Checkpointing(folders=[Location.parse(tmp_path / name)]) for name in ("a", "b")]
    both = Checkpointing(folders=[each.folders[0] for each in kept])
    halfway = train([config, other], data, Worker(), report=lambda metrics: None, checkpointing=both, until=20)
    assert [each.step for each in halfway] == [20, 20]
    alone = train([config], data, Worker(), report=lambda metrics: None, checkpointing=kept[0])[0]
    assert alone.step == 40
    assert same_weights(alone, whole)


def test_no_training_stops_where_no_checkpoint_is_written(planted: Planted) -> None:
    config, data = opened(planted.run, checkpoint_every=10)
    with pytest.raises(ValueError, match=r"until: found 15, expected a multiple of checkpoint_every \(10\)"):
        train([config], data, Worker(), report=lambda metrics: None, until=15)
