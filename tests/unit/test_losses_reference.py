"""JumpReLU and BatchTopK against a reference written from their equations, feature by feature, in value and gradient.

The reference shares no code with the project: Python loops over samples and features, and gradients by hand where the
equation's own derivative is not meant.

Letters: B samples, G group elements, C channels, F features.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.crosscoder.activation_functions import choose_per_batch, jump_relu
from gc_core.losses import JumpReLUPenalty, Target, batchtopk_losses, jumprelu_losses, penalty_norm
from gc_core.parallel.collectives import Peers
from support.compared_losses import gradients, same, samples

B, F, K = 8, 10, 3
NONE_DEAD = torch.zeros(F, dtype=torch.bool)
SOME_DEAD = torch.arange(F) % 3 == 1  # 1, 4, 7
PENALTY = JumpReLUPenalty(coefficient=0.7, tanh_scale=0.3, pre_coefficient=0.2, bandwidth=2.0)


def crosscoder(activation: str, reads: tuple[int, ...] = (0,)) -> GroupCrosscoder:
    shape = CrosscoderShape(group=groups.parse("C_4"), channels=6, dict_size=F, reads=reads, activation=activation, k=K)
    model = GroupCrosscoder(shape).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, dtype=torch.float64, generator=generator) * 0.6)
        model.W_dec.mul_(torch.logspace(-0.3, 0.3, F)[:, None, None])
    return model


def plain_pre(model: GroupCrosscoder, acts_GC: Tensor) -> list[Tensor]:
    read = acts_GC[list(model.shape.reads)]
    return [(model.W_enc[i] * read).sum() + model.b_enc[i] for i in range(F)]


def plain_error(model: GroupCrosscoder, acts_GC: Tensor, code: dict[int, Tensor]) -> Tensor:
    return ((acts_GC - model.b_dec - sum(z * model.W_dec[i] for i, z in code.items())) ** 2).sum()


def plain_batchtopk(model: GroupCrosscoder, acts_BGC: Tensor, dead: list[int], aux_k: int) -> Tensor:
    """Sort all scores of the batch in one list; keep the first k B of them that are positive."""
    pres = [plain_pre(model, acts_GC) for acts_GC in acts_BGC]
    norms = [model.W_dec[i].norm().item() for i in range(F)]
    scores = sorted(
        ((pres[b][i].item() * norms[i], b, i) for b in range(len(acts_BGC)) for i in range(F)), reverse=True
    )
    kept = [(b, i) for score, b, i in scores[: K * len(acts_BGC)] if score > 0]
    total = torch.zeros((), dtype=torch.float64)
    for b, acts_GC in enumerate(acts_BGC):
        code = {i: pres[b][i] for sample, i in kept if sample == b}
        total = total + plain_error(model, acts_GC, code)
        residual = (acts_GC - model.b_dec - sum(z * model.W_dec[i] for i, z in code.items())).detach()
        trying = sorted(dead, key=lambda i: -pres[b][i].item())[:aux_k]
        if trying:
            total = total + ((residual - sum(pres[b][i] * model.W_dec[i] for i in trying)) ** 2).sum() / 32
    return total / len(acts_BGC)


class PlainJump(torch.autograd.Function):
    """One number and its threshold; the derivatives are Rajamanoharan et al.'s, for a rectangle of unit area."""

    @staticmethod
    def forward(ctx, pre, theta, width):
        ctx.numbers = (float(pre), float(theta), width)
        return pre.clone() if pre > theta else torch.zeros_like(pre)

    @staticmethod
    def backward(ctx, grad):
        pre, theta, width = ctx.numbers
        kernel = 1.0 if -0.5 < (pre - theta) / width < 0.5 else 0.0
        return grad * float(pre > theta), -grad * theta / width * kernel, None


def plain_step(pre: Tensor, theta: Tensor, width: float) -> Tensor:
    """H(pre - theta), with a ramp's derivative by theta."""
    slope = -float(abs(pre.item() - theta.item()) < width / 2) / width
    return float(pre > theta) + slope * (theta - theta.detach())


def plain_jumprelu(model: GroupCrosscoder, acts_BGC: Tensor, norm_over: str) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for acts_GC in acts_BGC:
        pre, theta = plain_pre(model, acts_GC), [torch.exp(model.log_threshold[i]) for i in range(F)]
        code = {i: PlainJump.apply(pre[i], theta[i], PENALTY.bandwidth) for i in range(F)}
        total = total + plain_error(model, acts_GC, code)
        for i in range(F):
            squares = [(model.W_dec[i, g] ** 2).sum() for g in range(4)]
            norm = sum(s.sqrt() for s in squares) if norm_over == "blocks" else sum(squares).sqrt()
            cost = torch.tanh(PENALTY.tanh_scale * pre[i] * norm)
            total = total + PENALTY.coefficient * cost * plain_step(pre[i], theta[i], PENALTY.bandwidth)
            total = total + PENALTY.pre_coefficient * torch.clamp(theta[i] - pre[i], min=0) * norm
    return total / len(acts_BGC)


