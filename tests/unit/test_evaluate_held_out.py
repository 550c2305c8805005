"""Held-out figures are the plain formulas over exactly the held-out rows, however the batches fall.

Letters: B samples, N rows, G group elements, C channels, F features.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.evaluate import (
    Classes,
    histograms,
    hoyer_sparsity,
    largest_cosines,
    measure_held_out,
    probe,
)
from gc_core.evaluate.held_out import HeldOut, summarise
from gc_core.scoring import Samples
from gc_core.store import open_store
from support.random_crosscoders import every_activation, random_crosscoder, samples
from support.small_runs import MakeRun, Planted


def planted_crosscoder(planted: Planted) -> GroupCrosscoder:
    """The features that the samples are made of, and an encoder that reads their code off all blocks."""
    shape = CrosscoderShape(
        group=groups.parse("C_4"), channels=8, dict_size=10, reads=(0, 1, 2, 3), activation="l1", k=2
    )
    model = GroupCrosscoder(shape)
    decoder_FGC = torch.from_numpy(planted.decoder_FGC)
    inverse_FGC = torch.linalg.pinv(decoder_FGC.flatten(1)).T.view(10, 4, 8)
    with torch.no_grad():
        model.W_dec.copy_(decoder_FGC)
        model.W_enc.copy_(inverse_FGC)
        model.b_dec.fill_(0.3)
        # Half precision in the store blurs codes of zero; shift them below it.
        model.b_enc.copy_(-0.3 * inverse_FGC.sum((1, 2)) - 0.05)
    return model


def summary_of(model: GroupCrosscoder, acts_BGC: Tensor, rows_at_once: int = 50) -> HeldOut:
    """Of samples of five images in turn."""
    image_B = torch.arange(len(acts_BGC)) % 5
    parts = zip(acts_BGC.split(rows_at_once), image_B.split(rows_at_once), strict=True)
    batches = [Samples(acts, image) for acts, image in parts]
    return summarise(model, batches, num_images=5, mean_GC=acts_BGC.mean(0))


def test_the_true_features_explain_nearly_all_with_two_active_a_sample(planted: Planted) -> None:
    found = measure_held_out(planted.run, planted_crosscoder(planted))
    assert (found.num_rows, found.num_images) == (20, 2)
    assert found.l0 == 2
    assert 0 < found.fvu < 0.01
    assert found.fvu_identity == found.fvu_per_block[0]
    assert found.l0_histogram.counts == [0, 0, 20]
    assert sum(found.fired) == 40


def test_only_held_out_rows_are_looked_at(planted: Planted) -> None:
    model = planted_crosscoder(planted)
    acts_BGC = torch.from_numpy(open_store(planted.run).read(0, 1000)).float()
    held_out_rows = [*range(30, 40), *range(500, 510)]
    fired_F = (model.encode(acts_BGC[held_out_rows]) > 0).sum(0)
    assert measure_held_out(planted.run, model).fired == fired_F.tolist()


@every_activation
def test_batches_do_not_change_the_figures(activation: str) -> None:
    model = random_crosscoder(activation=activation)
    acts_BGC = samples(model, 50)
    whole, parts = summary_of(model, acts_BGC), summary_of(model, acts_BGC, rows_at_once=7)
    assert parts.fired == whole.fired
    assert parts.fvu == pytest.approx(whole.fvu, rel=1e-12)
    assert parts.fvu_interval == pytest.approx(whole.fvu_interval, rel=1e-9)
    z_BF = model.encode(acts_BGC).detach()
    error = (acts_BGC - model.decode(z_BF).detach()).square()
    variance = (acts_BGC - acts_BGC.mean(0)).square()
    assert whole.fvu == pytest.approx(float(error.sum() / variance.sum()), rel=1e-9)
    assert whole.fvu_per_block == pytest.approx((error.sum((0, 2)) / variance.sum((0, 2))).tolist(), rel=1e-9)
    assert whole.l0 == pytest.approx(float((z_BF > 0).sum(1).double().mean()))
    assert whole.dead_share == pytest.approx(float((z_BF.sum(0) == 0).double().mean()))
    assert whole.dense_share == pytest.approx(float(((z_BF > 0).double().mean(0) > 0.1).double().mean()))


@every_activation
def test_histograms_count_everything_once(activation: str) -> None:
    model = random_crosscoder(activation=activation)
    found = summary_of(model, samples(model, 50))
    alive = sum(count > 0 for count in found.fired)
    assert sum(found.log10_density_histogram.counts) == alive
    assert sum(found.decoder_norm_histogram.counts) == 12
    assert sum(found.l0_histogram.counts) == 50
    for histogram in (found.log10_density_histogram, found.decoder_norm_histogram, found.l0_histogram):
        assert len(histogram.edges) == len(histogram.counts) + 1
        assert histogram.edges == sorted(histogram.edges)


@every_activation
def test_hoyer_cosines_and_probes_are_those_of_the_arrays_however_batches_fall(activation: str) -> None:
    model = random_crosscoder(activation=activation)
    acts_BGC = samples(model, 50)
    label_I, image_B = np.array([0, 1, 1, 0, -1]), torch.arange(50) % 5
    found = [
        summarise(
            model,
            (Samples(*parts) for parts in zip(acts_BGC.split(size), image_B.split(size), strict=True)),
            num_images=5,
            mean_GC=acts_BGC.mean(0),
            classes=Classes(label_I=label_I, names=["a", "b"]),
        )
        for size in (50, 7)
    ]
    assert found[0].probing == found[1].probing
    z_BF = model.encode(acts_BGC).detach()
    assert found[0].probing == probe(z_BF.float().numpy(), image_B.numpy(), label_I, ["a", "b"])
    some_BF = z_BF[(z_BF > 0).any(1)] * model.decoder_norm()
    assert found[1].hoyer == pytest.approx(float(hoyer_sparsity(some_BF).mean()))
    assert found[1].block_hoyer == pytest.approx(float(hoyer_sparsity(model.W_dec.detach().norm(dim=2)).mean()))
    assert found[1].max_decoder_cosine == pytest.approx(float(largest_cosines(model.W_dec).mean()))
    assert sum(found[1].decoder_cosine_histogram.counts) == 12


@pytest.mark.parametrize("num_active", [1, 39, 40, 41, 500])
def test_the_histogram_of_l0_keeps_few_bins_and_loses_no_sample(num_active: int) -> None:
    samples_by_l0 = np.zeros(1000, np.int64)
    samples_by_l0[[0, num_active]] += [2, 3]
    found = histograms.l0_histogram(samples_by_l0)
    assert len(found.counts) <= histograms.MAX_L0_BINS
    assert sum(found.counts) == 5
    assert found.counts[-1] == 3 or num_active < found.edges[1]
    assert found.edges[0] == 0 <= num_active < found.edges[-1]


def test_a_crosscoder_of_other_channels_is_refused(planted: Planted) -> None:
    shape = CrosscoderShape(group=groups.parse("C_4"), channels=7, dict_size=3, reads=(0,), activation="l1", k=1)
    with pytest.raises(ValueError, match="8 channels found, expected the crosscoder's 7"):
        measure_held_out(planted.run, GroupCrosscoder(shape))


def test_a_run_without_held_out_samples_is_refused(make_run: MakeRun) -> None:
    run = make_run(np.random.default_rng(0).standard_normal((10, 4, 8)).astype(np.float32), groups.cyclic(4))
    shape = CrosscoderShape(group=groups.parse("C_4"), channels=8, dict_size=3, reads=(0,), activation="l1", k=1)
    with pytest.raises(ValueError, match="0 held-out samples found, expected at least 2; harvest more images"):
        measure_held_out(run, GroupCrosscoder(shape))


def test_samples_that_do_not_vary_have_no_score_and_no_interval(make_run: MakeRun) -> None:
    run = make_run(np.full((200, 4, 8), 0.7, np.float32), groups.cyclic(4), held_out_images=(1, 2))
    shape = CrosscoderShape(group=groups.parse("C_4"), channels=8, dict_size=3, reads=(0,), activation="l1", k=1)
    found = measure_held_out(run, GroupCrosscoder(shape))
    assert (found.fvu, found.fvu_interval, found.fvu_identity) == (None, None, None)
    assert found.fvu_per_block == [None] * 4
    assert found.probing is None, "nobody knows the images' classes"
    assert json.dumps(dataclasses.asdict(found), allow_nan=False)
