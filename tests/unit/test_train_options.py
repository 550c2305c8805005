"""Averaging, accumulation, thresholds, drawn blocks and clipping do in a training what they say.

Letters: B samples, G group elements, C channels.
"""

import itertools
from typing import Any

import pytest
import torch

from gc_core.crosscoder import Arithmetic, Crosscoder
from gc_core.train import Trainer
from gc_core.train import trainer as training
from gc_core.train.row_adam import clip_gradients
from support.small_trainings import new_trainer, num_recovered, trained


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
    trainer = trained(planted.run, steps=300, **options)
    assert num_recovered(trainer, planted.decoder_FGC) >= 6
    assert trainer.metrics[-1]["held_out_fvu"] < 0.1


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"average_decay": 0.8}, {}])
def test_an_export_makes_no_crosscoder_but_the_exported(
    planted: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, made = new_trainer(planted.run, **options), []
    of = Crosscoder.of
    monkeypatch.setattr(Crosscoder, "of", lambda *shape: made.append(of(*shape)) or made[-1])
    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", lambda self, memo: pytest.fail("copied where it is"))
    assert [trainer.exported()] == made
    assert made[0].arithmetic == Arithmetic()


def size_of_gradient(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> float:
    """Of W_dec, as a step of the optimiser meets it."""
    sizes = []

    def clipped(*given: Any, **options: Any) -> torch.Tensor:
        norm = clip_gradients(*given, **options)
        sizes.append(trainer.model.W_dec.grad.norm().item())
        return norm

    monkeypatch.setattr(training, "clip_gradients", clipped)
    trainer.advance(next(trainer.stream()))
    (size,) = sizes
    return size


def test_clipping_can_be_turned_off(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {
        clip_norm: size_of_gradient(new_trainer(planted.run, clip_norm=clip_norm, activation="l1"), monkeypatch)
        for clip_norm in (0.0, 1e-9)
    }
    assert steps[0.0] > 1
    assert steps[1e-9] < 1e-6
