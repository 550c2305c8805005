"""Training finds what was planted, resumes bit for bit, stops when it diverges, and never sees held-out images.

Letters: B samples, N rows, G group elements, C channels, F features.
"""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.config import TrainConfig
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.parallel import Mesh
from gc_core.stream import read_rows
from gc_core.train import Trainer, Worker, open_data, resolve, validation
from gc_core.train.checkpoint import checkpoints
from gc_core.train.whereabouts import rows_of_step
from support.small_trainings import SMALL, cut_at, new_trainer, num_recovered, opened, order_of, same_weights, trained


def test_training_finds_the_planted_features(planted: Any) -> None:
    trainer = trained(planted.run, steps=300)
    assert num_recovered(trainer, planted.decoder_FGC) >= 8
    assert trainer.metrics[-1]["held_out_fvu"] < 0.05
    untrained = new_trainer(planted.run)
    assert num_recovered(untrained, planted.decoder_FGC) <= 2
    assert untrained.evaluate().fvu > 0.3


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu", "l1"])
@pytest.mark.parametrize("reads", ["identity", "all", "0,2"])
def test_the_loss_falls(planted: Any, activation: str, reads: str) -> None:
    options = {"activation": activation, "encoder_reads": reads, "l1_coefficient": 0.1, "l1_warmup_share": 0.0}
    options |= {"jumprelu_coefficient": 0.1}
    metrics = trained(planted.run, steps=60, learning_rate=3e-3, **options).metrics
    assert metrics[-1]["loss"] < 0.8 * metrics[0]["loss"]
    assert [row["step"] for row in metrics] == [10, 20, 30, 40, 50, 60]


EVERYTHING = {"average_decay": 0.9, "accumulate": 2, "blocks_per_step": 2, "matryoshka": "5,10", "lr_decay": "cosine"}
EVERYTHING |= {"augment": True}
LAZY = {"optimiser": "lazy", "optimiser_state": "bfloat16"}


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu", "l1"])
@pytest.mark.parametrize("more", [{}, EVERYTHING, LAZY], ids=["plain", "every option", "lazy"])
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(
    planted: Any, tmp_path: Path, activation: str, more: dict[str, Any]
) -> None:
    if more is LAZY and activation not in ("topk", "batchtopk"):
        more = {"optimiser_state": "bfloat16"}
    # The cut lies in an epoch's middle, and between two logs.
    options = {"checkpoint_every": 15, "dead_after_samples": 128, "activation": activation, **more}
    whole = trained(planted.run, keep=tmp_path / "whole", **options)
    assert [each.step for each in checkpoints(Location.parse(tmp_path / "whole/0/checkpoints"))] == [15, 30, 40]
    if activation == "topk":
        assert any(row["auxiliary"] > 0 for row in whole.metrics), "some features are dead when the run is cut"
    resumed = trained(planted.run, keep=cut_at(15, tmp_path / "whole", tmp_path / "cut"), **options)
    assert same_weights(whole, resumed)
    assert whole.metrics == resumed.metrics
    assert whole.samples_since_fired_F.equal(resumed.samples_since_fired_F)
    torch.testing.assert_close(whole.exported().state_dict(), resumed.exported().state_dict(), rtol=0, atol=0)
    assert not same_weights(whole, new_trainer(planted.run, **options))


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_gradients_in_factors_train_as_dense_ones_do(
    planted: Any, monkeypatch: pytest.MonkeyPatch, activation: str
) -> None:
    options = {"activation": activation, "dead_after_samples": 128, "steps": 100, "clip_norm": 0.05}
    by_row = trained(planted.run, **options)
    monkeypatch.setattr("gc_core.train.building.touches_active_rows", lambda *_: False)
    dense = trained(planted.run, **options)
    assert by_row.model.arithmetic.gradients_by_row
    assert not dense.model.arithmetic.gradients_by_row
    assert any(row["auxiliary"] > 0 for row in dense.metrics), "dead features take part"
    for row, expected in zip(by_row.metrics, dense.metrics, strict=True):
        assert row == pytest.approx(expected, rel=1e-3)


def test_lazy_training_finds_the_planted_features_too(planted: Any) -> None:
    lazy = trained(planted.run, steps=200, **LAZY)
    assert num_recovered(lazy, planted.decoder_FGC) >= 8
    assert not same_weights(lazy, trained(planted.run, steps=200))


def test_resuming_a_finished_run_changes_nothing(planted: Any, tmp_path: Path) -> None:
    whole = trained(planted.run, keep=tmp_path)
    resumed = trained(planted.run, keep=tmp_path)
    assert same_weights(whole, resumed)
    assert whole.metrics == resumed.metrics


