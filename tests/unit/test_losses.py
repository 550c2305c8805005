"""Every loss equals its equation, written out sample by sample, in value and gradient.

Letters: B samples, G group elements, C channels, F features.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.losses import Losses, batchtopk_losses, l1_losses, penalty_norm, topk_losses
from support.compared_losses import gradients, same, samples

F = 10
NONE_DEAD = torch.zeros(F, dtype=torch.bool)
SOME_DEAD = torch.arange(F) % 3 == 1  # 1, 4, 7


def crosscoder(activation: str = "topk", reads: tuple[int, ...] = (0,)) -> GroupCrosscoder:
    shape = CrosscoderShape(group=groups.parse("C_4"), channels=6, dict_size=F, reads=reads, activation=activation, k=3)
    model = GroupCrosscoder(shape).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, dtype=torch.float64, generator=generator))
        model.b_enc[SOME_DEAD] -= 100  # these never fire
    return model


def plain_topk(model: GroupCrosscoder, acts_BGC: Tensor, dead: list[int], aux_k: int) -> tuple[Tensor, Tensor]:
    """Reconstruction and auxiliary error, one sample and one feature at a time."""
    errors, attempts = [], []
    for acts_GC in acts_BGC:
        read = acts_GC[list(model.shape.reads)]
        pre = [(model.W_enc[i] * read).sum() + model.b_enc[i] for i in range(F)]
        size = [value.item() for value in pre]
        moved = [size[i] * model.W_dec[i].norm().item() for i in range(F)]
        kept = sorted(range(F), key=lambda i: -moved[i])[: model.shape.k]
        recon = model.b_dec + sum(pre[i].clamp_min(0) * model.W_dec[i] for i in kept)
        errors.append(((acts_GC - recon) ** 2).sum())
        taking_part = sorted(dead, key=lambda i: -size[i])[:aux_k]
        if taking_part:
            attempt = sum(pre[i] * model.W_dec[i] for i in taking_part)
            attempts.append((((acts_GC - recon).detach() - attempt) ** 2).sum())
    nothing = torch.zeros((), dtype=torch.float64)
    return torch.stack(errors).mean(), torch.stack(attempts).mean() if attempts else nothing


@pytest.mark.parametrize("aux_k", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("dead", [NONE_DEAD, SOME_DEAD], ids=["none dead", "three dead"])
@pytest.mark.parametrize("reads", [(0,), (0, 1, 2, 3)], ids=["identity", "all"])
def test_topk_losses_are_their_equation(reads: tuple[int, ...], dead: Tensor, aux_k: int) -> None:
    model, acts_BGC = crosscoder(reads=reads), samples()

    def plain() -> Tensor:
        error, auxiliary = plain_topk(model, acts_BGC, dead.nonzero()[:, 0].tolist(), aux_k)
        return error + auxiliary / 32

    losses = topk_losses(model, acts_BGC, dead, aux_k)
    error, auxiliary = plain_topk(model, acts_BGC, dead.nonzero()[:, 0].tolist(), aux_k)
    same(losses.reconstruction, error.detach())
    same(losses.auxiliary, auxiliary.detach())
    same(losses.total, plain())
    same(gradients(model, lambda: topk_losses(model, acts_BGC, dead, aux_k).total), gradients(model, plain))


@pytest.mark.parametrize("losses_of", [topk_losses, batchtopk_losses])
def test_the_auxiliary_loss_reaches_encoder_and_decoder_of_dead_features_and_nothing_else(
    losses_of: Callable[..., Losses],
) -> None:
    model, acts_BGC = crosscoder(losses_of.__name__.removesuffix("_losses")), samples()
    without = gradients(model, lambda: losses_of(model, acts_BGC, NONE_DEAD, 3).total)
    with_it = gradients(model, lambda: losses_of(model, acts_BGC, SOME_DEAD, 3).total)
    for name in ("W_enc", "b_enc", "W_dec"):
        change = with_it[name] - without[name]
        assert change[SOME_DEAD].flatten(1).any(1).all() if change.ndim > 1 else change[SOME_DEAD].all()
        same(change[~SOME_DEAD], torch.zeros_like(change[~SOME_DEAD]))
        assert not without[name][SOME_DEAD].any(), "the control: without it, dead features get no gradient"
    same(with_it["b_dec"], without["b_dec"])


def plain_l1(model: GroupCrosscoder, acts_BGC: Tensor, norm_over: str) -> tuple[Tensor, Tensor]:
    errors, penalties = [], []
    for acts_GC in acts_BGC:
        z = [((model.W_enc[i] * acts_GC[[0]]).sum() + model.b_enc[i]).clamp_min(0) for i in range(F)]
        errors.append(((acts_GC - model.b_dec - sum(z[i] * model.W_dec[i] for i in range(F))) ** 2).sum())
        block_norms = [[(model.W_dec[i, g] ** 2).sum() for g in range(4)] for i in range(F)]
        costs = [sum(s.sqrt() for s in row) if norm_over == "blocks" else sum(row).sqrt() for row in block_norms]
        penalties.append(sum(z[i] * costs[i] for i in range(F)))
    return torch.stack(errors).mean(), torch.stack(penalties).mean()


@pytest.mark.parametrize("norm_over", ["blocks", "joint"])
def test_l1_losses_are_their_equation(norm_over: str) -> None:
    model, acts_BGC = crosscoder("l1"), samples()

    def plain() -> Tensor:
        error, penalty = plain_l1(model, acts_BGC, norm_over)
        return error + 0.7 * penalty

    losses = l1_losses(model, acts_BGC, 0.7, norm_over)
    error, penalty = plain_l1(model, acts_BGC, norm_over)
    same(losses.reconstruction, error.detach())
    same(losses.sparsity, 0.7 * penalty.detach())
    same(losses.total, plain())
    same(gradients(model, lambda: l1_losses(model, acts_BGC, 0.7, norm_over).total), gradients(model, plain))


@pytest.mark.parametrize("norm_over", ["joint", "blocks"])
def test_the_gradient_of_norms_is_their_derivative_and_nothing_at_zero(norm_over: str) -> None:
    W_dec = torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda W: penalty_norm(W, norm_over), W_dec)
    nothing = torch.zeros(2, 3, 4).requires_grad_()
    penalty_norm(nothing, norm_over).sum().backward()
    assert nothing.grad is not None
    assert not nothing.grad.any()


def test_the_joint_norm_favours_features_that_all_blocks_share() -> None:
    shared = torch.ones(1, 4, 6, dtype=torch.float64)
    exclusive = torch.zeros_like(shared)
    exclusive[:, 0] = 2.0  # of the same joint norm
    assert penalty_norm(shared, "joint") == pytest.approx(float(penalty_norm(exclusive, "joint")))
    assert penalty_norm(shared, "blocks") == pytest.approx(2 * float(penalty_norm(exclusive, "blocks")))


@pytest.mark.parametrize("activation", ["topk", "l1"])
def test_firing_and_errors_are_counted_as_the_code_says(activation: str) -> None:
    model, acts_BGC = crosscoder(activation), samples()
    losses = (
        topk_losses(model, acts_BGC, SOME_DEAD, 2) if activation == "topk" else l1_losses(model, acts_BGC, 1.0, "joint")
    )
    z_BF = model.encode(acts_BGC)
    torch.testing.assert_close(losses.fired_F, (z_BF > 0).sum(0))
    same(losses.squared_error_BG, (acts_BGC - model.decode(z_BF)).square().sum(2).detach())
    assert losses.fired_F.any()
    assert not losses.fired_F[SOME_DEAD].any()
    assert not losses.squared_error_BG.requires_grad
