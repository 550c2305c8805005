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
from gc_core.checkpoint import save_checkpoint
from gc_core.config import TrainConfig
from gc_core.run_folder import RunFolder
from gc_core.store import Store
from gc_core.train import Place, Trainer, TrainingData, open_data, resolve, train
from gc_core.train.recipe import drawn_blocks, learning_rate, penalty_coefficient
from gc_core.train.whereabouts import rows_of_step

SMALL = TrainConfig(
    dict_size=20, k=2, batch=64, lanes=4, steps=40, buffer_rows=512, learning_rate=1e-2, encoder_reads="all"
)


def opened(run: RunFolder, **changes: Any) -> tuple[TrainConfig, TrainingData]:
    config = replace(SMALL, **changes)
    data = open_data(run, config)
    return resolve(config, data), data


def new_trainer(run: RunFolder, **changes: Any) -> Trainer:
    return Trainer(*opened(run, **changes), Place())


def trained(run: RunFolder, *, resume: Path | None = None, keep: Path | None = None, **changes: Any) -> Trainer:
    """Train to the end; checkpoints go below `keep`, in folders named by their step."""

    return trained_together(run, [changes], resume=resume, keep=keep)[0]


def trained_together(
    run: RunFolder, changes: list[dict[str, Any]], *, resume: Path | None = None, keep: Path | None = None
) -> list[Trainer]:
    """Train several side by side; with more than one, their checkpoints lie in numbered folders."""
    folder = keep
    places = [Path() if len(changes) == 1 else Path(str(number)) for number in range(len(changes))]

    def report(metrics: list[dict[str, float]], trainers: list[Trainer], *, keep: bool) -> None:
        for trainer, place in zip(trainers, places, strict=True):
            if keep and folder is not None:
                save_checkpoint(folder / str(trainer.step) / place, trainer.state(), trainer.metrics)

    both = [opened(run, **each) for each in changes]
    folders = [resume / place for place in places] if resume else None
    return train([config for config, _ in both], both[0][1], Place(), resume=folders, report=report)


def same_weights(left: Trainer, right: Trainer) -> bool:
    pairs = zip(left.model.parameters(), right.model.parameters(), strict=True)
    return all(torch.equal(mine, other) for mine, other in pairs)


def num_recovered(trainer: Trainer, decoder_FGC: np.ndarray) -> int:
    """Planted features that some learned feature resembles."""
    planted = torch.from_numpy(decoder_FGC).float().flatten(1)
    learned = trainer.model.W_dec.detach().flatten(1)
    return int((torch.cosine_similarity(planted[:, None], learned[None], dim=2).amax(1) > 0.9).sum())


def test_training_finds_the_planted_features(planted: Any) -> None:
    trainer = trained(planted.run, steps=200)
    assert num_recovered(trainer, planted.decoder_FGC) >= 8
    assert trainer.metrics[-1]["held_out_fvu"] < 0.05
    untrained = new_trainer(planted.run)
    assert num_recovered(untrained, planted.decoder_FGC) <= 2
    assert untrained.evaluate().fraction_unexplained() > 0.3


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu", "l1"])
@pytest.mark.parametrize("reads", ["identity", "all", "0,2"])
def test_the_loss_falls(planted: Any, activation: str, reads: str) -> None:
    options = {"activation": activation, "encoder_reads": reads, "l1_coefficient": 0.1, "l1_warmup_share": 0.0}
    options |= {"jumprelu_coefficient": 0.1}
    metrics = trained(planted.run, steps=60, learning_rate=3e-3, **options).metrics
    assert metrics[-1]["loss"] < 0.7 * metrics[0]["loss"]
    assert [row["step"] for row in metrics] == [10, 20, 30, 40, 50, 60]


EVERYTHING = {"average_decay": 0.9, "accumulate": 2, "blocks_per_step": 2, "matryoshka": "5,10", "lr_decay": "cosine"}


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu", "l1"])
@pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["plain", "every option"])
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(
    planted: Any, tmp_path: Path, activation: str, more: dict[str, Any]
) -> None:
    # The cut lies in an epoch's middle, and between two logs.
    options = {"checkpoint_every": 15, "dead_after_samples": 128, "activation": activation, **more}
    whole = trained(planted.run, keep=tmp_path, **options)
    assert sorted(int(folder.name) for folder in tmp_path.iterdir()) == [15, 30, 40]
    if activation == "topk":
        assert any(row["auxiliary"] > 0 for row in whole.metrics), "some features are dead when the run is cut"
    resumed = trained(planted.run, resume=tmp_path / "15", **options)
    assert same_weights(whole, resumed)
    assert whole.metrics == resumed.metrics
    assert whole.samples_since_fired_F.equal(resumed.samples_since_fired_F)
    torch.testing.assert_close(whole.exported().state_dict(), resumed.exported().state_dict(), rtol=0, atol=0)
    assert not same_weights(whole, new_trainer(planted.run, **options))


