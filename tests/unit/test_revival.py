"""A feature that begins anew explains a part of its sample's residual, and nothing of the mean sample.

Letters: N features and a sample for each, G group elements, C channels.
"""

import pytest
import torch
from torch import Tensor

from gc_core.crosscoder import CrosscoderShape, GroupCrosscoder
from gc_core.revival import SHARE_EXPLAINED, begin_anew

ROWS, NORM = torch.tensor([7, 2]), torch.tensor(1.7, dtype=torch.float64)


def crosscoder(reads: tuple[int, ...]) -> GroupCrosscoder:
    shape = CrosscoderShape(group="D_3", channels=5, dict_size=9, reads=reads, activation="topk", k=4)
    model, generator = GroupCrosscoder(shape).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, dtype=torch.float64, generator=generator))
    return model


def samples(model: GroupCrosscoder) -> tuple[Tensor, Tensor]:
    """Two samples and what is left of them, at right angles to what is explained."""
    explained_NGC = torch.zeros(2, 6, 5, dtype=torch.float64)
    residual_NGC = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    explained_NGC[..., :2] = 3
    residual_NGC[..., :2] = 0
    return (model.b_dec + explained_NGC + residual_NGC).detach(), residual_NGC


@pytest.mark.parametrize("reads", [(0,), tuple(range(6)), (4, 1)], ids=["identity", "all", "some"])
def test_it_explains_a_part_of_its_samples_residual(reads: tuple[int, ...]) -> None:
    model = crosscoder(reads)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    acts_NGC, residual_NGC = samples(model)
    begin_anew(model, ROWS, acts_NGC, residual_NGC, NORM)
    code_N = model.pre_activations(acts_NGC)[torch.arange(2), ROWS].detach()
    torch.testing.assert_close(code_N[:, None, None] * model.W_dec.detach()[ROWS], SHARE_EXPLAINED * residual_NGC)
    torch.testing.assert_close(model.decoder_norm()[ROWS], NORM.expand(2))
    nothing_N = model.pre_activations(model.b_dec[None].detach())[0, ROWS].detach()
    torch.testing.assert_close(nothing_N, torch.zeros(2, dtype=torch.float64))
    others = [feature for feature in range(9) if feature not in ROWS.tolist()]
    for name in ("W_enc", "b_enc", "W_dec"):
        assert getattr(model, name).detach()[others].equal(before[name][others])


@pytest.mark.parametrize("spoilt", ["against", "none"])
def test_it_never_begins_as_a_giant(spoilt: str) -> None:
    """What is explained may hide the residual from the encoder, or there may be none."""
    model = crosscoder((0,))
    acts_NGC, residual_NGC = samples(model)
    if spoilt == "against":
        acts_NGC = (model.b_dec - 2 * residual_NGC).detach()
    else:
        residual_NGC = torch.zeros_like(residual_NGC)
    begin_anew(model, ROWS, acts_NGC, residual_NGC, NORM)
    largest = (
        2 * SHARE_EXPLAINED * residual_NGC.norm() / residual_NGC[:, 0].flatten(1).norm(dim=1).clamp_min(1e-9).min()
    )
    assert model.W_enc[ROWS].isfinite().all()
    assert model.W_enc[ROWS].flatten(1).norm(dim=1).max() <= largest / NORM + 1e-9
