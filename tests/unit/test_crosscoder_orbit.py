"""The orbit-tied crosscoder equals its equations, numbers and gradients, and obeys the law of its codes.

Letters: B samples, G group elements, C channels, P prototypes, F features.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from gc_core import groups
from gc_core.crosscoder import Arithmetic, Crosscoder, CrosscoderShape, GroupCrosscoder, OrbitCrosscoder
from gc_core.losses import JumpReLUPenalty, Target, batchtopk_losses, jumprelu_losses, l1_losses, topk_losses
from gc_core.sparse import drop_row_gradient, row_gradient
from support import plain_orbit
from support.table_groups import any_group

NAMES = ["trivial", "C3", "C4", "D1", "D3", "D4", "Q8", "A4"]
P, C, K = 6, 5, 3
EXACT = {"rtol": 1e-9, "atol": 1e-9}
either = pytest.mark.parametrize("invariant", [0, 2])
every_group = pytest.mark.parametrize("name", NAMES)


def tied(name: str, **changes: Any) -> OrbitCrosscoder:
    """Float64, six prototypes of five channels, decoder norms from a half to two."""
    options: dict[str, Any] = {"channels": C, "activation": "topk", "k": K, "tying": "orbit"} | changes
    order, invariant = (
        CrosscoderShape(group=any_group(name), dict_size=P, reads=(0,), **options).copies,
        changes.get("invariant", 0),
    )
    num_features = invariant + (P - invariant) * order
    shape = CrosscoderShape(group=any_group(name), dict_size=num_features, reads=tuple(range(order)), **options)
    model = Crosscoder.of(shape).double()
    assert isinstance(model, OrbitCrosscoder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, dtype=torch.float64, generator=generator) * 0.4)
        model.W_dec.mul_(torch.logspace(-0.3, 0.3, P)[:, None, None])
    model.keep_ties()
    return model


def by_prototype(model: OrbitCrosscoder, z_BF: Tensor) -> Tensor:
    """(B, P, G) of dense codes; that of an invariant prototype stands at the first pose."""
    order, number = model.group.order, model.shape.invariant
    z_BPG = z_BF.new_zeros(len(z_BF), P, order)
    z_BPG[:, :number, 0] = z_BF[:, :number]
    z_BPG[:, number:] = z_BF[:, number:].view(len(z_BF), P - number, order)
    return z_BPG


def samples(model: OrbitCrosscoder, count: int = 7) -> Tensor:
    shape = (count, model.group.order, C)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradients(model: OrbitCrosscoder, loss: Tensor) -> dict[str, Tensor]:
    """By parameter, dense, whether they stayed in factors or not."""
    model.zero_grad()
    for weights in model.parameters():
        drop_row_gradient(weights)
    loss.backward()
    found = {}
    for name, weights in model.named_parameters():
        rows = row_gradient(weights)
        dense = torch.zeros_like(weights) if weights.grad is None else weights.grad.clone()
        found[name] = dense if rows is None else dense + rows.dense()
    return found


def assert_same(model: OrbitCrosscoder, fast: Tensor, plain: Tensor) -> None:
    torch.testing.assert_close(fast, plain, **EXACT)
    torch.testing.assert_close(gradients(model, fast), gradients(model, plain), **EXACT)


@every_group
@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("poses", [1, 3])
@either
def test_topk_is_its_equation_in_numbers_and_gradients(name: str, by_row: bool, poses: int, invariant: int) -> None:
    model = tied(name, invariant=invariant, poses=poses).computing(Arithmetic(gradients_by_row=by_row))
    acts_BGC, none_dead = samples(model), torch.zeros(P, dtype=torch.bool)
    losses = topk_losses(model, acts_BGC, none_dead, 4)
    errors = [
        (acts_GC - plain_orbit.reconstruction(model, plain_orbit.code(model, acts_GC))).square().sum()
        for acts_GC in acts_BGC
    ]
    assert_same(model, losses.total, torch.stack(errors).mean())


@every_group
@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("aux_k", [1, 4])
@either
def test_dead_prototypes_learn_from_what_the_others_leave_over(
    name: str, by_row: bool, aux_k: int, invariant: int
) -> None:
    model = tied(name, invariant=invariant).computing(Arithmetic(gradients_by_row=by_row))
    dead = torch.tensor([False, True, False, True, True, False])
    acts_BGC = samples(model)
    losses = topk_losses(model, acts_BGC, dead, aux_k)
    errors = []
    for acts_GC in acts_BGC:
        residual = acts_GC - plain_orbit.reconstruction(model, plain_orbit.code(model, acts_GC))
        pre_PH = plain_orbit.pre_activations(model, acts_GC)
        attempts = sorted(
            ((pre_PH[p, h].item(), p, h) for p, h in plain_orbit.best(model, pre_PH) if dead[p]), reverse=True
        )[:aux_k]
        attempt = plain_orbit.decoded(model, [(p, h, pre_PH[p, h]) for _, p, h in attempts])
        errors.append(residual.square().sum() + (attempt - residual.detach()).square().sum() / 32)
    assert_same(model, losses.total, torch.stack(errors).mean())


@every_group
@either
def test_batchtopk_ranks_prototypes_over_the_batch(name: str, invariant: int) -> None:
    model = tied(name, invariant=invariant, activation="batchtopk")
    acts_BGC = samples(model)
    losses = batchtopk_losses(model, acts_BGC, torch.zeros(P, dtype=torch.bool), 4)
    pres = [plain_orbit.pre_activations(model, acts_GC) for acts_GC in acts_BGC]
    scores = sorted(
        (
            ((pre[p, h] * model.W_dec[p].norm()).item(), b, p, h)
            for b, pre in enumerate(pres)
            for p, h in plain_orbit.best(model, pre)
        ),
        reverse=True,
    )
    kept = [entry for entry in scores[: K * len(acts_BGC)] if entry[0] > 0]
    errors = [
        (
            acts_GC
            - plain_orbit.reconstruction(model, [(p, h, pres[b][p, h]) for _, sample, p, h in kept if sample == b])
        )
        .square()
        .sum()
        for b, acts_GC in enumerate(acts_BGC)
    ]
    assert float(losses.smallest_active) == pytest.approx(kept[-1][0])
    assert_same(model, losses.total, torch.stack(errors).mean())


@every_group
@pytest.mark.parametrize("norm_over", ["joint", "blocks"])
@either
def test_l1_penalises_each_prototype_at_its_best_pose(name: str, norm_over: str, invariant: int) -> None:
    model = tied(name, invariant=invariant, activation="l1")
    acts_BGC = samples(model)
    losses = l1_losses(model, acts_BGC, 0.3, norm_over)
    norm_P = model.W_dec.flatten(1).norm(dim=1) if norm_over == "joint" else model.W_dec.norm(dim=2).sum(1)
    totals = []
    for acts_GC in acts_BGC:
        pre_PH = plain_orbit.pre_activations(model, acts_GC)
        active = [(p, h, pre_PH[p, h].relu()) for p, h in plain_orbit.best(model, pre_PH)]
        error = (acts_GC - plain_orbit.reconstruction(model, active)).square().sum()
        totals.append(error + 0.3 * torch.stack([z * norm_P[p] for p, _, z in active]).sum())
    assert_same(model, losses.total, torch.stack(totals).mean())


@every_group
@either
def test_jumprelu_opens_at_a_threshold_of_each_prototype(name: str, invariant: int) -> None:
    model = tied(name, invariant=invariant, activation="jumprelu")
    acts_BGC = samples(model)
    penalty = JumpReLUPenalty(coefficient=0.7, tanh_scale=0.3, pre_coefficient=0.2, bandwidth=1e-9)
    losses = jumprelu_losses(model, acts_BGC, penalty, "joint")  # no sample is in so narrow a window
    assert model.log_threshold is not None
    threshold_P, norm_P = model.log_threshold.exp(), model.W_dec.flatten(1).norm(dim=1)
    totals = []
    for acts_GC in acts_BGC:
        pre_PH = plain_orbit.pre_activations(model, acts_GC)
        best = [(p, h, pre_PH[p, h]) for p, h in plain_orbit.best(model, pre_PH)]
        active = [(p, h, pre) for p, h, pre in best if pre > threshold_P[p]]
        cost = sum(0.7 * torch.tanh(0.3 * pre * norm_P[p]) for p, _, pre in active)
        below = sum(0.2 * (threshold_P[p] - pre).relu() * norm_P[p] for p, _, pre in best)
        totals.append((acts_GC - plain_orbit.reconstruction(model, active)).square().sum() + cost + below)
    assert_same(model, losses.total, torch.stack(totals).mean())


@every_group
@either
def test_nested_dictionaries_are_the_first_prototypes(name: str, invariant: int) -> None:
    model = tied(name, invariant=invariant)
    acts_BGC = samples(model)
    losses = topk_losses(model, acts_BGC, torch.zeros(P, dtype=torch.bool), 0, Target(prefixes=(2, P)))
    errors = []
    for acts_GC in acts_BGC:
        active = plain_orbit.code(model, acts_GC)
        for size in (2, P):
            inside = [entry for entry in active if entry[0] < size]
            errors.append((acts_GC - plain_orbit.reconstruction(model, inside)).square().sum())
    assert_same(model, losses.total, torch.stack(errors).mean())


@every_group
@pytest.mark.parametrize("poses", [1, 2])
@either
def test_codes_of_a_turned_image_are_the_codes_with_the_pose_moved(name: str, poses: int, invariant: int) -> None:
    model = tied(name, invariant=invariant, poses=poses)
    acts_BGC, order = samples(model), model.group.order
    z_BPH = by_prototype(model, model.encode(acts_BGC))
    for h in range(order):
        turned = by_prototype(model, model.encode(acts_BGC[:, model.group.cayley[:, h]]))
        moved = z_BPH[:, :, model.group.cayley[model.group.inverse[h]]]
        torch.testing.assert_close(turned[:, invariant:], moved[:, invariant:], **EXACT)
        torch.testing.assert_close(turned[:, :invariant], z_BPH[:, :invariant], **EXACT)


@every_group
@pytest.mark.parametrize("activation", ["topk", "batchtopk", "l1", "jumprelu"])
@either
def test_what_is_used_outside_training_agrees_with_itself(name: str, activation: str, invariant: int) -> None:
    model = tied(name, invariant=invariant, activation=activation)
    acts_BGC = samples(model)
    z_BF, (z_BP, recon_BGC) = model.encode(acts_BGC), model.reconstruct(acts_BGC)
    assert z_BF.shape[1] == model.shape.dict_size
    torch.testing.assert_close(by_prototype(model, z_BF).sum(2), z_BP, **EXACT)
    torch.testing.assert_close(model.decode(z_BF), recon_BGC, **EXACT)
    assert (by_prototype(model, (z_BF > 0).double()).sum(2) <= 1).all()  # one pose a prototype


@every_group
def test_a_features_decoder_is_its_prototypes_turned(name: str) -> None:
    model = tied(name)
    order = model.group.order
    features = torch.arange(P * order).flip(0)
    expected = [plain_orbit.turned(model.W_dec[int(f) // order], int(f) % order, model) for f in features]
    torch.testing.assert_close(model.decoder_of(features), torch.stack(expected))


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "l1", "jumprelu"])
@pytest.mark.parametrize("tying", ["orbit", "none"])
def test_both_kinds_say_what_is_active_by_row_value_and_pose(tying: str, activation: str) -> None:
    model = tied("D3", activation=activation)
    either = model if tying == "orbit" else model.materialised()
    acts_BGC = samples(model)
    code, z_BF = either.code(acts_BGC), either.encode(acts_BGC)
    feature_BK = code.index_BK if code.pose_BK is None else code.index_BK * 6 + code.pose_BK
    torch.testing.assert_close(torch.zeros_like(z_BF).scatter_add(1, feature_BK, code.value_BK), z_BF, **EXACT)
    decoded = [(z_F[:, None, None] * either.decoder_of(torch.arange(6 * P))).sum(0) for z_F in z_BF]
    torch.testing.assert_close(either.decode_sparse(code), torch.stack(decoded) + either.b_dec, **EXACT)


def test_untied_formulas_are_no_part_of_a_tied_crosscoder() -> None:
    untied = {"pre_activations", "encode_sparse", "decoder_rows"}
    assert untied <= set(dir(GroupCrosscoder))
    assert not untied & set(dir(OrbitCrosscoder))


def test_a_known_threshold_decides_what_is_active() -> None:
    model = tied("D3", activation="batchtopk")
    assert model.threshold is not None
    model.threshold.fill_(1.5)
    acts_BGC = samples(model)
    for acts_GC, z_P in zip(acts_BGC, model.reconstruct(acts_BGC)[0], strict=True):
        pre_PH = plain_orbit.pre_activations(model, acts_GC)
        expected = [p for p, h in plain_orbit.best(model, pre_PH) if pre_PH[p, h] * model.W_dec[p].norm() >= 1.5]
        assert z_P.nonzero()[:, 0].tolist() == expected


@every_group
def test_weights_for_raw_activations_give_the_same_codes(name: str) -> None:
    model = tied(name)
    acts_BGC = samples(model)
    code, recon = model.reconstruct(acts_BGC)
    model.fold_scale(4.0)
    folded, recon_of_raw = model.reconstruct(acts_BGC / 4)
    torch.testing.assert_close(folded, code, **EXACT)
    torch.testing.assert_close(recon_of_raw, recon / 4, **EXACT)


@every_group
@pytest.mark.parametrize("activation", ["l1", "jumprelu"])
@either
def test_materialised_features_have_the_same_pre_activations_and_decoders(
    name: str, activation: str, invariant: int
) -> None:
    model = tied(name, invariant=invariant, activation=activation)
    plain, acts_BGC = model.materialised(), samples(model)
    assert type(plain) is GroupCrosscoder
    pre_BPH = torch.stack([plain_orbit.pre_activations(model, acts_GC) for acts_GC in acts_BGC])
    found_BPH = by_prototype(model, plain.pre_activations(acts_BGC))
    torch.testing.assert_close(found_BPH[:, invariant:], pre_BPH[:, invariant:], **EXACT)
    torch.testing.assert_close(found_BPH[:, :invariant, 0], pre_BPH[:, :invariant, 0], **EXACT)
    z_BF = model.encode(acts_BGC)
    torch.testing.assert_close(plain.decode(z_BF), model.decode(z_BF), **EXACT)


def test_either_kind_comes_back_from_its_folder(tmp_path: Any) -> None:
    model = tied("D3", poses=2).float()
    model.save(str(tmp_path))
    loaded = Crosscoder.load(str(tmp_path))
    assert isinstance(loaded, OrbitCrosscoder)
    assert type(GroupCrosscoder.load(str(tmp_path))) is OrbitCrosscoder  # as notebooks had it
    assert loaded.shape == model.shape
    acts_BGC = samples(model).float()
    assert torch.equal(loaded.encode(acts_BGC), model.encode(acts_BGC))


@every_group
@pytest.mark.parametrize("activation", ["topk", "l1"])
def test_blocks_of_invariant_prototypes_learn_the_same(name: str, activation: str) -> None:
    model = tied(name, invariant=2, activation=activation)
    acts_BGC, dead = samples(model), torch.tensor([True, False] * 3)
    losses = topk_losses(model, acts_BGC, dead, 4) if activation == "topk" else l1_losses(model, acts_BGC, 0.3, "joint")
    found = gradients(model, losses.total)
    for gradient in (found["W_enc"], found["W_dec"]):
        assert (gradient[:2].abs().sum((1, 2)) > 0).any()
        torch.testing.assert_close(gradient[:2], gradient[:2, :1].expand_as(gradient[:2]), **EXACT)
        assert not torch.allclose(gradient[2:], gradient[2:, :1].expand_as(gradient[2:])) or name == "trivial"


def test_ties_of_invariant_prototypes_are_kept_and_the_others_left_alone() -> None:
    model = tied("D3", invariant=2)
    with torch.no_grad():
        model.W_dec.add_(torch.randn(model.W_dec.shape, generator=torch.Generator().manual_seed(3)))
    mean_PC, rest = model.W_dec[:2].mean(1), model.W_dec[2:].clone()
    model.keep_ties()
    torch.testing.assert_close(model.W_dec[:2].detach(), mean_PC[:, None].expand(-1, 6, -1).detach(), **EXACT)
    assert torch.equal(model.W_dec[2:], rest)


def test_features_that_are_no_whole_orbits_are_refused() -> None:
    shape = CrosscoderShape(
        group=groups.parse("D3"), channels=C, dict_size=10, reads=(0,), activation="topk", k=K, tying="orbit"
    )
    with pytest.raises(ValueError, match="dict_size: found 10, expected a multiple of 6 tied poses"):
        Crosscoder.of(shape)
