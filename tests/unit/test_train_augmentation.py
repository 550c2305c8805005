"""Samples are seen as of images that any element of the store's group acted on: by reordering their blocks, no more.

Letters: N rows, G group elements, C channels.
"""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.io.run_folder import RunFolder
from gc_core.symmetry import translate
from gc_core.train import Trainer
from gc_core.train.augmentation import sample_elements
from gc_core.train.whereabouts import rows_of_step
from support.small_trainings import new_trainer, opened, order_of

D_4 = groups.dihedral(4)
OPTIONS = {"augment": True, "steps": 20}


@pytest.fixture
def run(make_run: Any) -> RunFolder:
    """300 rows of noise over D_4, where the order of two elements matters."""
    return make_run(np.random.default_rng(0).standard_normal((300, 8, 6)).astype(np.float32), D_4)


def met(trainer: Trainer, step: int) -> tuple[Tensor, np.ndarray]:
    """The stored samples of a step with all their blocks, scaled, and what acts on each."""
    rows = rows_of_step(order_of(trainer), lanes=range(4), rows_per_lane=16, step=step)
    stored = trainer.data.store[:][rows].astype(np.float32) * trainer.data.scale
    return torch.from_numpy(stored), sample_elements(trainer.config, D_4.order, step)


@pytest.mark.parametrize("group", ["D_4", "C_4", "D_2", "trivial"])
def test_a_sample_is_that_of_the_image_acted_on(run: RunFolder, group: str) -> None:
    trainer = new_trainer(run, group=group, **OPTIONS)
    inside = torch.from_numpy(groups.embed(groups.parse(group), D_4))
    for step, acts_BGC in enumerate(itertools.islice(trainer.stream(), 3)):
        stored_BSC, element_B = met(trainer, step)
        for acts_GC, stored_SC, element in zip(acts_BGC, stored_BSC, element_B, strict=True):
            expected_GC = translate(stored_SC[None], int(element), D_4)[0, inside]
            torch.testing.assert_close(acts_GC, expected_GC, rtol=0, atol=0)


def test_every_element_acts_as_often_on_every_place_of_the_batch(run: RunFolder) -> None:
    config, _ = opened(run, **OPTIONS)
    drawn = np.stack([sample_elements(config, D_4.order, step) for step in range(2000)])
    share = np.stack([(drawn == element).mean(0) for element in range(8)])
    np.testing.assert_allclose(share, 1 / 8, atol=6 * np.sqrt(1 / 8 * 7 / 8 / 2000))
    other, _ = opened(run, seed=1, **OPTIONS)
    assert (drawn[0] != sample_elements(other, D_4.order, 0)).any()


def test_a_stream_that_begins_late_turns_samples_as_the_whole_one_does(run: RunFolder) -> None:
    whole, late = new_trainer(run, **OPTIONS), new_trainer(run, **OPTIONS)
    late.step = 7
    expected = next(itertools.islice(whole.stream(), 7, None))
    torch.testing.assert_close(next(late.stream()), expected, rtol=0, atol=0)


def test_held_out_samples_stay_as_they_are(run: RunFolder) -> None:
    found = [new_trainer(run, augment=augment, init="transpose") for augment in (True, False)]
    turned, plain = found
    turned.model.load_state_dict(plain.model.state_dict())
    assert turned.evaluate() == plain.evaluate()


def test_a_dictionary_of_turned_samples_explains_images_that_were_turned(make_run: Any) -> None:
    """Trained on images one way up, and judged on the others: the planted vectors stand on their heads."""
    rng = np.random.default_rng(0)
    decoder_FGC = rng.standard_normal((3, 8, 16))
    code_NF = np.eye(3)[rng.integers(3, size=600)] * rng.uniform(1, 2, (600, 1))
    acts_NGC = np.einsum("nf,fgc->ngc", code_NF, decoder_FGC)
    half = np.arange(600) // 10 < 30  # the first images one way up; the others upside down, all held out
    acts_NGC[~half] = acts_NGC[~half][:, D_4.cayley[:, 2]]
    run = make_run(acts_NGC.astype(np.float32), D_4, held_out_images=range(30, 60))
    options = {"dict_size": 40, "k": 1, "steps": 300}
    found = {}
    for augment in (True, False):
        trainer = new_trainer(run, augment=augment, **options)
        for acts_BGC in itertools.islice(trainer.stream(), 300):
            trainer.advance(acts_BGC)
        found[augment] = trainer.evaluate().fvu
    assert found[True] < 0.3
    assert found[False] > 0.9
