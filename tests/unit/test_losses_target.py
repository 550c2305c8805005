"""Nested dictionaries and drawn blocks, for every activation: the equations from scratch, and the mean over draws.

Letters: B samples, G group elements, C channels, F features.
"""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.losses import (
    JumpReLUPenalty,
    Losses,
    Target,
    batchtopk_losses,
    combined,
    jumprelu_losses,
    l1_losses,
    topk_losses,
)
from support.compared_losses import same, samples

F = 10
SOME_DEAD = torch.arange(F) % 3 == 1
PENALTY = JumpReLUPenalty(coefficient=0.7, tanh_scale=0.3, pre_coefficient=0.2, bandwidth=2.0)
LOSSES: dict[str, Callable[[GroupCrosscoder, Tensor, Target], Losses]] = {
    "topk": lambda model, acts, target: topk_losses(model, acts, SOME_DEAD, 2, target),
    "batchtopk": lambda model, acts, target: batchtopk_losses(model, acts, SOME_DEAD, 2, target),
    "jumprelu": lambda model, acts, target: jumprelu_losses(model, acts, PENALTY, "joint", target),
    "l1": lambda model, acts, target: l1_losses(model, acts, 0.5, "joint", target),
}
every_activation = pytest.mark.parametrize("activation", LOSSES)


def crosscoder(activation: str) -> GroupCrosscoder:
    shape = CrosscoderShape(group=groups.parse("C_4"), channels=6, dict_size=F, reads=(0,), activation=activation, k=3)
    model = GroupCrosscoder(shape).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, dtype=torch.float64, generator=generator) * 0.6)
    return model


def code_of(model: GroupCrosscoder, acts_BGC: Tensor) -> Tensor:
    """The code that training uses, dense, with gradient."""
    if model.shape.activation == "batchtopk":
        code = model.sparse_code(acts_BGC)[0]
        return acts_BGC.new_zeros(len(acts_BGC), F).scatter(1, code.index_BK, code.value_BK)
    return model.encode(acts_BGC)


def gradients(model: GroupCrosscoder, loss: Tensor) -> dict[str, Tensor]:
    named = {name: weights for name, weights in model.named_parameters() if name != "log_threshold"}
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@every_activation
@pytest.mark.parametrize("sizes", [(2, 5, 10), (1, 2, 3, 10), (9, 10)])
def test_nested_dictionaries_are_each_judged_alone(activation: str, sizes: tuple[int, ...]) -> None:
    """The nested loss minus the plain one is the mean of the prefixes' errors minus the whole's: all else is equal."""
    model, acts_BGC = crosscoder(activation), samples()

    def nested_minus_plain() -> Tensor:
        nested = LOSSES[activation](model, acts_BGC, Target(prefixes=sizes)).total
        return nested - LOSSES[activation](model, acts_BGC, Target()).total

    def plainly() -> Tensor:
        z_BF = code_of(model, acts_BGC)
        recons = [torch.einsum("bf,fgc->bgc", z_BF[:, :m], model.W_dec[:m]) + model.b_dec for m in sizes]
        errors = [(recon - acts_BGC).square().sum((1, 2)).mean() for recon in recons]
        return sum(errors) / len(errors) - errors[-1]

    same(nested_minus_plain(), plainly())
    same(gradients(model, nested_minus_plain()), gradients(model, plainly()))


@every_activation
def test_nested_dictionaries_leave_what_is_reported_of_the_whole(activation: str) -> None:
    model, acts_BGC = crosscoder(activation), samples()
    nested, plain = (LOSSES[activation](model, acts_BGC, Target(prefixes=sizes)) for sizes in ((2, 5, 10), ()))
    same(nested.squared_error_BG, plain.squared_error_BG)
    assert nested.fired_F.equal(plain.fired_F)
    assert (nested.reconstruction - plain.reconstruction).abs() > 1, "though the loss is another"


@every_activation
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(), (4, 10)], ids=["whole", "nested"])
def test_the_mean_over_all_draws_of_blocks_is_the_full_loss(
    activation: str, count: int, sizes: tuple[int, ...]
) -> None:
    model, acts_BGC = crosscoder(activation), samples()
    full = LOSSES[activation](model, acts_BGC, Target(prefixes=sizes))
    draws = [
        LOSSES[activation](model, acts_BGC, Target(prefixes=sizes, blocks=torch.tensor(drawn)))
        for drawn in itertools.combinations(range(4), count)
    ]
    for term in ("total", "reconstruction", "sparsity", "auxiliary", "squared_error_BG"):
        same(torch.stack([getattr(draw, term) for draw in draws]).mean(0), getattr(full, term))
    mean = torch.stack([draw.total for draw in draws]).mean()
    same(gradients(model, mean), gradients(model, full.total))
    assert (draws[0].total - full.total).abs() > 1e-3, "a single draw is not the full loss"


@every_activation
def test_a_draw_of_blocks_looks_at_no_other_block(activation: str) -> None:
    model, acts_BGC = crosscoder(activation), samples()
    target, changed = Target(blocks=torch.tensor([0, 2])), acts_BGC.clone()
    changed[:, [1, 3]] += 1
    same(LOSSES[activation](model, changed, target).total, LOSSES[activation](model, acts_BGC, target).total)


@pytest.mark.parametrize("activation", ["topk", "jumprelu", "l1"])
def test_equal_parts_of_a_batch_have_the_losses_of_the_whole(activation: str) -> None:
    model, acts_BGC = crosscoder(activation), samples()
    whole = LOSSES[activation](model, acts_BGC, Target())
    together = combined([LOSSES[activation](model, part, Target()) for part in acts_BGC.chunk(4)])
    for term in ("total", "reconstruction", "sparsity", "auxiliary", "squared_error_BG"):
        same(getattr(together, term), getattr(whole, term))
    assert together.fired_F.equal(whole.fired_F)
