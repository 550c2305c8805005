"""The loop that encodes and scores: sums over any batches are those of all samples at once, by plain arithmetic.

Letters: B samples, G group elements, C channels.
"""

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.scoring import Samples, Sums, encode_and_score

SHAPE = CrosscoderShape(group=groups.parse("C_3"), channels=5, dict_size=12, reads=(0, 1, 2), activation="topk", k=3)
NUM_IMAGES = 4


@pytest.fixture
def model() -> GroupCrosscoder:
    torch.manual_seed(0)
    made = GroupCrosscoder(SHAPE)
    for tensor in (made.W_enc, made.W_dec, made.b_dec):
        torch.nn.init.normal_(tensor)
    return made


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 3, 5, generator=generator), torch.randint(NUM_IMAGES, (20,), generator=generator)


@pytest.mark.parametrize("size", [1, 6, 20])
def test_sums_of_any_batches_are_those_of_plain_arithmetic(model: GroupCrosscoder, size: int) -> None:
    acts_BGC, image_B = samples()
    mean_GC = acts_BGC.mean(0)
    sums = Sums.of(model, num_images=NUM_IMAGES, mean_GC=mean_GC)
    batches = map(Samples, acts_BGC.split(size), image_B.split(size))
    codes = torch.cat([each.z_BF for each in encode_and_score(model, batches, sums)])
    z_BF, recon_BGC = model.reconstruct(acts_BGC)
    torch.testing.assert_close(codes, z_BF)
    error_BGC, deviation_BGC = (recon_BGC - acts_BGC).double(), (acts_BGC - mean_GC).double()
    assert sums.fvu() == pytest.approx(float(error_BGC.square().sum() / deviation_BGC.square().sum()), rel=1e-5)
    assert sums.by_image is not None
    for image in range(NUM_IMAGES):
        assert sums.by_image.error_I[image] == pytest.approx(
            float(error_BGC[image_B == image].square().sum()), rel=1e-5
        )
    fvu, interval = sums.fvu(), sums.interval()
    assert fvu is not None
    assert interval is not None
    assert 0 < interval[0] < fvu < interval[1]


def test_without_a_mean_nothing_is_known_of_images(model: GroupCrosscoder) -> None:
    sums = Sums.of(model)
    list(encode_and_score(model, [Samples(samples()[0])], sums))
    assert sums.by_image is None
    assert sums.interval() is None
    assert sums.fvu() is not None


def test_codes_have_no_gradient_and_leave_the_callers_alone(model: GroupCrosscoder) -> None:
    (codes,) = encode_and_score(model, [Samples(samples()[0])], Sums.of(model))
    assert not codes.z_BF.requires_grad
    assert torch.is_grad_enabled()