def test_resuming_a_finished_run_changes_nothing(planted: Any, tmp_path: Path) -> None:
    whole = trained(planted.run, keep=tmp_path)
    resumed = trained(planted.run, resume=tmp_path / "40")
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
    order, lanes = trainer._order, range(4)
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


def test_held_out_images_are_never_trained_on(make_run: Any) -> None:
    trainer = new_trainer(marked_run(make_run))
    limit = 2 * trainer.data.scale
    met = torch.cat(list(itertools.islice(trainer.stream(), 20)))  # three epochs
    assert met.max() < limit
    assert trainer.model.b_dec.max() < limit, "nor are the first weights made from them"
    sums = trainer.evaluate()
    assert sums.count == 20
    assert (sums.sum_GC / sums.count).min() > 10 * limit, "the control: what is evaluated are the marked rows"


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
    with pytest.raises(ValueError, match="lanes: found 4, expected a multiple of the 3 workers"):
        Trainer(*opened(planted.run), Place(rank=0, num_workers=3))


def test_resolving_keeps_what_was_given_and_decides_the_rest_once(planted: Any) -> None:
    data = open_data(planted.run, SMALL)
    assert len(data.train_rows) == 980
    free = resolve(TrainConfig(dict_size=64, batch=64), data)
    assert (free.steps, free.group, free.aux_k) == (306, "C_4", 32)  # 20 passes
    assert free.dead_after_samples == 306 * 64 // 10
    assert free.blocks_per_step == 4
    assert (free.l1_coefficient, free.bandwidth) == pytest.approx((0.04 * 32**0.5, 0.03 * 32**0.5))
    assert resolve(free, data) == free
    given = replace(SMALL, group="C_2", aux_k=0, dead_after_samples=5, blocks_per_step=1)
    given = replace(given, l1_coefficient=1.0, jumprelu_coefficient=2.0, bandwidth=3.0)
    assert resolve(given, data) == given
    assert resolve(TrainConfig(batch=1024), data).steps == 150


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    config = TrainConfig(steps=100, learning_rate=2.0, lr_warmup_share=0.05)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[5:81] == [2.0] * 76
    assert rates[80:] == pytest.approx([2.0 * (100 - step) / 20 for step in range(80, 100)])


def test_the_learning_rate_falls_as_asked() -> None:
    config = TrainConfig(steps=100, learning_rate=2.0, lr_warmup_share=0.0, lr_decay_share=0.5)
    flat = [learning_rate(replace(config, lr_decay="none"), step) for step in range(100)]
    assert flat == [2.0] * 100
    cosine = [learning_rate(replace(config, lr_decay="cosine"), step) for step in range(100)]
    assert cosine[:51] == pytest.approx([2.0] * 51)
    assert cosine[75] == pytest.approx(1.0)
    assert cosine[99] < 0.01
    assert learning_rate(replace(config, lr_decay_share=0.0), 99) == 2.0


def test_the_l1_penalty_grows_linearly_over_the_first_share_of_the_run() -> None:
    config = TrainConfig(activation="l1", l1_coefficient=5.0, l1_warmup_share=0.1, steps=100)
    grown = [penalty_coefficient(config, step) for step in range(100)]
    assert grown[:10] == pytest.approx([0.5 * (step + 1) for step in range(10)])
    assert grown[10:] == [5.0] * 90
    assert penalty_coefficient(replace(config, l1_warmup_share=0.0), 0) == 5.0


def test_the_jumprelu_penalty_grows_over_the_whole_run() -> None:
    config = TrainConfig(activation="jumprelu", jumprelu_coefficient=5.0, steps=100)
    assert [penalty_coefficient(config, step) for step in range(100)] == pytest.approx(
        [0.05 * n for n in range(1, 101)]
    )


