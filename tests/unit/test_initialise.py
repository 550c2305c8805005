"""First weights stand on the data: the bias, the directions, the sizes and the thresholds.

Letters: B samples, D values of a sample.
"""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.crosscoder.initialise import FirstSamples, geometric_median, initialise

every_encoder = pytest.mark.parametrize("reads", [(0,), tuple(range(6)), (4, 1)], ids=["identity", "all", "some"])
every_activation = pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu", "l1"])
every_init = pytest.mark.parametrize("init", ["data", "transpose"])


def crosscoder(*, group: str = "D_3", **changes: Any) -> GroupCrosscoder:
    options = {"channels": 5, "dict_size": 12, "reads": (0,), "activation": "topk", "k": 4}
    return GroupCrosscoder(CrosscoderShape(group=groups.parse(group), **options | changes)).double()


def samples() -> Tensor:
    return torch.randn(40, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 3


def started(model: GroupCrosscoder, **options: Any) -> GroupCrosscoder:
    initialise(model, FirstSamples.of(samples()), torch.Generator().manual_seed(0), **options)
    return model


@every_encoder
def test_from_data_rows_lie_along_samples(reads: tuple[int, ...]) -> None:
    model, acts_BGC = started(crosscoder(reads=reads)), samples()
    torch.testing.assert_close(model.b_dec.detach(), acts_BGC.mean(0))
    torch.testing.assert_close(model.decoder_norm(), torch.ones(12, dtype=torch.float64))
    deviation = (acts_BGC - acts_BGC.mean(0)).flatten(1)
    closest = torch.cosine_similarity(model.W_dec.flatten(1)[:, None], deviation[None], dim=2).amax(1)
    assert closest.min() > 0.95


@every_encoder
@every_init
def test_the_encoder_is_the_decoders_transpose_in_one_common_size(reads: tuple[int, ...], init: str) -> None:
    model, acts_BGC = started(crosscoder(reads=reads), init=init), samples()
    own_code = model.pre_activations(acts_BGC.mean(0) + 2 * model.W_dec).diagonal().detach()
    torch.testing.assert_close(own_code, own_code[:1].expand(12))
    read = model.W_dec[:, list(reads)].flatten(1)
    torch.testing.assert_close(
        torch.cosine_similarity(model.W_enc.flatten(1), read), torch.ones(12, dtype=torch.float64)
    )


def test_random_directions_are_as_long_as_the_data_reach_along_them() -> None:
    model, acts_BGC = started(crosscoder(dict_size=200), init="transpose"), samples()
    deviation = (acts_BGC - acts_BGC.mean(0)).flatten(1)
    unit = model.W_dec.flatten(1) / model.decoder_norm()[:, None]
    reach_F = (deviation @ unit.T).square().mean(0).sqrt()
    torch.testing.assert_close(model.decoder_norm(), reach_F.detach())
    assert (unit @ unit.T - torch.eye(200)).abs().mean() < 0.3, "they point anywhere"


@every_encoder
@every_activation
@every_init
def test_the_encoder_starts_at_the_size_that_reconstructs_best(
    activation: str, reads: tuple[int, ...], init: str
) -> None:
    model, acts_BGC = started(crosscoder(activation=activation, reads=reads), init=init), samples()

    @torch.no_grad()
    def error(size: float) -> float:
        resized = deepcopy(model)
        resized.W_enc.mul_(size)
        resized.b_enc.mul_(size)
        if resized.log_threshold is not None:
            resized.log_threshold.add_(torch.tensor(size).log())
        return float((acts_BGC - resized.decode(resized.encode(acts_BGC))).square().sum())

    assert error(1.0) < min(error(0.9), error(1.1), error(0.5), error(2.0))


@every_init
def test_jumprelu_starts_with_k_active_features_a_sample(init: str) -> None:
    model = started(crosscoder(activation="jumprelu", k=3), init=init)
    active = (model.encode(samples()) > 0).sum()
    assert abs(int(active) - 3 * 40) <= 1


@pytest.mark.parametrize("bias_init", ["mean", "median", "zero"])
def test_the_bias_starts_where_it_should(bias_init: str) -> None:
    acts_BGC = samples()
    model = started(crosscoder(), bias_init=bias_init)
    expected = {
        "mean": acts_BGC.mean(0),
        "median": geometric_median(acts_BGC.flatten(1)).view(6, 5),
        "zero": torch.zeros(6, 5, dtype=torch.float64),
    }
    torch.testing.assert_close(model.b_dec.detach(), expected[bias_init])


def test_no_point_is_nearer_to_all_samples_than_the_geometric_median() -> None:
    generator = torch.Generator().manual_seed(2)
    x_BD = torch.randn(30, 3, dtype=torch.float64, generator=generator)
    x_BD[0] += 1000
    median_D = geometric_median(x_BD)

    def distance(point_D: Tensor) -> float:
        return float((x_BD - point_D).norm(dim=1).sum())

    for step in torch.eye(3, dtype=torch.float64) * 0.01:
        assert distance(median_D) < min(distance(median_D + step), distance(median_D - step))
    assert distance(median_D) < distance(x_BD.mean(0)) - 1
    assert median_D.norm() < 1, "one extreme sample hardly moves it"


def test_the_geometric_median_of_equal_samples_is_that_sample() -> None:
    torch.testing.assert_close(geometric_median(torch.ones(5, 3)), torch.ones(3))


def test_the_geometric_median_on_a_line_is_the_middle_sample() -> None:
    x_BD = torch.tensor([[0.0], [1.0], [1.5], [7.0], [9.0]], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(x_BD), torch.tensor([1.5], dtype=torch.float64), rtol=0, atol=0.05)
