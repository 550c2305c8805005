"""What a config leaves open is decided once; rates, penalties and blocks follow their course from step to step."""

import itertools
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from gc_core.train.recipe import learning_rate, penalty_coefficient, sample_blocks
from support.resolved_configs import made
from support.small_trainings import new_trainer, opened


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    config = made(steps=100, learning_rate=2.0, lr_warmup_share=0.05)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[5:81] == [2.0] * 76
    assert rates[80:] == pytest.approx([2.0 * (100 - step) / 20 for step in range(80, 100)])


def test_the_learning_rate_falls_as_asked() -> None:
    config = made(steps=100, learning_rate=2.0, lr_warmup_share=0.0, lr_decay_share=0.5)
    flat = [learning_rate(replace(config, lr_decay="none"), step) for step in range(100)]
    assert flat == [2.0] * 100
    cosine = [learning_rate(replace(config, lr_decay="cosine"), step) for step in range(100)]
    assert cosine[:51] == pytest.approx([2.0] * 51)
    assert cosine[75] == pytest.approx(1.0)
    assert cosine[99] < 0.01
    assert learning_rate(replace(config, lr_decay_share=0.0), 99) == 2.0


def test_the_l1_penalty_grows_linearly_over_the_first_share_of_the_run() -> None:
    config = made(activation="l1", l1_coefficient=5.0, l1_warmup_share=0.1, steps=100)
    grown = [penalty_coefficient(config, step) for step in range(100)]
    assert grown[:10] == pytest.approx([0.5 * (step + 1) for step in range(10)])
    assert grown[10:] == [5.0] * 90
    assert penalty_coefficient(replace(config, l1_warmup_share=0.0), 0) == 5.0


def test_the_jumprelu_penalty_grows_over_the_whole_run() -> None:
    config = made(activation="jumprelu", jumprelu_coefficient=5.0, steps=100)
    assert [penalty_coefficient(config, step) for step in range(100)] == pytest.approx(
        [0.05 * n for n in range(1, 101)]
    )


def test_blocks_are_drawn_anew_each_step_and_alike() -> None:
    config = made(blocks_per_step=2, seed=3)
    drawn = [tuple(sample_blocks(config, 4, step)) for step in range(600)]
    assert drawn == [tuple(sample_blocks(config, 4, step)) for step in range(600)]
    counts = [drawn.count(pair) for pair in itertools.combinations(range(4), 2)]
    assert sum(counts) == 600, "ascending, different"
    assert min(counts) > 60
    assert sample_blocks(replace(config, blocks_per_step=4), 4, 0) is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"encoder_reads": "0,4"}, "encoder_reads: found element 4, expected 0 to 3"),
        ({"blocks_per_step": 5}, "blocks_per_step: found 5, expected at most the group's 4 elements"),
        ({"optimiser": "lazy", "activation": "l1"}, "optimiser: found lazy with activation l1"),
        ({"optimiser": "lazy", "blocks_per_step": 3}, "found lazy with activation topk and 3 blocks_per_step of 4"),
        ({"matryoshka": "3,21"}, "matryoshka: found 21 features"),
    ],
)
def test_what_does_not_fit_the_group_or_the_size_is_refused(planted: Any, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        opened(planted.run, **changes)


@pytest.mark.parametrize(("reads", "num_reads"), [("identity", 1), ("all", 4), ("0,2", 2)])
def test_a_step_moves_pre_activations_less_for_each_block_that_is_read(
    planted: Any, reads: str, num_reads: int
) -> None:
    """Adam moves every weight by its rate, so that all blocks together would move a pre-activation E times as far."""
    trainer = new_trainer(planted.run, encoder_reads=reads, lr_warmup_share=0.0, learning_rate=1e-3)
    before = {name: weights.detach().clone() for name, weights in trainer.model.named_parameters()}
    with closing(trainer.stream()) as stream:
        trainer.advance(next(stream))
    for name, weights in trainer.model.named_parameters():
        moved = (weights.detach() - before[name]).abs().max().item()
        expected = 1e-3 / num_reads**0.5 if name == "W_enc" else 1e-3
        assert moved == pytest.approx(expected, rel=1e-3), name
    assert trainer.log()["learning_rate"] == 1e-3