def test_the_counters_count_samples_since_each_feature_fired(planted: Any) -> None:
    trainer = new_trainer(planted.run, dead_after_samples=192, k=1)
    expected_F = torch.zeros(20, dtype=torch.int64)
    ever_dead_F = torch.zeros(20, dtype=torch.bool)
    for acts_BGC in itertools.islice(trainer.stream(), 12):
        fired_F = (trainer.model.encode(acts_BGC) > 0).any(0)
        trainer.advance(acts_BGC)
        expected_F = torch.where(fired_F, 0, expected_F + 64)
        assert trainer.samples_since_fired_F.equal(expected_F)
        assert trainer.dead_F.equal(expected_F >= 192)
        ever_dead_F |= trainer.dead_F
    assert ever_dead_F.any()
    assert not ever_dead_F.all()


def test_a_value_that_is_not_finite_stops_training_before_the_weights_change(planted: Any) -> None:
    trainer, before = new_trainer(planted.run), new_trainer(planted.run)
    acts_BGC = next(trainer.stream())
    acts_BGC[5, 1, 2] = torch.nan
    row = rows_met(trainer)[5]
    found = rf"^step 0: the loss is nan .*\(rows {row} of shards {row // 256} hold values.*\); lower learning_rate"
    with pytest.raises(FloatingPointError, match=found):
        trainer.advance(acts_BGC)
    assert same_weights(trainer, before)


def rows_met(trainer: Trainer) -> np.ndarray:
    """Rows of the next batch, found by comparing samples."""
    stored = trainer.data.read(np.arange(trainer.data.store.num_rows)).flatten(1)
    batch = next(trainer.stream()).flatten(1)
    return (batch[:, None] == stored[None]).all(2).float().argmax(1).numpy()


@pytest.mark.parametrize("step", [0, 7, 22])
def test_the_rows_of_a_step_are_those_of_its_batch(numbered_run: RunFolder, step: int) -> None:
    trainer = new_trainer(numbered_run)
    trainer.step = step
    order, lanes = order_of(trainer), range(4)
    assert np.array_equal(rows_of_step(order, lanes=lanes, rows_per_lane=16, step=step), rows_met(trainer))


def test_reconstructions_far_worse_than_none_stop_training(planted: Any) -> None:
    trainer = new_trainer(planted.run)
    with torch.no_grad():
        trainer.model.b_dec += 1000
    trainer.advance(next(trainer.stream()))
    with pytest.raises(FloatingPointError, match=r"^step 1: the FVU is .*training diverged; lower learning_rate"):
        trainer.log()


def test_a_diverging_run_stops_with_its_step(planted: Any) -> None:
    with pytest.raises(FloatingPointError, match=r"step [1-9]\d?: the loss is .*lower learning_rate"):
        trained(planted.run, learning_rate=1e18, activation="l1")


def marked_run(make_run: Any) -> RunFolder:
    """Two held-out images whose activations are 50 times as large as the others'."""
    acts_NGC = np.random.default_rng(0).uniform(0.5, 1, (400, 4, 6)).astype(np.float32)
    acts_NGC[20:30] += 50
    acts_NGC[390:] += 50
    return make_run(acts_NGC, groups.cyclic(4), held_out_images=(2, 39))


