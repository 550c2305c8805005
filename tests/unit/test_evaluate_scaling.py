"""Factors of blocks are the least-squares ones, tell a shrunk block from an absent one, and of others' codes nothing.

Letters: N samples, R features, G group elements, C channels.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import Crosscoder, CrosscoderShape
from gc_core.evaluate import latent_scaling, scaling
from gc_core.scoring import Samples
from gc_core.symmetry import translate
from support.random_crosscoders import random_decoder

GROUP, CHANNELS, FEATURES = groups.dihedral(3), 16, 6
EITHER = pytest.mark.parametrize("tying", ["none", "orbit"])


def crosscoder(tying: str, **changes: Any) -> Crosscoder:
    """Float64, random weights."""
    rows = FEATURES * (GROUP.order if tying == "orbit" else 1)
    reads = tuple(range(GROUP.order)) if tying == "orbit" else (0, 2)
    options = {"group": GROUP, "channels": CHANNELS, "dict_size": rows, "reads": reads, "activation": "topk", "k": 5}
    model = Crosscoder.of(CrosscoderShape(**options | {"tying": tying} | changes)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, dtype=torch.float64, generator=generator))
    model.keep_ties()
    return model


def random_samples(count: int = 40) -> Tensor:
    shape = (count, GROUP.order, CHANNELS)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def plain(model: Crosscoder, acts_NGC: Tensor, row: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """(G,) factors for the error and for the others, and the refitted decoder (G, C), by NumPy's least squares of one
    block at a time, in the pose of the feature."""
    code = model.code(acts_NGC)
    designs, targets, others = [], [], []
    for n, k in torch.nonzero((code.index_BK == row) & (code.value_BK > 0)).tolist():
        pose = 0 if code.pose_BK is None else int(code.pose_BK[n, k])
        own_GC = code.value_BK[n, k] * translate(model.W_dec[row : row + 1], pose, GROUP)[0]
        rest_GC = model.decode_sparse(code)[n] - model.b_dec - own_GC
        back = int(GROUP.inverse[pose])
        told = torch.stack([own_GC, acts_NGC[n] - model.b_dec - rest_GC, rest_GC])
        own_GC, left_GC, rest_GC = translate(told, back, GROUP)
        designs.append((own_GC, code.value_BK[n, k]))
        targets.append(left_GC)
        others.append(rest_GC)
    columns = [torch.stack([own[g] for own, _ in designs]).flatten()[:, None].numpy() for g in range(GROUP.order)]
    factors = [
        [np.linalg.lstsq(columns[g], torch.stack([y[g] for y in ys]).flatten().numpy())[0][0] for g in range(6)]
        for ys in (targets, others)
    ]
    value_N1 = torch.stack([value for _, value in designs])[:, None].numpy()
    refitted = [np.linalg.lstsq(value_N1, torch.stack([y[g] for y in targets]).numpy())[0][0] for g in range(6)]
    return np.array(factors[0]), np.array(factors[1]), torch.from_numpy(np.stack(refitted))


@EITHER
@pytest.mark.parametrize("activation", ["topk", "l1"])
def test_factors_are_those_of_least_squares(tying: str, activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "PAIRS_AT_ONCE", 7)
    model, acts_NGC = crosscoder(tying, activation=activation), random_samples()
    found = latent_scaling(model, [Samples(part) for part in acts_NGC.split(16)])
    with torch.no_grad():
        for row in range(FEATURES):
            error_G, others_G, refitted_GC = plain(model, acts_NGC, row)
            np.testing.assert_allclose(found.error_RG[row], error_G)
            np.testing.assert_allclose(found.others_RG[row], others_G, atol=1e-12)
            torch.testing.assert_close(found.refitted_RGC[row], refitted_GC)
    np.testing.assert_allclose(found.total_RG, found.error_RG + found.others_RG)


def test_invariant_prototypes_are_scaled_as_others() -> None:
    model, acts_NGC = crosscoder("orbit", dict_size=4 * GROUP.order + 2, invariant=2), random_samples()
    found = latent_scaling(model, [Samples(acts_NGC)])
    with torch.no_grad():
        error_G, _, _ = plain(model, acts_NGC, 1)
    np.testing.assert_allclose(found.error_RG[1], error_G)


def planted() -> tuple[Crosscoder, Tensor, Tensor]:
    """A crosscoder that reads codes exactly, whose features lie in channels of their own, with its true decoder, and
    samples of it with little noise."""
    model = crosscoder("none", activation="l1", reads=tuple(range(GROUP.order)))
    rng = torch.Generator().manual_seed(2)
    true_RGC = torch.zeros_like(model.W_dec.detach())
    for row in range(FEATURES):
        true_RGC[row, :, 2 * row : 2 * row + 2] = random_decoder(GROUP, 1, 2, seed=row)[0]
    true_RGC[0, 3] = 0  # nothing is there, in truth
    with torch.no_grad():
        model.W_dec.copy_(true_RGC)
        model.W_enc.copy_(true_RGC / true_RGC.square().sum((1, 2), keepdim=True))
        model.b_dec.fill_(0.3)
        model.b_enc.copy_(-0.3 * model.W_enc.sum((1, 2)))
    active_NR = torch.rand(300, FEATURES, generator=rng, dtype=torch.float64) < 0.4
    value_NR = active_NR * (1 + torch.rand(300, FEATURES, generator=rng, dtype=torch.float64))
    acts_NGC = torch.einsum("nr,rgc->ngc", value_NR, true_RGC) + 0.3
    noise = torch.randn(acts_NGC.shape, generator=rng, dtype=torch.float64)
    return model, acts_NGC + 0.01 * noise, true_RGC


def test_a_shrunk_block_is_told_from_an_absent_one() -> None:
    model, acts_NGC, true_RGC = planted()
    with torch.no_grad():
        model.W_dec[1, 2] *= 0.25
        model.W_dec[2, 2] = 0
        model.W_dec[0, 3, :2] = 0.1  # the dictionary says what is not there
    found = latent_scaling(model, [Samples(acts_NGC)])
    assert found.error_RG[1, 2] == pytest.approx(4, rel=0.05)
    assert found.error_RG[0, 3] == pytest.approx(0, abs=0.1)
    assert np.isnan(found.error_RG[2, 2])
    torch.testing.assert_close(found.refitted_RGC[1, 2, 2:4], true_RGC[1, 2, 2:4], atol=0.05, rtol=0)
    torch.testing.assert_close(found.refitted_RGC[2, 2, 4:6], true_RGC[2, 2, 4:6], atol=0.05, rtol=0)
    others = np.ones((FEATURES, GROUP.order), bool)
    others[[0, 1, 2], [3, 2, 2]] = False
    np.testing.assert_allclose(found.error_RG[others], 1, atol=0.05)
    np.testing.assert_allclose(found.others_RG[others], 0, atol=0.05)


def test_what_another_feature_says_too_is_told() -> None:
    model, acts_NGC, _ = planted()
    with torch.no_grad():
        for weights in (model.W_enc, model.b_enc, model.W_dec):
            weights[5] = weights[4]
        model.W_dec[4:] /= 2
    found = latent_scaling(model, [Samples(acts_NGC)])
    np.testing.assert_allclose(found.error_RG[4:], 1, atol=0.05)
    np.testing.assert_allclose(found.others_RG[4:], 1, atol=0.05)


@EITHER
def test_codes_of_other_samples_explain_nothing(tying: str) -> None:
    """The control: means are taken off, so that what is common to all samples explains nothing either."""
    model, acts_NGC, _ = planted()
    if tying == "orbit":
        model, acts_NGC = crosscoder("orbit"), random_samples(400)
    with torch.no_grad():
        model.b_dec.copy_(acts_NGC.mean((0, 1)) if tying == "orbit" else acts_NGC.mean(0))
        if tying == "none":
            model.b_enc.copy_(-(model.W_enc * model.b_dec).sum((1, 2)) + 0.3)
    right = latent_scaling(model, [Samples(acts_NGC)])
    wrong = latent_scaling(model, [Samples(acts_NGC)], dealt=torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(right.fired_R, wrong.fired_R)
    assert np.nanmedian(np.abs(wrong.total_RG)) < 0.1
    if tying == "none":
        assert np.nanmedian(right.total_RG) > 0.7


def test_the_standard_error_is_the_spread_over_samples() -> None:
    model, acts_NGC, true_RGC = planted()
    seen = []
    for seed in range(30):
        generator = torch.Generator().manual_seed(100 + seed)
        noise = torch.randn(acts_NGC.shape, generator=generator, dtype=torch.float64)
        seen.append(latent_scaling(model, [Samples(acts_NGC + 0.3 * noise)]))
    spread_RG = np.std([each.error_RG for each in seen], axis=0)
    told_RG = np.mean([each.deviation_RG for each in seen], axis=0)
    there = true_RGC.norm(dim=2).numpy() > 0.5
    assert np.median((told_RG / spread_RG)[there]) == pytest.approx(1, abs=0.15)


def test_samples_of_one_image_count_once() -> None:
    model, acts_NGC, _ = planted()
    once = latent_scaling(model, [Samples(acts_NGC, torch.arange(300))])
    twice = [Samples(acts_NGC, torch.arange(300)), Samples(acts_NGC, torch.arange(300))]
    alone = [Samples(acts_NGC), Samples(acts_NGC)]
    np.testing.assert_allclose(latent_scaling(model, twice).deviation_RG, once.deviation_RG)
    assert (latent_scaling(model, alone).deviation_RG < once.deviation_RG)[1].all()


def test_features_that_never_fire_have_no_factor() -> None:
    model = crosscoder("none")
    with torch.no_grad():
        model.b_enc[0] = -1e6
    found = latent_scaling(model, [Samples(random_samples())])
    assert found.fired_R[0] == 0
    assert np.isnan(found.error_RG[0]).all()
    assert not found.refitted_RGC[0].any()
    assert np.isfinite(found.error_RG[1:]).all()


def test_what_is_kept_does_not_lie_between_what_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch leaves one piece behind, however many parts it is computed in: with small pieces between large freed ones
    a process that keeps what it frees grew to ten gigabytes."""
    monkeypatch.setattr(scaling, "PAIRS_AT_ONCE", 3)
    model, acts_NGC = crosscoder("none"), random_samples()
    sums = scaling.ScalingSums(model.W_dec.detach(), GROUP)
    with torch.no_grad():
        for part in acts_NGC.split(20):
            code = model.code(part)
            sums.add(code, part - model.b_dec, model.decode_sparse(code) - model.b_dec)
    assert len(sums.pairs) == 2
