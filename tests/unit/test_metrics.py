"""The fraction of variance unexplained is one ratio of sums, however the samples are cut.

Letters: B samples, G group elements, C channels.
"""

import pytest
import torch
from torch import Tensor

from gc_core.metrics import ImageSums, VarianceSums, or_none, squared_norm_BG


def samples(seed: int = 0, count: int = 40) -> tuple[Tensor, Tensor]:
    """Activations (B, G, C) whose blocks differ in mean and spread, and a reconstruction that misses some more."""
    generator = torch.Generator().manual_seed(seed)
    spread_G11 = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64)[:, None]
    acts = torch.randn(count, 3, 5, dtype=torch.float64, generator=generator) * spread_G11 + 4 * spread_G11
    miss_G11 = torch.tensor([0.1, 0.5, 0.3], dtype=torch.float64)[:, None]
    return acts, acts + torch.randn(acts.shape, dtype=torch.float64, generator=generator) * miss_G11


def sums_of(*parts: tuple[Tensor, Tensor]) -> VarianceSums:
    sums = VarianceSums.zeros(3, 5)
    for acts, recon in parts:
        sums.add(acts, recon)
    return sums


def test_it_is_squared_error_over_squared_deviation_from_the_mean() -> None:
    acts, recon = samples()
    error_G = (acts - recon).square().sum((0, 2))
    deviation_G = (acts - acts.mean(0)).square().sum((0, 2))
    sums = sums_of((acts, recon))
    torch.testing.assert_close(sums.fraction_unexplained_per_block(), error_G / deviation_G, rtol=1e-10, atol=0)
    assert sums.fraction_unexplained() == pytest.approx(float(error_G.sum() / deviation_G.sum()), rel=1e-10)


def test_it_is_no_mean_of_the_blocks_ratios() -> None:
    sums = sums_of(samples())
    assert sums.fraction_unexplained() != pytest.approx(float(sums.fraction_unexplained_per_block().mean()), rel=0.1)


def test_it_does_not_depend_on_how_samples_are_cut_into_batches_and_workers() -> None:
    acts, recon = samples()
    whole = sums_of((acts, recon))
    workers = [
        sums_of((acts[:1], recon[:1]), (acts[1:7], recon[1:7])),
        sums_of((acts[7:], recon[7:])),
    ]
    for total, *parts in zip(whole.tensors(), *(worker.tensors() for worker in workers), strict=True):
        torch.testing.assert_close(sum(parts), total, rtol=1e-12, atol=0)


def test_the_mean_scores_one_and_the_samples_themselves_zero() -> None:
    acts, _ = samples()
    assert sums_of((acts, acts.mean(0).expand_as(acts))).fraction_unexplained() == pytest.approx(1.0)
    assert sums_of((acts, acts)).fraction_unexplained() == 0.0


def test_float32_samples_far_from_zero_lose_nothing_that_matters() -> None:
    acts, recon = samples()
    exact = sums_of((acts, recon)).fraction_unexplained()
    assert sums_of((acts.float(), recon.float())).fraction_unexplained() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_samples_have_no_score(count: int) -> None:
    sums = sums_of(samples(count=count))
    assert sums.fraction_unexplained() is None
    assert sums.fraction_unexplained_per_block().isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_that_hardly_vary_have_no_score(dtype: torch.dtype) -> None:
    """Their variance is what rounding left: a ratio of -45,898 was met."""
    flat = torch.full((500, 3, 5), 0.3, dtype=dtype) + 1e-6 * torch.randn(500, 3, 5, dtype=dtype)
    sums = sums_of((flat, flat + 0.01))
    assert sums.fraction_unexplained() is None
    assert sums.fraction_unexplained_per_block().isnan().all()
    varied = flat + 0.01 * torch.randn(500, 3, 5, dtype=dtype)
    assert sums_of((varied, varied + 0.01)).fraction_unexplained() == pytest.approx(1, rel=0.1), "the control"


def test_a_block_that_does_not_vary_leaves_the_others_their_score() -> None:
    acts, recon = samples()
    acts[:, 1] = 2.0
    per_block = sums_of((acts, recon)).fraction_unexplained_per_block()
    assert per_block.isnan().tolist() == [False, True, False]
    assert or_none(per_block.tolist())[1] is None


def test_far_off_is_told_with_and_without_variance() -> None:
    acts, _ = samples()
    flat = torch.ones_like(acts)
    for target in (acts, flat):
        assert not sums_of((target, target)).is_far_off(10)
        assert sums_of((target, target + 100)).is_far_off(10)
        assert sums_of((target, target * torch.nan)).is_far_off(10)
        assert sums_of((target, target * torch.inf)).is_far_off(10)


def test_an_interval_over_images_covers_the_truth_about_as_often_as_it_says() -> None:
    """Samples of one image share their share of error; intervals by sample would cover far less."""
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(100):
        share_I = torch.rand(60, generator=generator)  # the true fraction is 0.5
        sums = ImageSums.zeros(60)
        image_B = torch.arange(60).repeat_interleave(20)
        sums.add(image_B, share_I[image_B], torch.ones(1200))
        low, high = sums.interval() or (0, 0)
        covered += low <= 0.5 <= high
    assert 88 <= covered <= 100


def test_one_image_has_no_interval() -> None:
    sums = ImageSums.zeros(1)
    sums.add(torch.zeros(4, dtype=torch.int64), torch.ones(4), torch.ones(4))
    assert sums.interval() is None


def test_squared_norms_are_sums_of_squares_in_value_and_gradient() -> None:
    x = samples()[0].requires_grad_()
    with torch.no_grad():
        x[0, 0] = 0.0  # where the norm itself has no gradient
    torch.testing.assert_close(squared_norm_BG(x), x.square().sum(2))
    torch.testing.assert_close(*(torch.autograd.grad(f.sum(), x)[0] for f in (squared_norm_BG(x), x.square())))