def test_held_out_images_are_never_trained_on(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[np.ndarray] = []
    monkeypatch.setattr(validation, "read_rows", lambda *given: evaluated.append(read_rows(*given)) or evaluated[-1])
    trainer = new_trainer(marked_run(make_run))
    limit = 2 * trainer.data.scale
    met = torch.cat(list(itertools.islice(trainer.stream(), 20)))  # three epochs
    assert met.max() < limit
    assert trainer.model.b_dec.max() < limit, "nor are the first weights made from them"
    score = trainer.evaluate()
    assert (score.num_rows, score.num_images) == (20, 2)
    marked_NGC = trainer.data.scale * np.concatenate(evaluated).astype(np.float32)
    assert len(marked_NGC) == 20
    assert marked_NGC.min() > 10 * limit, "the control: what is evaluated are the marked rows"


def test_held_out_samples_are_read_once_in_a_training(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie scattered: a million rows were decoded at every checkpoint."""
    asked: list[int] = []

    def counting(store: Any, rows: Any, blocks: Any) -> Any:
        asked.append(len(rows))
        return read_rows(store, rows, blocks)

    monkeypatch.setattr(validation, "read_rows", counting)
    trainer = trained(planted.run, steps=6, checkpoint_every=2)
    assert sum("held_out_fvu" in row for row in trainer.metrics) == 3
    assert asked == [20]


def test_the_trivial_group_trains_on_the_identity_block_alone(make_run: Any) -> None:
    acts_NGC = np.random.default_rng(0).standard_normal((300, 4, 6)).astype(np.float32)
    sign_N1 = np.where(np.arange(300) % 2, -1, 1)[:, None]
    runs = [make_run(acts_NGC, groups.cyclic(4), name="plain")]
    for block in (2, 0):
        changed = acts_NGC.copy()
        changed[:, block] *= sign_N1  # keeps the scale of the store
        runs.append(make_run(changed, groups.cyclic(4), name=f"block {block} changed"))
    plain, other_block, identity = [trained(run, group="trivial", encoder_reads="all", k=4) for run in runs]
    assert plain.model.W_dec.shape == (20, 1, 6)
    assert same_weights(plain, other_block)
    assert not same_weights(plain, identity)


def test_a_part_of_the_group_trains_on_its_blocks(numbered_run: RunFolder) -> None:
    trainer = new_trainer(numbered_run, group="C_2")
    acts_BGC = next(trainer.stream()) / trainer.data.scale
    torch.testing.assert_close(acts_BGC[:, 1] - acts_BGC[:, 0], torch.full((64, 6), 2 * 311.0))
    assert trainer.exported().group == groups.cyclic(2)


def test_a_group_outside_the_stores_is_refused(numbered_run: RunFolder) -> None:
    with pytest.raises(ValueError, match="C_3 is not contained in C_4"):
        open_data(numbered_run, TrainConfig(group="C_3"))


def test_samples_are_scaled_so_that_a_blocks_mean_squared_norm_is_c(planted: Any) -> None:
    data = open_data(planted.run, SMALL)
    acts_NGC = data.read(np.arange(1000))
    assert acts_NGC.dtype == torch.float32
    assert acts_NGC.square().sum(2).mean().item() == pytest.approx(8.0, rel=1e-4)


def test_a_layer_that_never_responds_is_refused(make_run: Any) -> None:
    run = make_run(np.zeros((40, 4, 6), np.float32), groups.cyclic(4))
    with pytest.raises(ValueError, match="every activation is zero"):
        open_data(run, SMALL)


def test_the_exported_model_takes_raw_activations(planted: Any) -> None:
    trainer = new_trainer(planted.run)
    scaled_BGC: Tensor = next(trainer.stream())
    raw_BGC = scaled_BGC / trainer.data.scale
    exported = trainer.exported()
    torch.testing.assert_close(exported.encode(raw_BGC), trainer.model.encode(scaled_BGC))
    expected = trainer.model.decode(trainer.model.encode(scaled_BGC)) / trainer.data.scale
    torch.testing.assert_close(exported.decode(exported.encode(raw_BGC)), expected)


def test_lanes_must_be_shared_out_evenly(planted: Any) -> None:
    with pytest.raises(ValueError, match="lanes: found 4, expected a multiple of 3 replicas"):
        Trainer(*opened(planted.run), Worker(mesh=Mesh(replicas=3)))


def test_resolving_keeps_what_was_given_and_decides_the_rest_once(planted: Any) -> None:
    data = open_data(planted.run, SMALL)
    assert len(data.train_rows) == 980
    free = resolve(TrainConfig(dict_size=64, batch=64), data)
    assert (free.steps, free.group, free.aux_k) == (612, "C_4", 32)  # 40 passes
    assert free.dead_after_samples == 612 * 64 // 10
    assert resolve(TrainConfig(dict_size=64, batch=64, augment=False), data).steps == 306
    assert free.blocks_per_step == 4
    assert (free.l1_coefficient, free.bandwidth) == pytest.approx((0.04 * 32**0.5, 0.03 * 32**0.5))
    assert (free.jumprelu_coefficient, free.tanh_scale) == pytest.approx((0.003 * 32, 4 / 32**0.5))
    by_blocks = resolve(TrainConfig(dict_size=64, batch=64, norm_over="blocks"), data)
    assert by_blocks.tanh_scale == pytest.approx(4 / 32**0.5 / 2), "four block norms add up to twice the joint norm"
    assert resolve(free, data) == free
    given = replace(SMALL, group="C_2", tying="none", aux_k=0, dead_after_samples=5, blocks_per_step=1)
    given = replace(given, l1_coefficient=1.0, jumprelu_coefficient=2.0, bandwidth=3.0, tanh_scale=5.0)
    assert resolve(given, data).to_json() == given.to_json()
    assert resolve(TrainConfig(batch=1024), data).steps == 150