@pytest.mark.parametrize("reads", [(0,), (0, 1, 2, 3), (2, 1)], ids=["identity", "all", "some"])
@pytest.mark.parametrize("dead", [NONE_DEAD, SOME_DEAD], ids=["none dead", "three dead"])
@pytest.mark.parametrize("aux_k", [0, 2, 5])
def test_batchtopk_is_its_equation(reads: tuple[int, ...], dead: Tensor, aux_k: int) -> None:
    model, acts_BGC = crosscoder("batchtopk", reads), samples()
    dead_list = dead.nonzero()[:, 0].tolist()
    same(batchtopk_losses(model, acts_BGC, dead, aux_k).total, plain_batchtopk(model, acts_BGC, dead_list, aux_k))
    same(
        gradients(model, lambda: batchtopk_losses(model, acts_BGC, dead, aux_k).total),
        gradients(model, lambda: plain_batchtopk(model, acts_BGC, dead_list, aux_k)),
    )


def test_batchtopk_leaves_no_more_than_k_active_in_the_mean_and_reports_the_smallest() -> None:
    model, acts_BGC = crosscoder("batchtopk"), samples()
    losses = batchtopk_losses(model, acts_BGC, NONE_DEAD, 0)
    assert losses.fired_F.sum() == K * B
    score_BF = model.pre_activations(acts_BGC) * model.decoder_norm()
    same(losses.smallest_active, score_BF.flatten().sort(descending=True).values[K * B - 1].detach())
    model.threshold.copy_(losses.smallest_active)
    assert ((model.encode(acts_BGC) > 0).sum(0)).equal(losses.fired_F), "that threshold chooses the same features"


def test_batchtopk_drops_what_is_not_positive() -> None:
    score_BF = torch.tensor([[1.0, -2.0, 0.0], [-1.0, -3.0, 3.0]])
    choice = choose_per_batch(score_BF, 2, Peers())
    assert choice.smallest == 1.0
    assert int(choice.active_BK.sum()) == 2
    nothing = choose_per_batch(-score_BF.abs() - 1, 2, Peers())
    assert not nothing.active_BK.any()
    assert nothing.smallest.isinf()


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_batchtopk_over_workers_chooses_as_one_does(num_workers: int) -> None:
    """Each worker sees its samples and, from the others, no more than their largest scores."""
    score_BF = torch.randn(B, F, generator=torch.Generator().manual_seed(3))
    score_BF[:2] += 3  # one worker's samples take most of the places
    whole, parts = choose_per_batch(score_BF, K, Peers()), score_BF.chunk(num_workers)
    shared: list[Tensor] = []
    for _ in range(2):  # first every worker's own part, then all of them together
        told, shared_before = [], torch.cat(shared) if shared else None
        found = []
        for part in parts:

            def gather(values: Tensor, told=told, all_values=shared_before) -> Tensor:
                told.append(values)
                return values if all_values is None else all_values

            found.append(choose_per_batch(part, K, Peers(num_workers, gather)))
        shared = told
    for choice in found:
        assert choice.smallest == whole.smallest
    assert sum(int(choice.active_BK.sum()) for choice in found) == int(whole.active_BK.sum()) == K * B


@pytest.mark.parametrize("norm_over", ["blocks", "joint"])
@pytest.mark.parametrize("reads", [(0,), (0, 1, 2, 3)], ids=["identity", "all"])
def test_jumprelu_is_its_equation(reads: tuple[int, ...], norm_over: str) -> None:
    model, acts_BGC = crosscoder("jumprelu", reads), samples()
    same(jumprelu_losses(model, acts_BGC, PENALTY, norm_over).total, plain_jumprelu(model, acts_BGC, norm_over))
    mine = gradients(model, lambda: jumprelu_losses(model, acts_BGC, PENALTY, norm_over).total)
    same(mine, gradients(model, lambda: plain_jumprelu(model, acts_BGC, norm_over)))
    assert all(gradient.any() for gradient in mine.values())


def test_the_window_alone_moves_a_threshold() -> None:
    pre = torch.tensor([[0.4], [0.6], [1.4], [1.6]], dtype=torch.float64)
    for row, inside in zip(pre, [False, True, True, False], strict=True):
        theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(jump_relu(row[None], theta, 1.0).sum(), theta)
        assert gradient.item() == (-1.0 if inside else 0.0)


def test_pre_activations_far_below_their_threshold_still_get_a_gradient() -> None:
    model, acts_BGC = crosscoder("jumprelu"), samples()
    with torch.no_grad():
        model.b_enc[SOME_DEAD] -= 100
    assert not jumprelu_losses(model, acts_BGC, PENALTY, "joint").fired_F[SOME_DEAD].any()
    towards = gradients(model, lambda: jumprelu_losses(model, acts_BGC, PENALTY, "joint").total)["b_enc"]
    same(towards[SOME_DEAD], -PENALTY.pre_coefficient * penalty_norm(model.W_dec, "joint")[SOME_DEAD].detach())


LOSSES: dict[str, Callable[[GroupCrosscoder, Tensor, Target], Tensor]] = {
    "batchtopk": lambda model, acts, target: batchtopk_losses(model, acts, SOME_DEAD, 2, target).total,
    "jumprelu": lambda model, acts, target: jumprelu_losses(model, acts, PENALTY, "joint", target).total,
}


@pytest.mark.parametrize("activation", LOSSES)
def test_an_empty_code_reconstructs_with_the_bias(activation: str) -> None:
    model, acts_BGC = crosscoder(activation), samples()
    with torch.no_grad():
        model.b_enc -= 1000
    error = (acts_BGC - model.b_dec).square().sum((1, 2)).mean()
    none_dead = batchtopk_losses(model, acts_BGC, NONE_DEAD, 0) if activation == "batchtopk" else None
    found = none_dead or jumprelu_losses(model, acts_BGC, PENALTY, "joint")
    same(found.reconstruction, error.detach())
    assert not found.fired_F.any()