def test_blocks_are_drawn_anew_each_step_and_alike() -> None:
    config = TrainConfig(blocks_per_step=2, seed=3)
    drawn = [tuple(drawn_blocks(config, 4, step)) for step in range(600)]
    assert drawn == [tuple(drawn_blocks(config, 4, step)) for step in range(600)]
    counts = [drawn.count(pair) for pair in itertools.combinations(range(4), 2)]
    assert sum(counts) == 600, "ascending, different"
    assert min(counts) > 60
    assert drawn_blocks(replace(config, blocks_per_step=4), 4, 0) is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"encoder_reads": "0,4"}, "encoder_reads: found element 4, expected 0 to 3"),
        ({"blocks_per_step": 5}, "blocks_per_step: found 5, expected at most the group's 4 elements"),
        ({"matryoshka": "3,21"}, "matryoshka: found 21 features"),
    ],
)
def test_what_does_not_fit_the_group_or_the_size_is_refused(planted: Any, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        opened(planted.run, **changes)


LIST = [
    {"dict_size": 20, "k": 2},
    {"dict_size": 12, "k": 3},
    {"dict_size": 12, "activation": "batchtopk", "average_decay": 0.9},
]


def test_several_side_by_side_are_bit_for_bit_those_trained_alone(planted: Any) -> None:
    together = trained_together(planted.run, LIST)
    for trainer, changes in zip(together, LIST, strict=True):
        alone = trained(planted.run, **changes)
        assert same_weights(trainer, alone)
        assert trainer.metrics == alone.metrics
        torch.testing.assert_close(trainer.exported().state_dict(), alone.exported().state_dict(), rtol=0, atol=0)


def test_several_resume_bit_for_bit(planted: Any, tmp_path: Path) -> None:
    whole = trained_together(planted.run, LIST, keep=tmp_path)
    assert whole[0].metrics[-1]["step"] == 40
    for early, late in zip(trained_together(planted.run, LIST, resume=tmp_path / "40"), whole, strict=True):
        assert early.metrics == late.metrics
    options = [{**each, "checkpoint_every": 15} for each in LIST]
    cut = trained_together(planted.run, options, keep=tmp_path / "cut")
    resumed = trained_together(planted.run, options, resume=tmp_path / "cut" / "15")
    for early, late in zip(resumed, cut, strict=True):
        assert same_weights(early, late)
        assert early.metrics == late.metrics


def test_several_need_the_same_batches(planted: Any) -> None:
    with pytest.raises(ValueError, match=r"train: crosscoders on one stream differ \(batch: 32, not 64\); train them"):
        trained_together(planted.run, [{}, {"batch": 32}])


def test_the_data_is_read_once_for_several(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for changes in (LIST[:1], LIST):
        read, num_read = Store.read, 0

        def counted(self: Store, start: int, stop: int, read: Any = read) -> Any:
            nonlocal num_read
            num_read += 1
            return read(self, start, stop)

        with monkeypatch.context() as patched:
            patched.setattr(Store, "read", counted)
            trained_together(planted.run, changes)
        counts.append(num_read)
    assert counts[0] > 10
    assert counts[1] <= counts[0] + 4, "but for chunks that were read ahead when training ended"


def test_averaged_weights_are_the_running_mean_and_are_what_is_kept(planted: Any) -> None:
    trainer = new_trainer(planted.run, average_decay=0.8)
    mean = trainer.model.W_dec.detach().clone()
    for step, acts_BGC in enumerate(itertools.islice(trainer.stream(), 12)):
        trainer.advance(acts_BGC)
        decay = min(0.8, (step + 1) / (step + 10))
        mean = decay * mean + (1 - decay) * trainer.model.W_dec.detach()
    torch.testing.assert_close(trainer.result.W_dec, mean)
    torch.testing.assert_close(trainer.exported().W_dec * trainer.data.scale, mean)
    assert not torch.allclose(mean, trainer.model.W_dec)


def test_a_batch_in_parts_gives_the_same_step(planted: Any) -> None:
    whole, parts = (trained(planted.run, accumulate=count, steps=10) for count in (1, 4))
    for left, right in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)
    assert parts.metrics[0]["l0"] == whole.metrics[0]["l0"]


def test_the_threshold_is_the_running_mean_of_the_smallest_active_score(planted: Any) -> None:
    trainer, smallest = new_trainer(planted.run, activation="batchtopk"), []
    assert trainer.model.threshold.isnan()
    for acts_BGC in itertools.islice(trainer.stream(), 20):
        smallest.append(trainer.model.sparse_code(acts_BGC)[1].smallest)
        trainer.advance(acts_BGC)
        torch.testing.assert_close(trainer.model.threshold, torch.stack(smallest).mean())
    scaled = trainer.exported().threshold * trainer.data.scale
    torch.testing.assert_close(scaled, trainer.model.threshold)


@pytest.mark.parametrize("options", [{"blocks_per_step": 1}, {"matryoshka": "5,10"}, {"dtype": "bfloat16"}])
def test_cheaper_or_nested_steps_still_find_the_planted_features(planted: Any, options: dict[str, Any]) -> None:
    trainer = trained(planted.run, steps=200, **options)
    assert num_recovered(trainer, planted.decoder_FGC) >= 6
    assert trainer.metrics[-1]["held_out_fvu"] < 0.1


def test_clipping_can_be_turned_off(planted: Any) -> None:
    steps = {}
    for clip_norm in (0.0, 1e-9):
        trainer = new_trainer(planted.run, clip_norm=clip_norm)
        acts_BGC = next(trainer.stream())
        trainer._backward(acts_BGC)
        trainer._check_and_clip_gradient(trainer._losses(acts_BGC, trainer.dead_F, 0), acts_BGC)
        steps[clip_norm] = trainer.model.W_dec.grad.norm().item()
    assert steps[0.0] > 1
    assert steps[1e-9] < 1e-6
