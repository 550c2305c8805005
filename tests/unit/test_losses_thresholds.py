"""A threshold's gradient is what the objective really changes by when the threshold moves across its window.

Letters: B samples, F features, G group elements, C channels.
"""

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.crosscoder.activation_functions import step_above
from gc_core.losses import JumpReLUPenalty, jumprelu_losses

NUM_SAMPLES, BANDWIDTH = 20_000, 0.3


def crosscoder(threshold: float) -> GroupCrosscoder:
    shape = CrosscoderShape(
        group=groups.parse("C_4"), channels=6, dict_size=5, reads=(0, 1, 2, 3), activation="jumprelu", k=2
    )
    model, generator = GroupCrosscoder(shape).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in (model.W_enc, model.W_dec):
            weights.copy_(torch.randn(weights.shape, dtype=torch.float64, generator=generator) / 24**0.5)
        model.log_threshold.copy_(torch.full((5,), threshold, dtype=torch.float64).log())
    return model


def samples() -> Tensor:
    return 3 * torch.randn(NUM_SAMPLES, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def penalty(coefficient: float, tanh_scale: float) -> JumpReLUPenalty:
    return JumpReLUPenalty(coefficient=coefficient, tanh_scale=tanh_scale, pre_coefficient=0.0, bandwidth=BANDWIDTH)


@pytest.mark.parametrize("tanh_scale", [0.1, 1.0, 20.0], ids=["linear", "bent", "saturated"])
@pytest.mark.parametrize("norm_over", ["joint", "blocks"])
def test_the_penaltys_gradient_is_its_finite_difference(norm_over: str, tanh_scale: float) -> None:
    model, acts_BGC = crosscoder(2.0), samples()
    paid = penalty(2.0, tanh_scale)
    none = penalty(0.0, tanh_scale)

    def gradient(each: JumpReLUPenalty) -> Tensor:
        total = jumprelu_losses(model, acts_BGC, each, norm_over).total
        return torch.autograd.grad(total, model.log_threshold)[0] / model.log_threshold.detach().exp()

    def sparsity(feature: int, moved: float) -> float:
        other = crosscoder(2.0)
        with torch.no_grad():
            other.log_threshold[feature] = torch.tensor(2.0 + moved).log()
        return jumprelu_losses(other, acts_BGC, paid, norm_over).sparsity.item()

    found_F = gradient(paid) - gradient(none)
    for feature in range(5):
        across = sparsity(feature, BANDWIDTH / 2) - sparsity(feature, -BANDWIDTH / 2)
        assert found_F[feature].item() == pytest.approx(across / BANDWIDTH, rel=1e-6)
        assert across < 0


def test_the_whole_gradient_is_near_the_finite_difference_of_the_objective() -> None:
    """The reconstruction's part is a straight-through estimate: right in the mean over a window, as it narrows."""
    model, acts_BGC, paid = crosscoder(2.0), samples(), penalty(2.0, 20.0)

    def objective(feature: int, moved: float) -> float:
        other = crosscoder(2.0)
        with torch.no_grad():
            other.log_threshold[feature] = torch.tensor(2.0 + moved).log()
        return jumprelu_losses(other, acts_BGC, paid, "joint").total.item()

    found_F = torch.autograd.grad(jumprelu_losses(model, acts_BGC, paid, "joint").total, model.log_threshold)[0] / 2
    for feature in range(5):
        across = objective(feature, BANDWIDTH / 2) - objective(feature, -BANDWIDTH / 2)
        assert found_F[feature].item() == pytest.approx(across / BANDWIDTH, rel=0.1, abs=0.02)


def test_a_step_has_no_gradient_by_what_it_judges() -> None:
    pre_BF = torch.tensor([[0.9, 1.1, 3.0]], requires_grad=True)
    threshold_F = torch.ones(3, requires_grad=True)
    (step_above(pre_BF, threshold_F, 0.5) * torch.tensor([5.0, 7.0, 9.0])).sum().backward()
    assert pre_BF.grad is None or not pre_BF.grad.any()
    torch.testing.assert_close(threshold_F.grad, torch.tensor([-10.0, -14.0, 0.0]))
